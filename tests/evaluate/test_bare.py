from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cryobench.errors import InputError, StoreError
from cryobench.evaluate.bare import evaluate_map
from cryobench.evaluate.options import Options
from cryobench.evaluate.run import write_result
from cryobench.interop.mrc import write_map
from cryobench.physics.grids import radius, soft_sphere

BOX, VOXEL = 24, 3.0
QUICK = Options(bootstrap_draws=20)


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
    found = evaluate_map(files / "map.mrc", files / "truth.mrc", method="elsewhere", options=QUICK).result
    assert found["method"] == "elsewhere"
    assert found["fsc"]["half_map"] is None
    assert found["hallucination"] is None
    assert found["intervals"]["half_map"] is None
    assert found["intervals"]["truth"]["0.5"]["finest"] <= found["resolution"]["truth"]["0.5"]["value"]


def test_writes_what_a_run_writes(files: Path, tmp_path: Path) -> None:
    evaluation = evaluate_map(files / "map.mrc", files / "truth.mrc", options=QUICK)
    write_result(evaluation, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == evaluation.result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mean.mrc", "result.json"]


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
    options = Options(bootstrap_draws=20, resample=True)
    found = evaluate_map(files / "map.mrc", files / "fine.mrc", options=options).result
    assert found["warnings"] == ["the truth was resampled from 36 x 36 x 36 voxels of 2 Å to 24 of 3 Å"]
    np.testing.assert_allclose(found["fsc"]["truth"][:9], result["fsc"]["truth"][:9], atol=5e-3)


@pytest.mark.parametrize(("mask", "said"), [("binary", "no soft edge"), ("cutting", "cuts the particle")])
def test_a_mask_with_a_fault_is_used_and_warned_of(files: Path, mask: str, said: str) -> None:
    options = Options(mask=files / f"{mask}.mrc", bootstrap_draws=0)
    found = evaluate_map(files / "map.mrc", files / "truth.mrc", options=options).result
    assert found["masked"]["mask"]["kind"] == f"{mask}.mrc"
    assert any(said in warning for warning in found["warnings"])
    assert found["intervals"] is None


def test_a_filter_changes_what_voxels_say_and_not_the_shells(files: Path, result: dict[str, Any]) -> None:
    halves = (files / "half1.mrc", files / "half2.mrc")
    options = Options(gaussian_filter=1.0, bootstrap_draws=0)
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
        with pytest.raises(InputError, match="every voxel is zero"):
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
    options = Options(mask="sphere", mask_radius=12.0, bootstrap_draws=0)
    found = evaluate_map(files / "map.mrc", files / "truth.mrc", options=options).result
    r = radius(BOX, 3, torch.zeros(())) * VOXEL
    assert (
        float((r <= 12).double().mean()) < found["masked"]["mask"]["volume_fraction"] < float((r <= 32).double().mean())
    )
