from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.fsc import fsc, resolution
from cryobench.evaluate.yardsticks import correlate_noise_halves, fit_ellipsoid, measure_yardsticks
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
    # no better than the best of many others, drawn around it
    turned = ellipsoid(40, found.semi_axes, max(found.edge, 3.0))
    assert fsc(truth, turned)[1:6].mean() <= found.curve[1:6].mean() + 0.02


def test_on_beta_galactosidase_it_scores_what_a_shape_does(data_directory: Path) -> None:
    model = AtomicModel("5A1A", data_directory / "models/5a1a.cif.gz", symmetry="D2")
    box = 64
    voxel = 184 * 1.274 / box
    found = fit_ellipsoid(model.density(box, voxel), voxel)
    half, low = (resolution(found.curve, t, box, voxel).value for t in (0.5, 0.143))
    assert half == pytest.approx(49, abs=2)
    assert low == pytest.approx(25, abs=2)


def test_aligning_noise_adds_something_to_the_first_shells_only() -> None:
    curves = torch.stack(correlate_noise_halves(24, draws=3))
    assert curves.shape == (3, 13)
    assert curves[:, 1].mean() > 0.2
    assert curves[:, 6:].abs().max() < 0.3
    assert curves[:, 6:].mean().abs() < 0.06


def test_noise_halves_are_measured_once() -> None:
    assert correlate_noise_halves(24, draws=3) is correlate_noise_halves(24, draws=3)


def test_both_as_a_result_states_them() -> None:
    said = measure_yardsticks(ellipsoid(24, (20.0, 25.0, 30.0), 4.0), 24, VOXEL, "C1")
    assert len(said["ellipsoid"]["truth"]) == len(said["noise_halves"]["half_map"]) == 13
    assert set(said["ellipsoid"]["half_map"]) == {1.0}
    assert measure_yardsticks(None, 24, VOXEL, "C1")["ellipsoid"] is None


def test_refuses_an_empty_truth() -> None:
    with pytest.raises(InputError, match="density above its surroundings"):
        fit_ellipsoid(torch.zeros(16, 16, 16), VOXEL)
