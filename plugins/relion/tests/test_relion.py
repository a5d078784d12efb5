"""The plugin keeps the contract, and with RELION it finds poses and map of a small phantom."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from cryobench_relion.plan import fit_schedule, schedule, search_range
from cryobench_relion.program import RelionRefine
from cryobench_relion.project import STACK, STAR, write_project
from cryobench_relion.results import Poses, fit_scale, read_density, read_poses

from cryobench.dataset.store import open_predicted, open_store
from cryobench.dataset.view import Observed
from cryobench.errors import Declined, PluginError
from cryobench.evaluate.align import align, apply
from cryobench.evaluate.fsc import fsc, resolution
from cryobench.evaluate.poses import measure_poses
from cryobench.interop.mrc import open_stack
from cryobench.interop.relion import read_particles, write_particles
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.reconstruct.run import reconstruct
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate
from cryobench.testing.conformance import ReconstructorTests
from cryobench.testing.tiny import tiny_run

needs_relion = pytest.mark.skipif(shutil.which("relion_refine") is None, reason="the program relion_refine is missing")


class TestContract(ReconstructorTests):
    method = "relion"
    params = {"iterations": 3, "first_subset": 10, "last_subset": 10}  # noqa: RUF012
    # RELION's own continuation rounds what it keeps: a half that was stopped begins anew
    checkpoints = False


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("tiny"))


def observed_half(directory: Path, half: int = 1) -> Observed:
    return Observed(open_store(directory / "observed.zarr", "observed"), half)


# --- what is handed to RELION -----------------------------------------------------------------------------------------


def test_the_project_holds_images_and_ctfs_and_no_poses(tiny: Path, tmp_path: Path) -> None:
    observed = observed_half(tiny)
    scale = write_project(tmp_path, observed)
    stack, pixel_size = open_stack(tmp_path / STACK)
    assert pixel_size == pytest.approx(observed.voxel_size, rel=1e-6)
    images = observed.read(slice(None)).images.numpy()
    given = np.array(stack) * scale
    offsets = (images - given).mean((1, 2))
    np.testing.assert_allclose(given, images - offsets[:, None, None], atol=1e-5 * np.abs(images).max())
    table = read_particles(tmp_path / STAR)
    assert table.quaternion is None
    assert table.shift is None
    np.testing.assert_allclose(table.ctf["defocus_u"], observed.ctf.defocus_u, rtol=1e-6)


def test_the_background_has_mean_zero_and_deviation_one(tmp_path: Path) -> None:
    observed = observed_half(tiny_run(tmp_path / "noisy", snr_db=-30.0))
    write_project(tmp_path, observed)
    stack, _ = open_stack(tmp_path / STACK)
    axis = np.arange(observed.box) - observed.box // 2
    outside = np.array(stack)[:, axis[:, None] ** 2 + axis**2 > (observed.box // 2) ** 2]
    assert np.abs(outside.mean(-1)).max() < 1e-5
    assert outside.std() == pytest.approx(1, abs=0.1)  # from 32 patches


def test_images_without_noise_are_divided_by_their_own_deviation(tmp_path: Path) -> None:
    observed = observed_half(tiny_run(tmp_path / "clean", snr_db=math.inf))
    write_project(tmp_path, observed)
    stack, _ = open_stack(tmp_path / STACK)
    assert 0.5 < np.array(stack).std() < 2


# --- how much a budget allows -----------------------------------------------------------------------------------------


def test_a_budget_that_is_long_enough_changes_nothing() -> None:
    full = schedule(300, 100, 500, 10_000)
    assert full.iterations == 300
    assert fit_schedule(full, seconds=full.images * 0.01 * 1.01, seconds_per_image=0.01, particles=10_000) == full


@pytest.mark.parametrize("seconds", [30.0, 200.0, 600.0])
def test_a_shorter_budget_is_used_and_kept(seconds: float) -> None:
    full = schedule(300, 100, 500, 10_000)
    plan = fit_schedule(full, seconds, 0.01, 10_000)
    assert 0.8 * seconds < 0.01 * plan.images < 1.05 * seconds
    assert plan.iterations < full.iterations


def test_subsets_are_no_larger_than_the_half_set() -> None:
    plan = schedule(60, 100, 500, 80)
    assert (plan.first_subset, plan.last_subset) == (80, 80)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ({"kind": "none"}, (0, 1)),
        ({"kind": "triangular", "half_width": 6.0}, (3, 1)),
        ({"kind": "gaussian", "sigma": 4.0}, (6, 2)),
    ],
)
def test_shifts_are_searched_as_far_as_the_prior_reaches(
    prior: dict[str, float | str], expected: tuple[int, int]
) -> None:
    assert search_range(prior, pixel_size=2.0) == expected


# --- what comes back --------------------------------------------------------------------------------------------------


def test_poses_come_back_in_the_order_of_the_images(tiny: Path, tmp_path: Path) -> None:
    write_project(tmp_path, observed_half(tiny))
    table = read_particles(tmp_path / STAR)
    generator = np.random.default_rng(0)
    quaternions = generator.normal(size=(len(table), 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    shifts, order = generator.normal(size=(len(table), 2)), generator.permutation(len(table))
    ctf = {name: column[order] for name, column in table.ctf.items()}
    columns = (table.stack[order], table.index[order], ctf, table.pixel_size, table.box, table.micrograph)
    write_particles(
        tmp_path / "data.star", type(table)(table.source, *columns, quaternion=quaternions[order], shift=shifts[order])
    )
    poses = read_poses(tmp_path / "data.star", len(table))
    assert poses is not None
    expected = quaternion_to_matrix(torch.as_tensor(quaternions)).float()
    torch.testing.assert_close(poses.rotations, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(poses.shifts, torch.as_tensor(shifts).float(), rtol=0, atol=1e-5)
    with pytest.raises(PluginError, match="all 97 images"):
        read_poses(tmp_path / "data.star", len(table) + 1)


def test_the_scale_is_that_of_the_images(tmp_path: Path) -> None:
    directory = tiny_run(tmp_path, snr_db=0.0)
    observed, truth = observed_half(directory), open_store(directory / "truth.zarr", "truth")
    rows = open_store(directory / "observed.zarr", "observed")["half"].values == 1
    poses = Poses(
        quaternion_to_matrix(torch.as_tensor(truth["rotation"].values[rows])).float(),
        torch.as_tensor(truth["shift"].values[rows]).float(),
    )
    density = fourier_crop_volumes(torch.as_tensor(truth["volume"].values), observed.box)
    scale, examples = fit_scale(density / 7, observed, poses, 3)
    assert scale == pytest.approx(7, rel=0.05)
    assert examples.shape == (3, 16, 16)


# --- with RELION ------------------------------------------------------------------------------------------------------


def test_declines_where_the_program_is_missing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Declined, match="relion_refine"):
        reconstruct(tiny, "relion")


def test_declines_another_version(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "relion_refine"
    other.write_text("#!/bin/sh\necho RELION version: 4.0.1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(Declined, match=r"expected RELION 3\.1.*4\.0\.1"):
        reconstruct(tiny, "relion", workers=1)


@needs_relion
def test_declines_an_odd_box(tmp_path: Path) -> None:
    with pytest.raises(Declined, match="even number"):
        reconstruct(tiny_run(tmp_path, box=23), "relion", workers=1)


@needs_relion
def test_an_error_carries_the_last_words_of_the_program(tmp_path: Path) -> None:
    with (
        pytest.raises(PluginError, match=r"exit code 1.*missing\.star"),
        RelionRefine(tmp_path, "run", ["--i", "missing.star"]) as program,
    ):
        list(program.follow(lambda: math.inf))


def running(command: str) -> list[str]:
    """Processes whose command line begins so."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.startswith(command)]


@needs_relion
def test_nothing_runs_on_when_the_block_is_left(tiny: Path, tmp_path: Path) -> None:
    write_project(tmp_path, observed_half(tiny))
    arguments = ["--i", STAR, "--sgd", "--denovo_3dref", "--ctf", "--ini_high", "60"]
    with RelionRefine(tmp_path, "run", [*arguments, "--sgd_ini_subset", "90"]) as program:
        assert next(program.follow(lambda: math.inf)) == 0
    time.sleep(0.1)
    assert not running("relion_refine --o run/run")
    # the map of randomly turned images was read from whole files
    assert read_density(program.file(0, "class001.mrc"), 1.0, 1.0).shape == (16, 16, 16)


HOLDER = """
import math, sys, time
from pathlib import Path
from cryobench_relion.program import RelionRefine

with RelionRefine(Path(sys.argv[1]), "orphan", sys.argv[2:]) as program:
    next(program.follow(lambda: math.inf))
    print("running", flush=True)
    time.sleep(60)
"""


@needs_relion
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell of a parent's death")
def test_nothing_runs_on_when_the_half_is_killed(tiny: Path, tmp_path: Path) -> None:
    write_project(tmp_path, observed_half(tiny))
    arguments = ["--i", STAR, "--sgd", "--denovo_3dref", "--ctf", "--ini_high", "60", "--sgd_ini_subset", "90"]
    command = [sys.executable, "-c", HOLDER, str(tmp_path), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "running\n"
        assert running("relion_refine --o orphan/run")
        holder.kill()
    deadline = time.monotonic() + 10
    while running("relion_refine --o orphan/run"):
        assert time.monotonic() < deadline, "RELION outlived the process that started it"
        time.sleep(0.05)


@needs_relion
@pytest.mark.slow
def test_finds_map_and_poses_of_a_phantom(tmp_path: Path) -> None:
    simulate(adapt_scenario("snr-20", particles=600, snr_db=5.0, box=32), tmp_path, seed=0, jobs=1)
    reconstruct(
        tmp_path,
        "relion",
        {"iterations": 40, "first_subset": 30, "last_subset": 80, "refine": True, "passes": 4},
        workers=1,
    )
    observed, truth = (open_store(tmp_path / f"{name}.zarr", name) for name in ("observed", "truth"))
    voxel_size = float(observed.attrs["voxel_size"])
    density = fourier_crop_volumes(torch.as_tensor(truth["volume"].values).double(), 32)
    _, halves = open_predicted(tmp_path / "predicted.zarr")
    for half, found in halves.items():
        volume = torch.as_tensor(found["volume"].values).double()
        alignment = align(volume, density, voxel_size, "D2")
        aligned = apply(alignment, volume)
        reached = resolution(fsc(aligned, density), 0.5, 32, voxel_size).value
        assert reached is not None
        assert reached < 20  # the best ellipsoid of such a particle reaches about 50 Å
        assert float(fsc(aligned, density)[13:16].min()) > 0.3  # maps inserted without padding fall to 0 there
        rows = observed["half"].values == half
        true = quaternion_to_matrix(torch.as_tensor(truth["rotation"].values[rows]).double()).numpy()
        estimated = quaternion_to_matrix(torch.as_tensor(found["rotation"].values).double()).numpy()
        errors = measure_poses(
            alignment,
            (estimated, found["shift"].values.astype(np.float64)),
            (true, truth["shift"].values[rows].astype(np.float64)),
            "D2",
        )
        assert np.rad2deg(np.median(errors.angles)) < 8  # 7.5 degrees lie between the poses that are tried
        assert errors.shifts is not None
        assert np.median(errors.shifts) < voxel_size / 2
        centred = density - density.mean()
        assert float((aligned * centred).sum() / centred.square().sum()) == pytest.approx(1, abs=0.15)
        assert found.sizes["snapshot"] >= 8
