from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
import zarr
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryobench.dataset.create import create_store
from cryobench.dataset.store import digest, finish_store, open_store
from cryobench.errors import InputError, StoreError
from cryobench.evaluate.fsc import fsc
from cryobench.evaluate.options import Options
from cryobench.evaluate.run import evaluate, evaluate_stores
from cryobench.interop.mrc import write_map
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.physics.grids import radius, soft_sphere
from cryobench.physics.symmetry import rotate_volume

NATIVE_BOX, NATIVE_VOXEL, BOX, VOXEL = 30, 2.0, 20, 3.0
QUICK = Options(bootstrap_draws=20, yardsticks=False)
QUARTER = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
Build = Callable[..., Path]


def specimen() -> Tensor:
    draws = torch.randn(NATIVE_BOX, NATIVE_BOX, NATIVE_BOX, generator=torch.Generator().manual_seed(0))
    smooth = torch.fft.ifftshift(torch.exp(-((radius(NATIVE_BOX, 3, draws) / 6) ** 2)))
    smoothed = torch.fft.ifftn(torch.fft.fftn(draws) * smooth).real
    return smoothed / smoothed.std() * soft_sphere(NATIVE_BOX, 9.0, 3.0, draws)


def put(group: zarr.Group, name: str, values: Any, dims: tuple[str, ...]) -> None:
    array = np.asarray(values)
    group.create_array(name, shape=array.shape, dtype=array.dtype, dimension_names=dims)[...] = array


SHIFTS = np.random.default_rng(8).normal(size=(6, 2)) * 4


def true_rotations() -> Rotation:
    return Rotation.random(6, rng=np.random.default_rng(9))


def write_truth(directory: Path) -> str:
    shapes = {"volume": (NATIVE_BOX,) * 3, "rotation": (6, 4), "shift": (6, 2)}
    attributes = {
        "voxel_size": NATIVE_VOXEL,
        "noise_scale": 1.0,
        "clean_signal_variance": 1.0,
        "scenario": {"name": "made-up"},
        "specimen": "blob",
        "seed": 3,
        "salt": "salt",
        "snr_db": -20.0,
        "working_snr_db": -15.12345678,
    }
    group = create_store(directory / "truth.zarr", "truth", shapes, attributes)
    group["volume"][...] = specimen().numpy()  # type: ignore[index]
    group["rotation"][...] = true_rotations().as_quat()  # type: ignore[index]
    group["shift"][...] = SHIFTS  # type: ignore[index]
    finish_store(group)
    return digest(open_store(directory / "truth.zarr", "truth"), salt="salt")


def write_observed(directory: Path, truth_digest: str | None) -> str:
    shapes: dict[str, tuple[int, ...]] = {
        "images": (6, BOX, BOX),
        **dict.fromkeys(ContrastTransfer.names(), (6,)),
        "micrograph": (6,),
        "half": (6,),
        "noise_patches": (2, BOX, BOX),
        "patch_half": (2,),
        "patch_micrograph": (2,),
        "noise_power": (2, BOX // 2 + 1),
    }
    attributes = {
        "voxel_size": VOXEL,
        "symmetry": "C1",
        "assumed_pose": {},
        "assumed_shift": {},
        "contrast": "protein bright",
        "noise_note": "white noise",
    } | ({"truth_digest": truth_digest} if truth_digest else {})
    group = create_store(directory / "observed.zarr", "observed", shapes, attributes)
    group["half"][...] = np.array([1, 1, 1, 1, 2, 2])  # type: ignore[index]
    finish_store(group)
    return digest(open_store(directory / "observed.zarr", "observed"))


def write_predicted(
    directory: Path, observed_digest: str, volumes: dict[int, NDArray[np.float32]], store: str = "predicted.zarr"
) -> None:
    root = zarr.open_group(directory / store, mode="w", zarr_format=3)
    for half, volume in volumes.items():
        group = root.create_group(f"half{half}")
        put(group, "volume", volume, ("z", "y", "x"))
        put(group, "snapshots", np.stack([np.zeros_like(volume), volume][: 3 - half + 1]), ("snapshot", "z", "y", "x"))
        put(group, "snapshot_seconds", [0.0, 10.0 / 3 * half], ("snapshot",))
        put(group, "snapshot_images_seen", [0, 100 * half], ("snapshot",))
        cost = {"wall_seconds": 10.0 / 3, "cpu_seconds": 5.0, "gpu_seconds": None, "peak_memory_bytes": 7, "steps": 100}
        group.attrs.update({**cost, "notes": [], "complete": True})
    root.attrs.update(
        {
            "cryobench_store": "predicted",
            "complete": True,
            "method": "guess",
            "params": {"rate": 0.123456789},
            "device": "cpu",
            "seed": 5,
            "oracle_poses": False,
            "voxel_size": VOXEL,
            "symmetry": "C1",
            "observed_digest": observed_digest,
            "provenance": {"python": "3"},
        }
    )


def half_maps() -> dict[int, NDArray[np.float32]]:
    density = fourier_crop_volumes(specimen(), BOX)
    noise = 0.4 * torch.randn(2, BOX, BOX, BOX, generator=torch.Generator().manual_seed(1))
    # half 2 is of the other hand, a quarter turn off, shifted by a voxel, and on another scale
    turned = rotate_volume((density + noise[1]).flip(0).roll(1, 0), QUARTER).roll(1, 2)
    return {1: (density + noise[0]).numpy(), 2: (3 * turned).numpy()}


def build(directory: Path, *, with_truth: bool = True, volumes: dict[int, NDArray[np.float32]] | None = None) -> Path:
    directory.mkdir(exist_ok=True)
    truth_digest = write_truth(directory) if with_truth else None
    write_predicted(directory, write_observed(directory, truth_digest), volumes or half_maps())
    return directory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = build(tmp_path_factory.mktemp("run"))
    evaluate(directory)
    return directory


@pytest.fixture(scope="module")
def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


def test_says_what_was_run(result: dict[str, Any]) -> None:
    expected = {
        "schema": 1,
        "method": "guess",
        "params": {"rate": 0.123456789},
        "scenario": "made-up",
        "specimen": "blob",
        "seed": 5,
        "voxel_size": VOXEL,
        "box": BOX,
        "symmetry": "C1",
        "oracle_poses": False,
        "particles": {"half1": 4, "half2": 2},
        "snr": {"native_db": -20.0, "working_db": -15.1235},
        "noise": "white noise",
        "provenance": {"python": "3"},
    }
    assert {name: result[name] for name in expected} == expected
    assert result["cost"]["total_wall_seconds"] == 6.66667
    assert result["cost"]["half2"]["gpu_seconds"] is None


def test_finds_hand_turn_and_shift(result: dict[str, Any]) -> None:
    found = result["alignment"]["half2_to_half1"]
    assert found["mirrored"]
    assert found["rotation_degrees"] == 90
    assert found["correlation"] > found["correlation_other_hand"] + 0.1
    # back by a voxel along x, then a quarter turn about z
    np.testing.assert_allclose(np.abs(found["shift"]), [0, VOXEL, 0], atol=1e-6)
    to_truth = result["alignment"]["mean_to_truth"]
    assert (to_truth["rotation_degrees"], to_truth["mirrored"], to_truth["shift"]) == (0, False, [0, 0, 0])
    assert result["alignment"]["half2_to_truth"]["mirrored"]


def test_curves_are_what_the_volumes_say(result: dict[str, Any]) -> None:
    curves = {name: np.array(values) for name, values in result["fsc"].items()}
    assert {len(values) for values in curves.values()} == {BOX // 2 + 1}
    np.testing.assert_allclose(curves["spatial_frequency"], curves["shell"] / (BOX * VOXEL), rtol=1e-5)
    # the mean of two halves that correlate by F correlates by sqrt(2 F / (1 + F)) with a truth free of noise
    half_map = curves["half_map"][1:8]
    np.testing.assert_allclose(curves["truth"][1:8], np.sqrt(2 * half_map / (1 + half_map)), atol=0.06)
    assert (curves["truth"][1:8] > curves["truth_half1"][1:8] - 0.01).all()
    assert (curves["truth"][1:8] > curves["truth_half2"][1:8] - 0.01).all()
    for name in ("half_map", "truth", "truth_half1", "truth_half2"):
        assert set(result["resolution"][name]) == {"0.143", "0.5"}
    assert result["resolution"]["half_map"]["0.5"]["state"] == "crossed"
    assert result["resolution"]["half_map"]["0.143"]["value"] < result["resolution"]["half_map"]["0.5"]["value"]


def test_maps_share_the_frame_of_half_1(run: Path) -> None:
    maps = {}
    for name in ("half1", "half2", "mean"):
        with mrcfile.open(run / f"{name}.mrc", mode="r") as file:
            assert float(file.voxel_size.x) == VOXEL
            maps[name] = np.array(file.data)
    halves = half_maps()
    np.testing.assert_array_equal(maps["half1"], halves[1])
    scale = maps["half1"].std() / maps["half2"].std()
    np.testing.assert_allclose(maps["mean"], (maps["half1"] + scale * maps["half2"]) / 2, rtol=1e-4, atol=1e-4)
    assert np.corrcoef(maps["half1"].ravel(), maps["half2"].ravel())[0, 1] > 0.4


def test_over_time_from_an_empty_volume_to_the_final_one(result: dict[str, Any]) -> None:
    over_time = result["over_time"]
    for half in ("half1", "half2"):
        first, last = over_time[half]
        assert first["truth"]["0.5"] == {"value": None, "state": "below_at_first_shell"}
        assert last["truth"] == result["resolution"][f"truth_{half}"]
    assert [entry["seconds"] for entry in over_time["half2"]] == [0, 6.66667]
    assert over_time["half_map"][1] == {
        "seconds": 6.66667,
        "images_seen": 200,
        **{name: result["resolution"][name] for name in ("half_map", "truth")},
        **{f"{name}_fsc": result["fsc"][name] for name in ("half_map", "truth")},
    }


def test_one_empty_half_is_named(tmp_path: Path) -> None:
    volumes = half_maps()
    volumes[2][:] = 0
    result = evaluate(build(tmp_path, volumes=volumes), options=QUICK)
    assert "half 2 has nothing to correlate: it is 0 everywhere" in result["warnings"]
    assert not any("half 1 has nothing" in warning for warning in result["warnings"])
    assert result["resolution"]["half_map"]["0.143"]["value"] is None
    assert result["resolution"]["truth"]["0.5"]["state"] == "crossed"


def test_one_map_given_as_both_halves_is_found_out(tmp_path: Path) -> None:
    first = half_maps()[1]
    # also where one copy is mirrored
    result = evaluate(build(tmp_path, volumes={1: first, 2: np.roll(first[::-1], 1, 0).copy()}), options=QUICK)
    assert any("not independent" in warning for warning in result["warnings"])


def test_gives_the_same_bytes_whatever_the_threads_and_leaves_the_stores_alone(run: Path) -> None:
    stores = {path: path.read_bytes() for path in run.glob("*.zarr/**/*") if path.is_file()}
    written = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        evaluate(run)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == written
    assert {path: path.read_bytes() for path in run.glob("*.zarr/**/*") if path.is_file()} == stores


PROCESS = """
import sys, pathlib
from cryobench.evaluate import run, noise_halves
noise_halves.cache_directory = lambda: pathlib.Path(sys.argv[2])
run.evaluate(pathlib.Path(sys.argv[1]))
print([m for m in sys.modules if m.startswith(("cryobench.reconstruct", "cryobench_"))])
"""


def test_gives_the_same_bytes_in_another_process_without_a_cache_from_locked_stores(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(run, directory)
    stores = [path for path in directory.glob("*.zarr/**/*") if path.is_file()]
    for path in stores:
        path.chmod(0o444)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in stores}
    (directory / "result.json").unlink()
    # the run that it is held against read its noise halves from the user's cache, where they were there
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    command = [sys.executable, "-c", PROCESS, str(directory), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
    assert (directory / "result.json").read_bytes() == (run / "result.json").read_bytes()
    assert [path.name for path in (tmp_path / "cache").rglob("*.json")] == ["box20-C1.json"]
    after = [path for path in directory.glob("*.zarr/**/*") if path.is_file()]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in after} == before


def test_without_a_truth(tmp_path: Path) -> None:
    result = evaluate(build(tmp_path, with_truth=False), options=QUICK)
    for name in ("truth", "truth_half1", "truth_half2"):
        assert result["resolution"][name] is None
        assert result["fsc"][name] is None
    assert result["alignment"]["mean_to_truth"] is None
    assert (result["snr"], result["scenario"], result["specimen"]) == (None, None, None)
    assert result["over_time"]["half1"][1]["truth"] is None
    assert result["resolution"]["half_map"]["0.5"]["state"] == "crossed"


@pytest.fixture(scope="module")
def truth_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "blob.mrc"
    write_map(path, fourier_crop_volumes(specimen(), BOX), VOXEL)
    return path


def test_a_given_map_is_the_truth_of_an_import(tmp_path: Path, truth_file: Path, result: dict[str, Any]) -> None:
    found = evaluate(build(tmp_path, with_truth=False), truth_file, QUICK)
    assert found["resolution"]["truth"] == result["resolution"]["truth"]
    assert found["specimen"] == "blob.mrc"
    sha256 = hashlib.sha256(truth_file.read_bytes()).hexdigest()
    assert found["options"]["truth"] == {"name": "blob.mrc", "files": [{"file": "blob.mrc", "sha256": sha256}]}


def test_a_dataset_with_a_truth_is_given_no_other(run: Path, truth_file: Path) -> None:
    with pytest.raises(StoreError, match="a truth of its own"):
        evaluate(run, truth_file)


@pytest.mark.parametrize(("box", "voxel"), [(BOX, 2.9), (22, VOXEL)])
def test_refuses_a_truth_of_another_grid(tmp_path: Path, box: int, voxel: float) -> None:
    write_map(tmp_path / "other.mrc", specimen()[:box, :box, :box], voxel)
    with pytest.raises(InputError, match=r"expected a truth of 20 voxels a side at 3 Å.*--resample"):
        evaluate(build(tmp_path / "run", with_truth=False), tmp_path / "other.mrc")


def test_says_what_a_truth_cannot_show_that_is_coarser_and_smaller_than_the_maps(tmp_path: Path) -> None:
    write_map(tmp_path / "coarse.mrc", fourier_crop_volumes(specimen(), 15)[1:14, 1:14, 1:14], 4.0)
    options = Options(bootstrap_draws=0, yardsticks=False, resample=True)
    found = evaluate(build(tmp_path / "run", with_truth=False), tmp_path / "coarse.mrc", options)
    assert found["warnings"][:3] == [
        "the truth was resampled from 13 x 13 x 13 voxels of 4 Å to 20 of 3 Å",
        "the truth was sampled at 4 Å and holds nothing finer than 8 Å: what a map resolves beyond cannot be seen against it",
        "the truth is 52 Å across, the maps 60 Å; around it counts as empty",
    ]
    assert found["resolution"]["truth"]["0.143"]["value"] > 7.5


def test_empty_volumes_have_no_resolution(tmp_path: Path) -> None:
    empty = np.zeros((BOX, BOX, BOX), np.float32)
    result = evaluate(build(tmp_path, volumes={1: empty, 2: empty}), options=QUICK)
    nothing = {"value": None, "state": "below_at_first_shell"}
    assert result["resolution"]["half_map"]["0.143"] == nothing
    assert result["resolution"]["truth"]["0.143"] == nothing
    assert "NaN" not in (tmp_path / "result.json").read_text()
    for name in ("half 1", "half 2", "the mean map"):
        assert f"{name} has nothing to correlate: it is 0 everywhere" in result["warnings"]
    assert (result["intervals"], result["hallucination"]["mean_gap"]) == (None, None)


def test_refuses_volumes_with_nan(tmp_path: Path) -> None:
    volumes = half_maps()
    volumes[2][3, 4, 5] = np.nan
    with pytest.raises(InputError, match="half 2 holds NaN"):
        evaluate(build(tmp_path, with_truth=False, volumes=volumes))


def test_refuses_stores_that_do_not_belong_together(run: Path, tmp_path: Path) -> None:
    other = build(tmp_path, with_truth=False)
    write_predicted(other, "another digest", half_maps())
    with pytest.raises(StoreError, match=r"predicted\.zarr was made from another observed\.zarr"):
        evaluate(other)
    with pytest.raises(StoreError, match=r"truth\.zarr is not the truth"):
        evaluate_stores(run / "predicted.zarr", other / "observed.zarr", run / "truth.zarr")


def test_refuses_a_run_without_a_result(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"predicted\.zarr"):
        evaluate(tmp_path)


def test_says_how_much_of_it_is_sure_and_how_much_promised(result: dict[str, Any]) -> None:
    for name in ("half_map", "truth"):
        for threshold in ("0.143", "0.5"):
            value, interval = result["resolution"][name][threshold]["value"], result["intervals"][name][threshold]
            assert interval["finest"] <= value <= interval["coarsest"]
        under_mask = result["masked"][name]
        assert len(under_mask["corrected"]) == BOX // 2 + 1
        # no coarser under the mask, give or take a shell
        under, without = (
            found["resolution"][key]["0.5"]["value"] for found, key in ((under_mask, "masked"), (result, name))
        )
        assert 1 / under >= 1 / without - 1 / (BOX * VOXEL)
        assert result["correlation"][f"{name}_masked"] > result["correlation"][name]
        assert set(result["directional"][name]) == {"0.143", "0.5", "curves"}
    assert result["masked"]["mask"]["kind"] == "specimen"
    gap, half_map = np.array(result["hallucination"]["gap"]), np.array(result["fsc"]["half_map"])
    np.testing.assert_allclose(gap + result["fsc"]["truth"], np.sqrt(2 * half_map.clip(0) / (1 + half_map)), atol=1e-4)
    assert abs(result["hallucination"]["mean_gap"]) < 0.05
    np.testing.assert_allclose(result["ssnr"]["half_map"][1:5], 2 * half_map[1:5] / (1 - half_map[1:5]), rtol=1e-2)
    assert result["warnings"] == []


def test_time_to_target_counts_what_the_truth_bears_out(result: dict[str, Any]) -> None:
    reached = {row["target"]: row["seconds"] for row in result["quality_over_time"]["time_to_target"]}
    assert reached[40.0] == 6.66667
    finest = max(result["resolution"]["half_map"]["0.143"]["value"], result["resolution"]["truth"]["0.5"]["value"])
    assert {target for target, seconds in reached.items() if seconds is not None} == {t for t in reached if t >= finest}
    assert 0 <= result["quality_over_time"]["area"]["truth_0.5_over_seconds"] < 1


def test_poses_that_a_method_returns_are_measured_in_its_own_frame(tmp_path: Path) -> None:
    """Half 2 was mirrored, turned and shifted: the poses of such a map, worked out for its points, have no error."""
    directory = build(tmp_path)
    root = zarr.open_group(directory / "predicted.zarr", mode="r+")
    # half2(q) = specimen at M^-1 Q^-1 (q - t): a quarter turn after the mirror, then a voxel along x
    flip, quarter, t = np.diag([1.0, 1.0, -1.0]), QUARTER.numpy().astype(float), np.array([VOXEL, 0, 0])
    true = true_rotations().as_matrix()
    of_map = flip @ true @ np.linalg.inv(quarter @ flip)
    shifts = SHIFTS - (of_map @ t)[:, :2]
    for half, chosen in ((1, slice(0, 4)), (2, slice(4, 6))):
        matrices = true[chosen] if half == 1 else of_map[chosen]
        put(root[f"half{half}"], "rotation", Rotation.from_matrix(matrices).as_quat(), ("particle", "quaternion"))
        put(root[f"half{half}"], "shift", (SHIFTS if half == 1 else shifts)[chosen], ("particle", "xy"))
    poses = evaluate(directory, options=Options(bootstrap_draws=0, yardsticks=False))["poses"]
    for half in ("half1", "half2"):
        assert poses[half]["rotation_degrees"]["percentile_90"] < 1e-3
        assert poses[half]["shift"]["percentile_90"] < 1e-3


def test_without_poses_there_are_no_errors(result: dict[str, Any]) -> None:
    assert result["poses"] is None


def test_yardsticks_stand_beside_the_result_unless_left_out(result: dict[str, Any], tmp_path: Path) -> None:
    yardsticks = result["yardsticks"]
    assert yardsticks["noise_halves"]["half_map_highest"][1] > yardsticks["noise_halves"]["half_map"][1] > 0
    assert len(yardsticks["ellipsoid"]["truth"]) == BOX // 2 + 1
    assert len(yardsticks["ellipsoid"]["semi_axes"]) == 3
    assert yardsticks["oracle_poses"] is None
    without = evaluate(build(tmp_path), options=QUICK)
    assert (without["yardsticks"], without["options"]["yardsticks"]) == (None, False)


def test_what_true_poses_give_is_a_yardstick_if_it_is_of_the_same_images(
    run: Path, tmp_path: Path, result: dict[str, Any]
) -> None:
    directory = tmp_path / "run"
    shutil.copytree(run, directory)
    density, noise = fourier_crop_volumes(specimen(), BOX), torch.Generator().manual_seed(4)
    halves = {half: (density + 0.2 * torch.randn(BOX, BOX, BOX, generator=noise)).numpy() for half in (1, 2)}
    write_predicted(directory, result["digests"]["observed"], halves, "oracle.zarr")
    options = Options(bootstrap_draws=0)
    found = evaluate(directory, options=options)
    oracle = found["yardsticks"]["oracle_poses"]
    np.testing.assert_allclose(
        oracle["half_map"], fsc(*(torch.from_numpy(h).double() for h in halves.values())), rtol=1e-5
    )
    assert oracle["resolution"]["truth"]["0.5"]["value"] <= found["resolution"]["truth"]["0.5"]["value"]
    assert np.mean(oracle["truth"]) > np.mean(found["fsc"]["truth"]) + 0.05
    assert found["fsc"] == result["fsc"]
    write_predicted(directory, "another digest", halves, "oracle.zarr")
    with pytest.raises(StoreError, match=r"oracle\.zarr was made from another"):
        evaluate(directory, options=options)


def test_halves_that_share_a_bias_are_warned_of(tmp_path: Path) -> None:
    bias = torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(7))
    smooth = torch.fft.ifftshift(torch.exp(-((radius(BOX, 3, bias) / 4) ** 2)))
    bias = torch.fft.ifftn(torch.fft.fftn(bias) * smooth).real
    volumes = {half: (fourier_crop_volumes(specimen(), BOX) + 3 * bias).numpy() for half in (1, 2)}
    result = evaluate(build(tmp_path, volumes=volumes), options=QUICK)
    assert result["hallucination"]["mean_gap"] > 0.1
    assert result["intervals"]["mean_gap"]["low"] > 0.02
    assert any("share a bias" in warning for warning in result["warnings"])
