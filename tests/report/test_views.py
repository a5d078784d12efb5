"""Maps of view directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.spatial.transform import Rotation

from cryobench.evaluate.move import Alignment
from cryobench.evaluate.poses import move_poses
from cryobench.physics.rotation import rotation_from_relion
from cryobench.report.views import (
    ROWS,
    draw_pose_errors,
    project,
    smoothing,
    turn_poses,
    view_density,
    view_figures,
)


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


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("truth", [False, True])
def test_poses_found_are_turned_as_their_map_is(truth: bool, mirrored: bool) -> None:
    """As the evaluation of poses turns them, which has its own tests."""
    own = Rotation.random(20, rng=np.random.default_rng(1))
    quaternion = tuple(float(q) for q in Rotation.from_rotvec([0.4, -0.3, 0.8]).as_quat())
    found = {"quaternion": quaternion, "shift": (0.0, 0.0, 0.0), "mirrored": mirrored}
    alignment = {"half1_to_truth": None, "half2_to_truth": found if truth else None, "half2_to_half1": found}
    half = xr.Dataset({"rotation": (("particle", "quaternion"), own.as_quat())})
    expected, _ = move_poses(Alignment(quaternion, (0.0, 0.0, 0.0), mirrored, 0.9, None, 1.0), own.as_matrix(), None)
    np.testing.assert_allclose(turn_poses(half, 2, alignment).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(turn_poses(half, 1, alignment).numpy(), own.as_matrix(), atol=1e-12)


def test_shares_of_particles_rise_with_the_error() -> None:
    spread = {"median": 5.0, "mean": 5.0, "percentile_90": 9.0, "percentiles": [i / 2 for i in range(21)]}
    poses = {"half1": {"rotation_degrees": spread, "shift": None}, "half2": None}
    (drawn,) = draw_pose_errors(poses)
    (line,) = drawn.figure.data
    assert (line.y[10], line.x[10]) == (50, 5.0)
    assert drawn.columns["half 1, rotation error (degrees)"] == spread["percentiles"]
    assert not list(draw_pose_errors(None))
