"""Errors of estimated poses, in the frame that the map alignment puts them into and modulo symmetry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.evaluate.move import MIRROR, Alignment
from cryobench.physics.symmetry import symmetry_rotations


@dataclass(frozen=True)
class PoseErrors:
    """By particle: ``angles`` in radians ``(particle,)``, ``shifts`` in angstrom ``(particle,)`` or None."""

    angles: NDArray[np.float64]
    shifts: NDArray[np.float64] | None

    def summarise(self) -> dict[str, dict[str, float | list[float]] | None]:
        """Median, mean, 90th percentile, and every fifth percentile of each, angles in degrees."""
        return {
            "rotation_degrees": _summary(np.rad2deg(self.angles)),
            "shift": None if self.shifts is None else _summary(self.shifts),
        }


def move_poses(
    map_to_truth: Alignment, rotations: NDArray[np.float64], shifts: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Poses of a map as poses of the truth that the alignment superposes it on.

    With ``truth(p) = map(M Q^T (p - t))`` a point ``q`` of the map is ``p = Q M q + t`` of the truth, so a pose ``(R, s)``
    of the map shows ``R q + s = R M Q^T (p - t) + s``. Mirrored, ``R M Q^T`` is no rotation; turned round along the beam,
    which a projection does not show, it is: ``F R M Q^T`` with ``F = M = diag(1, 1, -1)``.

    Args:
        map_to_truth: alignment of the reconstructed map on the truth.
        rotations: estimated pose matrices ``(particle, 3, 3)``.
        shifts: estimated shifts ``(particle, 2)`` in angstrom, or None.

    Returns:
        Rotation matrices and shifts in the truth's frame, of the same shapes.
    """
    turn = Rotation.from_quat(map_to_truth.rotation).as_matrix().T
    moved = MIRROR @ rotations @ MIRROR @ turn if map_to_truth.mirrored else rotations @ turn
    if shifts is None:
        return moved, None
    return moved, shifts - (moved @ np.asarray(map_to_truth.shift))[:, :2]


def measure_poses(
    map_to_truth: Alignment,
    estimated: tuple[NDArray[np.float64], NDArray[np.float64] | None],
    true: tuple[NDArray[np.float64], NDArray[np.float64]],
    symmetry: str,
) -> PoseErrors:
    """Geodesic angle from the true pose or the nearest one that symmetry makes equal to it, and distance of the shifts.

    Args:
        map_to_truth: alignment of the reconstructed map on the truth: its rotation, hand and shift come first.
        estimated: pose matrices ``(particle, 3, 3)`` and shifts ``(particle, 2)`` in angstrom, or None for these.
        true: the same of the truth.
        symmetry: point group of the truth, main axis on z.

    Raises:
        InputError: if the counts differ or an estimate is not finite.
    """
    rotations, shifts = estimated
    if rotations.shape != true[0].shape or (shifts is not None and shifts.shape != true[1].shape):
        raise InputError(
            f"expected poses of {len(true[0])} particles, got {len(rotations)}; one for each of the half-set"
        )
    if not np.isfinite(rotations).all() or not (shifts is None or np.isfinite(shifts).all()):
        raise InputError("expected finite poses, got NaN or infinity; reconstruct again")
    moved, moved_shifts = move_poses(map_to_truth, rotations, shifts)
    # V(g p) = V(p): the poses R and R g show the same
    group = symmetry_rotations(symmetry).numpy()
    chord = np.min([np.linalg.norm(moved - true[0] @ g, axis=(1, 2)) for g in group], axis=0)
    angles = 2 * np.arcsin(np.clip(chord / np.sqrt(8), 0, 1))
    return PoseErrors(angles, None if moved_shifts is None else np.linalg.norm(moved_shifts - true[1], axis=1))


def _summary(values: NDArray[np.float64]) -> dict[str, float | list[float]]:
    return {
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "percentile_90": float(np.percentile(values, 90)),
        "percentiles": np.percentile(values, np.arange(0, 101, 5)).tolist(),
    }
