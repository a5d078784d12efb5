from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
from torch import Tensor

from cryobench.errors import InputError, StoreError, UnknownName
from cryobench.evaluate.bare import evaluate_map
from cryobench.evaluate.options import Options
from cryobench.evaluate.run import write_result
from cryobench.evaluate.truth import read_truth
from cryobench.interop.mrc import write_map
from cryobench.physics.grids import radius, soft_sphere
from cryobench.specimens.catalogue import find

BOX, VOXEL = 24, 3.0
QUICK = Options(bootstrap_draws=20, yardsticks=False)


def specimen(box: int = BOX, voxel_size: float = VOXEL) -> Tensor:
    """A sum of Gaussians about the middle, of any grid."""
    draws = np.random.default_rng(1)
    centres, widths = draws.normal(size=(25, 3)) * 10, draws.uniform(4.0, 6.0, 25)
    axis = (np.arange(box) - box // 2) * voxel_size
    x, y, z = (np.exp(-((axis - c[:, None]) ** 2) / (2 * widths[:, None] ** 2)) for c in centres.T)
    return torch.from_numpy(np.einsum("pz,py,px->zyx", z, y, x))


def noise(seed: int) -> Tensor:
    return 0.15 * torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("maps")
    first, second = specimen() + noise(1), specimen() + noise(2)
    mask = soft_sphere(BOX, 7.0, 4.0, first)
    maps = {
        "half1": first,
        "half2": second,
        "map": (first + second) / 2,
        "truth": specimen(),
        "mirrored": ((first + second) / 2).flip(0).roll(1, 0),
        "empty": torch.zeros(BOX, BOX, BOX),
        "binary": (mask > 0.5).double(),
        "cutting": mask.roll(5, 2),
        "mask": mask,
    }
    for name, volume in maps.items():
        write_map(directory / f"{name}.mrc", volume.float(), VOXEL)
    write_map(directory / "fine.mrc", specimen(36, 2.0).float(), 2.0)
    return directory


@pytest.fixture(scope="module")
def result(files: Path) -> dict[str, Any]:
    halves = (files / "half1.mrc", files / "half2.mrc")
    return evaluate_map(files / "map.mrc", files / "truth.mrc", halves, options=QUICK).result


def test_is_measured_as_a_run_is(result: dict[str, Any]) -> None:
    assert (result["schema"], result["method"], result["box"], result["voxel_size"]) == (1, "map.mrc", BOX, VOXEL)
    assert (result["params"], result["cost"], result["over_time"]) == (None, None, None)
    half_map, truth = (np.array(result["fsc"][name])[1:6] for name in ("half_map", "truth"))
    np.testing.assert_allclose(truth, np.sqrt(2 * half_map / (1 + half_map)), atol=0.05)
    assert result["resolution"]["truth"]["0.5"]["value"] < result["resolution"]["half_map"]["0.5"]["value"]
    assert result["resolution"]["truth_half1"]["0.5"]["value"] > result["resolution"]["truth"]["0.5"]["value"]
    assert result["alignment"]["half2_to_half1"]["rotation_degrees"] == 0
    assert abs(result["hallucination"]["mean_gap"]) < 0.05
    assert result["warnings"] == []


def test_needs_no_half_maps(files: Path) -> None:
    found = evaluate_map(files / "map.mrc", files / "truth.mrc", name="elsewhere", options=QUICK).result
    assert found["method"] == "elsewhere"
    assert found["fsc"]["half_map"] is None
    assert found["hallucination"] is None
    assert found["intervals"]["half_map"] is None
    assert found["intervals"]["truth"]["0.5"]["finest"] <= found["resolution"]["truth"]["0.5"]["value"]


def test_writes_what_a_run_writes(files: Path, tmp_path: Path) -> None:
    evaluation = evaluate_map(files / "map.mrc", files / "truth.mrc", options=QUICK)
    write_result(evaluation, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == evaluation.result
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fsc",
        "fsc.csv",
        "mean.mrc",
        "result.json",
        "truth.mrc",
    ]


def test_the_other_hand_is_found_and_said(files: Path, result: dict[str, Any]) -> None:
    found = evaluate_map(files / "mirrored.mrc", files / "truth.mrc", options=QUICK).result
    assert found["alignment"]["mean_to_truth"]["hand"] == "mirrored"
    assert found["alignment"]["mean_to_truth"]["hand_margin"] > 0.05
    np.testing.assert_allclose(found["fsc"]["truth"], result["fsc"]["truth"], atol=2e-3)
    assert any("other hand" in warning for warning in found["warnings"])


def test_another_grid_is_refused_unless_resampling_is_asked_for_and_then_said(
    files: Path, result: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"24 voxels a side at 3 Å, got \(36, 36, 36\) at 2 Å"):
        evaluate_map(files / "map.mrc", files / "fine.mrc", options=QUICK)
    options = Options(bootstrap_draws=20, yardsticks=False, resample=True)
    found = evaluate_map(files / "map.mrc", files / "fine.mrc", options=options).result
    assert found["warnings"] == ["the truth was resampled from 36 x 36 x 36 voxels of 2 Å to 24 of 3 Å"]
    np.testing.assert_allclose(found["fsc"]["truth"][:9], result["fsc"]["truth"][:9], atol=5e-3)


@pytest.mark.parametrize(("mask", "said"), [("binary", "no soft edge"), ("cutting", "cuts the particle")])
def test_a_mask_with_a_fault_is_used_and_warned_of(files: Path, mask: str, said: str) -> None:
    options = Options(mask=files / f"{mask}.mrc", bootstrap_draws=0, yardsticks=False)
    found = evaluate_map(files / "map.mrc", files / "truth.mrc", options=options).result
    assert found["masked"]["mask"]["kind"] == f"{mask}.mrc"
    assert any(said in warning for warning in found["warnings"])
    assert found["intervals"] is None


def test_a_filter_changes_what_voxels_say_and_not_the_shells(files: Path, result: dict[str, Any]) -> None:
    halves = (files / "half1.mrc", files / "half2.mrc")
    options = Options(gaussian_filter=1.0, bootstrap_draws=0, yardsticks=False)
    found = evaluate_map(files / "map.mrc", files / "truth.mrc", halves, options=options).result
    assert found["gaussian_filter"] == 1.0
    assert found["correlation"]["half_map"] > result["correlation"]["half_map"] + 0.02
    np.testing.assert_allclose(found["fsc"]["half_map"][2:], result["fsc"]["half_map"][2:], atol=0.06)


def test_refuses_what_is_no_map(files: Path, tmp_path: Path) -> None:
    broken = specimen().float()
    broken[3, 4, 5] = torch.nan
    write_nan(tmp_path / "nan.mrc", broken)
    with pytest.raises(InputError, match="NaN or infinite"):
        evaluate_map(tmp_path / "nan.mrc", files / "truth.mrc")
    with pytest.raises(InputError, match="NaN or infinite"):
        evaluate_map(files / "map.mrc", tmp_path / "nan.mrc")
    for pair in (("empty", "truth"), ("map", "empty")):
        with pytest.raises(InputError, match="every voxel is 0"):
            evaluate_map(*(files / f"{name}.mrc" for name in pair))
    with pytest.raises(InputError, match="found no file there"):
        evaluate_map(files / "nowhere.mrc", files / "truth.mrc")
    with pytest.raises(StoreError):
        evaluate_map(files / "map.mrc", tmp_path)


def write_nan(path: Path, volume: Tensor) -> None:
    """A file that a program without checks would write."""
    write_map(path, torch.zeros_like(volume), VOXEL)
    data = bytearray(path.read_bytes())
    data[1024:] = volume.numpy().tobytes()
    path.write_bytes(bytes(data))


def test_radius_of_a_sphere_is_in_angstrom(files: Path) -> None:
    options = Options(mask="sphere", mask_radius=12.0, bootstrap_draws=0, yardsticks=False)
    found = evaluate_map(files / "map.mrc", files / "truth.mrc", options=options).result
    r = radius(BOX, 3, torch.zeros(())) * VOXEL
    assert (
        float((r <= 12).double().mean()) < found["masked"]["mask"]["volume_fraction"] < float((r <= 32).double().mean())
    )


def test_half_maps_alone_are_enough_and_their_order_is_of_no_account(files: Path, result: dict[str, Any]) -> None:
    halves = files / "half1.mrc", files / "half2.mrc"
    found = evaluate_map(files / "map.mrc", None, halves, options=QUICK).result
    assert found["fsc"]["truth"] is None
    assert found["fsc"]["half_map"] == result["fsc"]["half_map"]
    assert (found["specimen"], found["options"]["truth"]) == (None, None)
    assert found["masked"]["mask"]["kind"] == "sphere"
    swapped = evaluate_map(files / "map.mrc", None, halves[::-1], options=QUICK).result
    np.testing.assert_allclose(swapped["fsc"]["half_map"], found["fsc"]["half_map"], atol=1e-6)
    with pytest.raises(InputError, match="expected something to compare"):
        evaluate_map(files / "map.mrc")


def test_one_half_map_twice_or_as_the_map_is_found_out(files: Path) -> None:
    half = files / "half1.mrc"
    warnings = evaluate_map(half, None, (half, half), options=QUICK).result["warnings"]
    assert any("not independent (the same map twice?)" in warning for warning in warnings)
    assert "the map and half 1 are the same map; the half-maps should be made of half of the images each" in warnings


def test_an_empty_half_map_is_named(files: Path) -> None:
    halves = files / "half1.mrc", files / "empty.mrc"
    found = evaluate_map(files / "map.mrc", files / "truth.mrc", halves, options=QUICK).result
    assert "half 2 has nothing to correlate: it is 0 everywhere" in found["warnings"]
    assert not any("half 1" in warning for warning in found["warnings"] if "nothing" in warning)


def test_says_what_it_was_measured_on_and_how(files: Path, result: dict[str, Any]) -> None:
    def named(name: str) -> dict[str, str]:
        return {"file": name, "sha256": hashlib.sha256((files / name).read_bytes()).hexdigest()}

    assert result["files"] == {"map": named("map.mrc"), "half1": named("half1.mrc"), "half2": named("half2.mrc")}
    assert result["options"] == {
        "mask": "auto",
        "mask_radius": None,
        "gaussian_filter": 0.0,
        "yardsticks": False,
        "bootstrap_draws": 20,
        "resample": False,
        "truth": {"name": "truth.mrc", "files": [named("truth.mrc")]},
    }
    assert Options(mask=files / "mask.mrc").describe()["mask"] == named("mask.mrc")


def test_a_truth_may_be_a_model_drawn_on_the_grid_of_the_map(files: Path) -> None:
    given = read_truth("phantom", BOX, 9.0, False)
    np.testing.assert_allclose(given.volume, find("phantom").density(BOX, 9.0))
    assert (given.source, given.notes) == ({"name": "phantom", "files": []}, ())
    with pytest.raises(InputError, match="expected a field of view of at least 192 Å for a specimen of radius 96 Å"):
        evaluate_map(files / "map.mrc", "phantom")
    with pytest.raises(UnknownName, match="did you mean 'phantom'"):
        evaluate_map(files / "map.mrc", "phantomm")


def test_refuses_maps_that_are_not_cubic_or_say_no_voxel_size(files: Path, tmp_path: Path) -> None:
    write_map(tmp_path / "flat.mrc", specimen().float()[2:], VOXEL)
    with pytest.raises(InputError, match=r"expected a cubic map in .*flat\.mrc, got \(22, 24, 24\)"):
        evaluate_map(tmp_path / "flat.mrc", files / "truth.mrc")
    with pytest.raises(InputError, match=r"24 voxels a side at 3 Å, got \(22, 24, 24\)"):
        evaluate_map(files / "map.mrc", tmp_path / "flat.mrc", options=QUICK)
    shutil.copy(files / "map.mrc", tmp_path / "mute.mrc")
    with mrcfile.open(tmp_path / "mute.mrc", mode="r+") as file:
        file.header.cella = (0, 0, 0)
    for pair in ((tmp_path / "mute.mrc", files / "truth.mrc"), (files / "map.mrc", tmp_path / "mute.mrc")):
        with pytest.raises(InputError, match=r"expected a voxel size in the header of .*mute\.mrc"):
            evaluate_map(*pair, options=QUICK)
    half_maps = files / "half1.mrc", files / "fine.mrc"
    with pytest.raises(InputError, match=r"expected a half-map 2 of 24 voxels .*fine\.mrc"):
        evaluate_map(files / "map.mrc", files / "truth.mrc", half_maps, options=QUICK)


def test_a_mask_of_another_grid_is_resampled_only_when_asked_and_said(files: Path, tmp_path: Path) -> None:
    write_map(tmp_path / "wide.mrc", soft_sphere(36, 10.0, 6.0, torch.zeros(())), 2.0)
    refused = Options(mask=tmp_path / "wide.mrc", bootstrap_draws=0, yardsticks=False)
    with pytest.raises(InputError, match="expected a mask of 24 voxels a side"):
        evaluate_map(files / "map.mrc", files / "truth.mrc", options=refused)
    found = evaluate_map(files / "map.mrc", files / "truth.mrc", options=replace(refused, resample=True)).result
    assert "the mask was resampled from 36 x 36 x 36 voxels of 2 Å to 24 of 3 Å" in found["warnings"]
    assert found["masked"]["mask"]["kind"] == "wide.mrc"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"mask": "sper"}, "'sper', and found no file there"),
        ({"mask_radius": 20.0}, "ask for the mask 'sphere'"),
        ({"gaussian_filter": -1.0}, "0 voxels or more, got -1"),
        ({"gaussian_filter": float("nan")}, "0 voxels or more, got nan"),
    ],
)
def test_refuses_options_that_mean_nothing(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Options(**given)
