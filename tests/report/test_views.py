"""Maps of view directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryobench.physics.rotation import rotation_from_relion
from cryobench.report.views import ROWS, project, smoothing, view_density, view_figures


def poses(rot: float, tilt: float, count: int = 50) -> torch.Tensor:
    """Poses seen along one direction, at any angle in the plane."""
    psi = np.linspace(0, 360, count)
    return torch.as_tensor(
        rotation_from_relion(np.stack([np.full(count, rot), np.full(count, tilt), psi], -1)).as_matrix()
    )


def test_the_map_is_of_equal_area_and_uniform_poses_are_one_everywhere() -> None:
    uniform = torch.as_tensor(Rotation.random(5000, rng=np.random.default_rng(0)).as_matrix())
    values = view_density(uniform, smoothing(5000))
    assert values.shape == (ROWS, 2 * ROWS)
    inside = np.isfinite(values)
    assert inside.mean() == pytest.approx(np.pi / 4, abs=0.01)  # the ellipse in its rectangle
    assert np.nanmean(values) == pytest.approx(1, abs=0.01)
    assert np.nanstd(values) < 0.2


@pytest.mark.parametrize(("rot", "tilt"), [(0, 90), (120, 45), (-75, 150), (10, 3)])
def test_one_view_is_a_spot_at_its_angles_that_holds_all(rot: float, tilt: float) -> None:
    values = view_density(poses(rot, tilt), 100.0)
    # on a map of equal area the mean is the integral over the sphere, and so 1 for any density
    assert np.nanmean(values) == pytest.approx(1, abs=0.07)  # coarse at the pole
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    x, y = project(np.radians([float(rot)]), np.radians([float(tilt)]))
    assert (2 * (2 * (column + 0.5) / (2 * ROWS) - 1)) == pytest.approx(x[0], abs=0.06)
    assert 1 - 2 * (row + 0.5) / ROWS == pytest.approx(y[0], abs=0.06)
    assert np.nanmax(values) == pytest.approx(200, rel=0.1)  # of a von Mises-Fisher density, 2 kappa


def test_maps_share_a_scale_and_tell_their_angles() -> None:
    drawn = view_figures({"a": view_density(poses(0, 90), 30.0), "b": view_density(poses(90, 90), 10.0)})
    scales = {(figure.data[0].zmin, round(figure.data[0].zmax, 6)) for figure in drawn.values()}
    assert len(scales) == 1
    heat = drawn["a"].data[0]
    assert heat.x0 == pytest.approx(-2 + heat.dx / 2)
    assert heat.customdata[0, ROWS, 1] < 15  # the first row is the pole that the beam's axis points to
    assert [float(heat.customdata[ROWS // 2, c, 0]) for c in (0, -1)] == pytest.approx([-178.5, 178.5], abs=1)
    assert heat.y0 > 0 > heat.dy
