from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.evaluate.move import MIRROR, Alignment
from cryobench.evaluate.poses import measure_poses, move_poses
from cryobench.physics.symmetry import symmetry_rotations

COUNT = 40


def draw(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    draws = np.random.default_rng(seed)
    return Rotation.random(COUNT, rng=draws).as_matrix(), draws.normal(size=(COUNT, 2)) * 5


def gauge(seed: int, mirrored: bool) -> Alignment:
    draws = np.random.default_rng(100 + seed)
    x, y, z, w = Rotation.random(rng=draws).as_quat(canonical=True)
    a, b, c = draws.normal(size=3) * 4
    return Alignment((x, y, z, w), (a, b, c), mirrored, 1.0, None, 2.0)


def estimates(
    alignment: Alignment, rotations: NDArray[np.float64], shifts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Poses of a map that the alignment takes to the truth, which show every point of it where the true poses do.

    A point ``q`` of the map is ``p = Q M q + t`` of the truth, and lands at ``(R p)[:2] + s``. Turning the pose of a mirrored map
    round along the beam moves no point of the image.
    """
    turn, flip = Rotation.from_quat(alignment.rotation).as_matrix(), MIRROR if alignment.mirrored else np.eye(3)
    moved = shifts + (rotations @ np.array(alignment.shift))[:, :2]
    return flip @ rotations @ turn @ flip, moved


@pytest.mark.parametrize("mirrored", [False, True])
def test_moved_poses_show_every_point_where_the_estimate_does(mirrored: bool) -> None:
    alignment, (rotations, shifts) = gauge(1, mirrored), draw(1)
    points = np.random.default_rng(2).normal(size=(7, 3)) * 10
    flip = MIRROR if mirrored else np.eye(3)
    of_truth = points @ flip @ Rotation.from_quat(alignment.rotation).as_matrix().T + np.array(alignment.shift)
    moved, moved_shifts = move_poses(alignment, rotations, shifts)
    assert moved_shifts is not None
    np.testing.assert_allclose(np.linalg.det(moved), 1)
    seen = np.einsum("nij,pj->npi", rotations, points)[..., :2] + shifts[:, None]
    np.testing.assert_allclose(np.einsum("nij,pj->npi", moved, of_truth)[..., :2] + moved_shifts[:, None], seen)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("symmetry", ["C1", "D2", "C3"])
def test_poses_that_differ_by_gauge_and_symmetry_alone_are_exact(mirrored: bool, symmetry: str) -> None:
    alignment, (rotations, shifts) = gauge(2, mirrored), draw(2)
    group = symmetry_rotations(symmetry).numpy()
    equal = rotations @ group[np.random.default_rng(3).integers(len(group), size=COUNT)]
    found = measure_poses(alignment, estimates(alignment, equal, shifts), (rotations, shifts), symmetry)
    assert found.angles.max() < 1e-6
    if symmetry == "C1":
        assert found.shifts is not None
        assert found.shifts.max() < 1e-9


def test_errors_are_those_that_were_made() -> None:
    alignment, (rotations, shifts) = gauge(3, True), draw(3)
    draws = np.random.default_rng(4)
    axes = draws.normal(size=(COUNT, 3))
    angles = draws.uniform(0, np.deg2rad(30), COUNT)
    axes *= (angles / np.linalg.norm(axes, axis=1))[:, None]
    turned = rotations @ Rotation.from_rotvec(axes).as_matrix()
    found = measure_poses(alignment, estimates(alignment, turned, shifts), (rotations, shifts), "C1")
    np.testing.assert_allclose(found.angles, angles, atol=1e-7)
    wrong = shifts + np.array([3.0, 4.0])
    found = measure_poses(alignment, estimates(alignment, rotations, wrong), (rotations, shifts), "C1")
    assert found.shifts is not None
    np.testing.assert_allclose(found.shifts, 5.0)
    said = found.summarise()["shift"]
    assert said == {name: pytest.approx(5.0) for name in ("median", "mean", "percentile_90")} | {
        "percentiles": pytest.approx([5.0] * 21)
    }


def test_random_poses_err_as_theory_says() -> None:
    """The mean geodesic angle of uniform rotations is pi / 2 + 2 / pi."""
    first, second = (Rotation.random(4000, rng=np.random.default_rng(seed)).as_matrix() for seed in (5, 6))
    none = Alignment((0, 0, 0, 1), (0, 0, 0), False, 1.0, None, 1.0)
    found = measure_poses(none, (first, None), (second, np.zeros((4000, 2))), "C1")
    assert found.angles.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, rel=0.02)
    assert found.summarise()["shift"] is None


def test_refuses_poses_of_other_particles_and_nan() -> None:
    none, (rotations, shifts) = Alignment((0, 0, 0, 1), (0, 0, 0), False, 1.0, None, 1.0), draw(1)
    with pytest.raises(InputError, match="poses of 40 particles, got 39"):
        measure_poses(none, (rotations[1:], None), (rotations, shifts), "C1")
    with pytest.raises(InputError, match="finite poses"):
        measure_poses(none, (rotations * np.nan, None), (rotations, shifts), "C1")
