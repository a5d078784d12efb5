from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate import noise_halves
from cryobench.evaluate.fsc import frequency, fsc, resolution
from cryobench.evaluate.noise_halves import correlate_noise_halves, correlate_unmoved_noise_halves, recall_noise_halves
from cryobench.evaluate.shells import Shells
from cryobench.evaluate.yardsticks import fit_ellipsoid, measure_yardsticks
from cryobench.specimens.atoms import AtomicModel
from cryobench.specimens.render import render_points

VOXEL = 5.0


def ellipsoid(box: int, axes: tuple[float, float, float], edge: float) -> Tensor:
    """A turned and shifted solid of points, softened by Gaussians: nothing of the fit's closed form."""
    points = np.indices((61, 61, 61)).reshape(3, -1).T / 30 - 1
    points = points[np.linalg.norm(points, axis=1) <= 1] * axes
    points = Rotation.from_euler("ZYZ", [30, 50, 20], degrees=True).apply(points) + np.array([4.0, -7.0, 3.0])
    return render_points(points, np.ones(len(points)), edge, box, VOXEL).double()


def test_finds_an_ellipsoid_wherever_it_lies() -> None:
    truth = ellipsoid(40, (32.0, 45.0, 70.0), 5.0)
    found = fit_ellipsoid(truth, VOXEL)
    assert found.semi_axes == pytest.approx((32, 45, 70), rel=0.05)
    # a blob is described by itself far beyond where 5A1A's ellipsoid ends
    value = resolution(found.curve, 0.5, 40, VOXEL).value
    assert value is not None
    assert value < 15
    assert found.curve[1:8].min() > 0.99


def test_its_curve_is_the_correlation_of_its_density() -> None:
    truth = ellipsoid(40, (30.0, 44.0, 62.0), 4.0)
    truth = truth + truth.roll(6, 2).flip(0)
    found = fit_ellipsoid(truth, VOXEL)
    assert len(found.curve) == 21
    assert found.curve.abs().max() <= 1 + 1e-9
    # a solid of the same axes that is drawn elsewhere is resolved no further
    turned = ellipsoid(40, found.semi_axes, max(found.edge, 3.0))
    reached, elsewhere = (
        sum(frequency(resolution(curve, t, 40, VOXEL)) for t in (0.143, 0.5))
        for curve in (found.curve, fsc(truth, turned))
    )
    assert elsewhere <= 1.05 * reached


def test_on_beta_galactosidase_it_scores_what_a_shape_does(data_directory: Path) -> None:
    model = AtomicModel("5A1A", data_directory / "models/5a1a.cif.gz", symmetry="D2")
    box = 64
    voxel = 184 * 1.274 / box
    found = fit_ellipsoid(model.density(box, voxel), voxel)
    half, low = (resolution(found.curve, t, box, voxel).value for t in (0.5, 0.143))
    assert half == pytest.approx(49, abs=2)
    assert low == pytest.approx(25, abs=2)


def test_aligning_noise_adds_something_to_the_first_shells_only() -> None:
    curves = correlate_noise_halves(24)
    assert curves.shape == (noise_halves.NOISE_DRAWS, 13)
    assert curves[:, 1:4].mean() > 0.12
    assert curves[:, 6:].abs().max() < 0.3
    assert curves[:, 6:].mean().abs() < 0.06
    unmoved = correlate_unmoved_noise_halves(24)
    assert (curves - unmoved)[:, 1:4].mean() > 0.1
    held = Shells(24).sum(torch.ones(24, 24, 13))
    assert (unmoved[:, 1:].abs() < 4 / held[1:].sqrt()).all()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(noise_halves, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "noise_halves" / "box12-C1.json"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The boxes that are measured, by what takes no time."""
    boxes: list[int] = []

    def measure(box: int, _symmetry: str) -> Tensor:
        boxes.append(box)
        draws = torch.randn(noise_halves.NOISE_DRAWS, box // 2 + 1, generator=torch.Generator().manual_seed(1))
        return draws.double() / 3

    monkeypatch.setattr(noise_halves, "correlate_noise_halves", measure)
    return boxes


def test_noise_halves_are_measured_once_and_kept_to_the_last_bit(cache: Path, measured: list[int]) -> None:
    first = recall_noise_halves(12, "C1")
    assert cache.is_file()
    assert torch.equal(recall_noise_halves(12, "C1"), first)
    assert measured == [12]


def damage_text(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def damage_number(path: Path) -> None:
    kept = json.loads(path.read_text())
    kept["curves"][0][3] += 0.01
    path.write_text(json.dumps(kept))


def be_of_other_code(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "older"}))


def be_foreign(path: Path) -> None:
    path.write_text("[1, 2]")


@pytest.mark.parametrize("harm", [damage_text, damage_number, be_of_other_code, be_foreign])
def test_a_damaged_or_outdated_cache_is_made_anew(
    cache: Path, measured: list[int], harm: Callable[[Path], None]
) -> None:
    first = recall_noise_halves(12, "C1")
    whole = cache.read_bytes()
    harm(cache)
    assert torch.equal(recall_noise_halves(12, "C1"), first)
    assert cache.read_bytes() == whole
    assert measured == [12, 12]


@pytest.mark.usefixtures("measured")
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(noise_halves, "cache_directory", lambda: tmp_path / "file")
    assert recall_noise_halves(12, "C1").shape == (noise_halves.NOISE_DRAWS, 7)


def test_all_as_a_result_states_them() -> None:
    truth = ellipsoid(24, (20.0, 25.0, 30.0), 4.0)
    generator = torch.Generator().manual_seed(0)
    first, second = (
        truth + 0.2 * truth.std() * torch.randn(24, 24, 24, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    said = measure_yardsticks(truth, 24, VOXEL, "C1", (first, second))
    assert len(said["ellipsoid"]["truth"]) == len(said["noise_halves"]["half_map"]) == 13
    assert set(said["ellipsoid"]["half_map"]) == {1.0}
    assert said["ellipsoid"]["resolution"]["half_map"]["0.5"] == {"value": 2 * VOXEL, "state": "above_to_nyquist"}
    np.testing.assert_allclose(said["oracle_poses"]["half_map"], fsc(first, second))
    crossing = resolution(fsc(first, second), 0.5, 24, VOXEL)
    assert said["oracle_poses"]["resolution"]["half_map"]["0.5"]["value"] == crossing.value
    assert said["oracle_poses"]["resolution"]["truth"]["0.5"]["value"] <= crossing.value
    assert set(said["noise_halves"]["resolution"]) == {"half_map"}
    without = measure_yardsticks(None, 24, VOXEL, "C1", (first, second))
    assert (without["ellipsoid"], without["oracle_poses"]) == (None, None)


def test_refuses_an_empty_truth() -> None:
    with pytest.raises(InputError, match="density above its surroundings"):
        fit_ellipsoid(torch.zeros(16, 16, 16), VOXEL)
