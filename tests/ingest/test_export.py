"""Exported datasets: RELION reconstructs the specimen from one, everything comes back, and nothing half-done looks whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from cryobench.cli import main
from cryobench.dataset.create import create_store
from cryobench.dataset.store import finish_store, open_store, put
from cryobench.errors import InputError, StoreError
from cryobench.evaluate.fsc import fsc
from cryobench.ingest import export
from cryobench.ingest.export import RECORD, export_cryosparc, export_relion
from cryobench.ingest.options import ImportOptions
from cryobench.ingest.relion import import_relion
from cryobench.interop import cryosparc
from cryobench.interop.mrc import open_stack, read_map, write_map
from cryobench.interop.mtf import read_mtf
from cryobench.interop.particles import CTF_COLUMNS, ParticleTable
from cryobench.interop.relion import locate_stacks, read_particles
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate
from cryobench.testing.tiny import tiny_run

BOX = 64


@pytest.fixture(scope="module")
def noise_free(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,100 images of the asymmetric phantom: two shards, with shifts, astigmatism, a phase plate and a B-factor."""
    directory = tmp_path_factory.mktemp("noise free")
    settings = [
        "image.native_box=80",
        "image.native_pixel_size=2.88",
        "shift.kind=triangular",
        "shift.half_width_percent=5",
        "ctf.astigmatism=1500",
        "ctf.phase_shift_degrees=30",
        "ctf.b_factor=20",
    ]
    scenario = adapt_scenario("snr-20", box=BOX, particles=2100, snr_db=float("inf"), settings=settings)
    simulate(scenario, directory, seed=3, jobs=1)
    return directory


@pytest.fixture(scope="module")
def project(noise_free: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RELION project directory of those images, with the true poses."""
    out = tmp_path_factory.mktemp("export") / "project"
    assert export_relion(noise_free, out, with_truth=True) == out / "particles.star"
    return out


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stacks of the 192 particles of ``tiny``."""
    monkeypatch.setattr(export, "shards", lambda n: [(i, min(i + 128, n)) for i in range(0, n, 128)])


def relion(program: Callable[[str], Path], name: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [program(name), *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def stores_of(directory: Path) -> tuple[xr.Dataset, xr.Dataset]:
    return open_store(directory / "observed.zarr", "observed"), open_store(directory / "truth.zarr", "truth")


def assert_is_dataset(table: ParticleTable, directory: Path, rtol: float) -> None:
    """Every row as the stores have it, to ``rtol``."""
    observed, truth = stores_of(directory)
    for name in CTF_COLUMNS:
        assert_allclose(table.ctf[name], observed[name], rtol=rtol, atol=rtol, err_msg=name)
    assert_array_equal(table.half, observed["half"])
    assert_array_equal(
        np.unique(table.micrograph, return_inverse=True)[1], np.unique(observed["micrograph"], return_inverse=True)[1]
    )
    assert_allclose(table.pixel_size, observed.attrs["voxel_size"], rtol=rtol)
    assert_array_equal(table.box, observed.sizes["x"])
    assert table.shift is not None
    assert table.quaternion is not None
    assert_allclose(table.shift, truth["shift"], rtol=rtol, atol=10 * rtol)
    assert_allclose(np.abs((table.quaternion * truth["rotation"].values).sum(-1)), 1, atol=rtol)


def images_of(table: ParticleTable) -> np.ndarray:
    stacks = {name: open_stack(path)[0] for name, path in locate_stacks(table).items()}
    return np.stack([stacks[name][i] for name, i in zip(table.stack, table.index, strict=True)])


# -- RELION ------------------------------------------------------------------------------------------------------------


def test_relion_reconstructs_the_specimen(project: Path, noise_free: Path, program: Callable[[str], Path]) -> None:
    """FSC to the truth above 0.9 through three quarters of Nyquist (measured: above 0.99 up to Nyquist)."""
    relion(program, "relion_reconstruct", "--i", "particles.star", "--o", "map.mrc", "--ctf", cwd=project)
    truth = torch.as_tensor(stores_of(noise_free)[1]["volume"].values)
    curve = fsc(torch.as_tensor(read_map(project / "map.mrc").volume), fourier_crop_volumes(truth, BOX))
    assert curve[: BOX // 2 * 3 // 4 + 1].min() > 0.9


def test_relion_reconstructs_each_half(project: Path, program: Callable[[str], Path]) -> None:
    """``rlnRandomSubset`` is what RELION takes it for: two maps of different particles, of the same specimen."""
    for half in ("1", "2"):
        arguments = ["--i", "particles.star", "--o", f"half{half}.mrc", "--ctf", "--subset", half, "--maxres", "14"]
        relion(program, "relion_reconstruct", *arguments, cwd=project)
    a, b = (torch.as_tensor(read_map(project / f"half{half}.mrc").volume) for half in (1, 2))
    assert not torch.equal(a, b)
    assert fsc(a, b)[: BOX // 4].min() > 0.9


def test_relions_tools_read_it(project: Path, program: Callable[[str], Path]) -> None:
    stack = sorted((project / "stacks").iterdir())[0]
    images, pixel_size = open_stack(stack)
    printed = relion(program, "relion_image_handler", "--i", str(stack.relative_to(project)), "--stats", cwd=project)
    # a line for each image: "... (x,y,z,n)= 64 x 64 x 1 x 1 ; avg= 2.4 stddev= 6.1 minval= -5.6 maxval= 33.9; angpix = 3.6"
    lines = [line for line in printed.splitlines() if "minval=" in line]
    assert len(lines) == len(images) == 2048
    assert all("64 x 64 x 1 x 1" in line and line.endswith("angpix = 3.6") for line in lines)
    low = [float(line.split("minval=")[1].split()[0]) for line in lines]
    assert_allclose(low, images.min((1, 2)), rtol=1e-4)
    assert_allclose(pixel_size, 3.6)
    relion(program, "relion_star_handler", "--i", "particles.star", "--o", "again.star", cwd=project)
    ours, theirs = read_particles(project / "particles.star"), read_particles(project / "again.star")
    assert_array_equal(ours.stack, theirs.stack)
    for name in CTF_COLUMNS:
        assert_allclose(theirs.ctf[name], ours.ctf[name], atol=1e-5, err_msg=name)


def test_what_relion_projects_imports_back(
    project: Path, noise_free: Path, program: Callable[[str], Path], tmp_path: Path
) -> None:
    """RELION's own images of the specimen, at the poses and CTFs of our STAR file, are the images we exported."""
    observed, truth = stores_of(noise_free)
    volume = fourier_crop_volumes(torch.as_tensor(truth["volume"].values), BOX)
    write_map(tmp_path / "map.mrc", volume.numpy(), 3.6)
    some = (project / "particles.star").read_text().splitlines()
    end = next(i for i, line in enumerate(some) if line.startswith("000040@"))
    (tmp_path / "few.star").write_text("\n".join(some[: end + 1]) + "\n")
    arguments = ["--i", "map.mrc", "--o", "theirs", "--ang", "few.star", "--ctf", "--angpix", "3.6"]
    relion(program, "relion_project", *arguments, cwd=tmp_path)
    store = import_relion(tmp_path / "theirs.star", tmp_path / "imported", ImportOptions(noise_patches=2))
    theirs = open_store(store, "observed")
    assert theirs.sizes["particle"] == 40
    assert_allclose(theirs["defocus_u"], observed["defocus_u"][:40], atol=1e-5)
    assert_allclose(theirs["given_shift"], truth["shift"][:40], atol=1e-5)
    for a, b in zip(theirs["images"].values, observed["images"].values, strict=False):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.995


# -- round trips -------------------------------------------------------------------------------------------------------


def test_relion_star_holds_every_row(project: Path, noise_free: Path) -> None:
    table = read_particles(project / "particles.star")
    assert_is_dataset(table, noise_free, 1e-9)
    assert_array_equal(images_of(table), stores_of(noise_free)[0]["images"])
    assert sorted(p.name for p in (project / "stacks").iterdir()) == ["particles_000001.mrcs", "particles_000002.mrcs"]


def test_cryosparc_file_holds_every_row(tiny: Path, tmp_path: Path, small_shards: None) -> None:
    table = cryosparc.read_particles(export_cryosparc(tiny, tmp_path / "out", with_truth=True))
    assert_is_dataset(table, tiny, 1e-6)
    assert table.notes == ()
    assert_array_equal(images_of(table), stores_of(tiny)[0]["images"])


def test_export_and_import_give_the_dataset_back(tiny: Path, tmp_path: Path, small_shards: None) -> None:
    star = export_relion(tiny, tmp_path / "with space" / ".." / "out", with_truth=True)
    back = open_store(import_relion(star, tmp_path / "back", ImportOptions(noise_patches=2, symmetry="D2")), "observed")
    observed, truth = stores_of(tiny)
    assert_array_equal(back["images"], observed["images"])
    assert_array_equal(back["half"], observed["half"])
    assert_allclose(back["given_shift"], truth["shift"], atol=1e-8)
    again = read_particles(export_relion(tmp_path / "back", tmp_path / "again"))
    assert_is_dataset(again, tiny, 1e-8)  # the poses that were given are exported


def test_poses_stay_hidden_unless_asked_for(tiny: Path, tmp_path: Path) -> None:
    table = read_particles(export_relion(tiny, tmp_path / "relion"))
    assert table.quaternion is None
    assert table.shift is None
    assert "rlnAngle" not in (tmp_path / "relion" / "particles.star").read_text()
    assert cryosparc.read_particles(export_cryosparc(tiny, tmp_path / "cryosparc")).quaternion is None


def test_half_precision(tiny: Path, tmp_path: Path) -> None:
    table = read_particles(export_relion(tiny, tmp_path / "out", dtype="float16"))
    images = images_of(table)
    assert images.dtype == np.float16
    exact = stores_of(tiny)[0]["images"].values
    assert np.linalg.norm(images.astype(np.float64) - exact) < 3e-4 * np.linalg.norm(exact)


def test_a_detector_goes_into_the_optics_table(tmp_path: Path) -> None:
    frequencies, values = [0.0, 0.05, 0.2], [1.0, 0.9, 0.3]
    store = written_store(
        tmp_path / "observed.zarr", np.ones((4, 8, 8)), detector={"frequencies": frequencies, "values": values}
    )
    star = export_relion(store, tmp_path / "out")
    assert "_rlnMtfFileName" in star.read_text()
    cycles, mtf = read_mtf(tmp_path / "out" / "mtf.star")
    assert (len(cycles), cycles[-1]) == (1001, 0.5)
    assert_allclose(mtf, np.interp(cycles / 2.0, frequencies, values), atol=1e-9)


def test_names_of_micrographs_are_kept(tmp_path: Path) -> None:
    for number, (names, expected) in enumerate(
        [
            (["b.mrc", "a 1.mrc"], ["b.mrc", "b.mrc", "a_1.mrc", "a_1.mrc"]),
            (
                ["a 1.mrc", "a_1.mrc"],
                ["000000.mrc", "000000.mrc", "000001.mrc", "000001.mrc"],
            ),  # which would be one name
        ]
    ):
        directory = tmp_path / str(number)
        store = written_store(directory / "observed.zarr", np.ones((4, 8, 8)), micrograph_names=names)
        table = read_particles(export_relion(store, directory / "out"))
        assert table.micrograph.tolist() == [f"micrographs/{name}" for name in expected]


def written_store(path: Path, images: np.ndarray, **attributes: object) -> Path:
    """A store of images at 2 Å with one CTF and no poses."""
    n, box = images.shape[:2]
    shapes = {"images": images.shape, "noise_patches": (2, box, box), "noise_power": (2, box // 2 + 1)}
    shapes |= dict.fromkeys((*CTF_COLUMNS, "micrograph", "half"), (n,)) | dict.fromkeys(
        ("patch_half", "patch_micrograph"), (2,)
    )
    stated = {
        "voxel_size": 2.0,
        "symmetry": "C1",
        "assumed_pose": {"kind": "uniform"},
        "assumed_shift": {"kind": "none"},
    }
    group = create_store(
        path, "observed", shapes, {**stated, "contrast": "protein bright", "noise_note": "", **attributes}
    )
    put(group, "images", images.astype(np.float32))
    put(group, "half", 1 + np.arange(n) % 2)
    put(group, "micrograph", np.arange(n) // 2)
    for name, value in zip(CTF_COLUMNS, (1e4, 1e4, 0, 300, 2.7, 0.1, 0, 0), strict=True):
        put(group, name, np.full(n, value))
    finish_store(group)
    return path


def test_images_that_half_precision_cannot_hold(tmp_path: Path) -> None:
    for name, scale in (("large", 1e6), ("small", 1e-7)):
        images = scale * np.random.default_rng(0).standard_normal((4, 8, 8))
        store = written_store(tmp_path / name / "observed.zarr", images)
        with pytest.raises(
            InputError, match=r"expected images that float16 can hold for particles_000001\.mrcs.*choose float32"
        ):
            export_relion(store, tmp_path / f"{name} out", dtype="float16")
        assert not list((tmp_path / f"{name} out" / "stacks").iterdir())


# -- killed, repeated, refused -----------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from cryobench.ingest import export
export.shards = lambda n: [(i, min(i + 128, n)) for i in range(0, n, 128)]
def die(stage, done, total):
    if done > 128:
        os.kill(os.getpid(), signal.SIGKILL)
export.export_relion(sys.argv[1], sys.argv[2], on_progress=die)
"""


def test_a_killed_export_looks_unfinished_and_is_completed(tiny: Path, tmp_path: Path, small_shards: None) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny), str(out)], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = sorted(p.name for p in (out / "stacks").iterdir())
    assert left[-1] == "particles_000001.mrcs"
    assert not (out / "particles.star").exists()
    assert [name for name in left if name.startswith(".") and name.endswith(".partial")]
    before = (out / "stacks" / "particles_000001.mrcs").stat().st_mtime_ns
    export_relion(tiny, out)
    assert (out / "stacks" / "particles_000001.mrcs").stat().st_mtime_ns == before
    clean = export_relion(tiny, tmp_path / "clean").parent
    assert contents(out) == contents(clean)


def test_an_export_killed_at_its_very_start_is_taken_up(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / f".{RECORD}.abc.partial").write_text("{")
    export_relion(tiny, out)
    assert sorted(p.name for p in out.iterdir()) == [RECORD, "particles.star", "stacks"]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_a_damaged_export_is_mended_by_the_same_call(tiny: Path, tmp_path: Path, small_shards: None) -> None:
    out = export_relion(tiny, tmp_path / "out").parent
    whole = contents(out)
    (out / "stacks" / "particles_000001.mrcs").unlink()
    os.truncate(out / "stacks" / "particles_000002.mrcs", 5000)
    export_relion(tiny, tmp_path / "out")
    assert contents(out) == whole


def test_other_directories_are_left_alone(tiny: Path, tmp_path: Path) -> None:
    out = export_relion(tiny, tmp_path / "out").parent
    for again in (
        lambda: export_relion(tiny, out, dtype="float16"),
        lambda: export_relion(tiny, out, with_truth=True),
        lambda: export_cryosparc(tiny, out),
    ):
        with pytest.raises(StoreError, match="holds another export"):
            again()
    (out / RECORD).write_text("{")
    with pytest.raises(StoreError, match="holds another export"):
        export_relion(tiny, out)
    with pytest.raises(StoreError, match="expected an empty directory"):
        export_relion(tiny, tiny)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make"):
        export_relion(tiny, tmp_path / "file" / "out")


def test_the_truth_of_another_dataset_is_refused(tiny: Path, tmp_path: Path) -> None:
    other = tiny_run(tmp_path / "other", seed=1)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "observed.zarr").symlink_to(tiny / "observed.zarr")
    (mixed / "truth.zarr").symlink_to(other / "truth.zarr")
    with pytest.raises(StoreError, match="found that of another dataset"):
        export_relion(mixed, tmp_path / "out", with_truth=True)
    with pytest.raises(StoreError, match="expected a zarr store"):
        export_relion(tmp_path / "nothing", tmp_path / "out")


def test_a_damaged_store_is_not_exported(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "run")
    shard = tmp_path / "run" / "observed.zarr" / "images" / "c" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        export_relion(tmp_path / "run", tmp_path / "out")
    shard.unlink()
    with pytest.raises(StoreError, match="lacks the images from 0 on"):
        export_relion(tmp_path / "run", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == [RECORD, "stacks"]


FULL = """
import resource, sys
from cryobench.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as a full disc: writing fails beyond it
main(["export", "relion", sys.argv[1], "--out", sys.argv[2]])
"""


def test_a_full_disc_is_said_and_leaves_nothing_that_looks_whole(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tiny), str(out)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"error: could not write {out}/stacks/particles_000001.mrcs" in done.stderr
    assert sorted(p.name for p in out.rglob("*")) == [RECORD, "stacks"]


def test_nothing_loads_a_stack_whole(noise_free: Path, tmp_path: Path) -> None:
    """Memory stays at a few blocks of 128 images, where the first stack has 2,048."""
    tracemalloc.start()
    export_relion(noise_free, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 128 * BOX**2 * 4


def test_command_line(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["export", "relion", str(tiny), "--out", str(tmp_path / "a"), "--with-truth", "--dtype", "float16"])
    assert caught.value.code == 0
    assert read_particles(tmp_path / "a" / "particles.star").quaternion is not None
    with pytest.raises(SystemExit) as caught:
        main(["export", "cryosparc", str(tiny), "--out", str(tmp_path / "b")])
    assert caught.value.code == 0
    assert len(cryosparc.read_particles(tmp_path / "b" / "particles.cs")) == 192
    with pytest.raises(SystemExit) as caught:
        main(["export", "relion", str(tiny), "--out", str(tmp_path / "c"), "--dtype", "int8"])
    assert caught.value.code == 2
    assert "expected --dtype float32 or float16, got 'int8'" in capsys.readouterr().err
