"""Find the frame in which a set of rotations holds a point group with its axes on the grid's axes."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError

_TOLERANCE = np.radians(5.0)

Matrices = NDArray[np.float64]


def find_frame(rotations: Matrices, ideal: Matrices, symmetry: str, points: NDArray[np.float64]) -> Matrices:
    """Rotation ``Q`` for which every rotation of the ideal group is (nearly) one of ``Q R Q'``.

    Two rotations of the group with different axes are matched to every pair of measured ones with the same angles and the same
    angle between their axes; the best frames are then refined over all axes by least squares. A point group looks the same in
    several frames (D2 in 24): of those the one is taken that puts the longest extent on x and the shortest on z.

    Args:
        rotations: measured rotation matrices ``(n, 3, 3)`` of the assembly, perhaps more than the group has.
        ideal: the group's rotation matrices ``(order, 3, 3)``, order at least 2.
        symmetry: the group's name, for the message.
        points: ``(point, xyz)``, centred, whose extents break ties.

    Raises:
        InputError: some rotation of the group is more than 5 degrees from every measured one in every frame.
    """
    axes, angles = _axes(rotations)
    ideal_axes, ideal_angles = _axes(ideal)
    turning = np.flatnonzero(ideal_angles > _TOLERANCE)
    first = turning[0]
    # the axis least parallel to the first one pins the frame best; a cyclic group has no second
    second = turning[np.abs(ideal_axes[turning] @ ideal_axes[first]).argmin()]
    cosine = ideal_axes[first] @ ideal_axes[second]

    frames = []
    for i, j in itertools.product(range(len(rotations)), repeat=2):
        if abs(angles[i] - ideal_angles[first]) > _TOLERANCE or abs(angles[j] - ideal_angles[second]) > _TOLERANCE:
            continue
        for sign_i, sign_j in itertools.product((1, -1), repeat=2):  # the axis of a half turn has no direction
            pair = np.array([sign_i * axes[i], sign_j * axes[j]])
            if abs(np.arccos(np.clip(pair[0] @ pair[1], -1, 1)) - np.arccos(np.clip(cosine, -1, 1))) < _TOLERANCE:
                frames.append(_refine(_turn(pair, ideal_axes[[first, second]]), rotations, ideal))
    deviations = np.array([_deviations(frame, rotations, ideal).max() for frame in frames])
    if len(frames) == 0 or deviations.min() > _TOLERANCE:
        came = f"{np.degrees(deviations.min()):.0f} degrees off at best" if frames else "none turned by its angles"
        raise InputError(f"expected chains related by symmetry {symmetry}, got {came}; state the right symmetry, or C1")
    good = [frames[i] for i in np.flatnonzero(deviations < 2 * deviations.min() + 1e-3)]
    # rounded, so that equivalent frames tie and the first one wins whatever the last bits say
    return max(good, key=lambda frame: round(float(np.array([3, 2, 1]) @ np.var(points @ frame.T, axis=0)), 3))


def _axes(matrices: Matrices) -> tuple[Matrices, NDArray[np.float64]]:
    """Unit axes (zero for the identity) and angles of rotations."""
    vectors = Rotation.from_matrix(matrices).as_rotvec()
    angles = np.linalg.norm(vectors, axis=-1)
    return vectors / np.maximum(angles, 1e-12)[:, None], angles


def _turn(sources: Matrices, targets: Matrices) -> Matrices:
    """The rotation that takes unit vectors ``(n, 3)`` to their targets best; the shortest one where all are parallel."""
    if np.linalg.matrix_rank(targets, tol=0.1) < 2:
        sources, targets = sources[:1], targets[:1]
    rotation, _ = Rotation.align_vectors(targets, sources)
    return rotation.as_matrix()


def _cosines(frame: Matrices, rotations: Matrices, ideal: Matrices) -> Matrices:
    """Cosine of the angle between every ideal rotation and every measured one seen in ``frame``. Shape ``(order, n)``."""
    return (np.einsum("nij,gij->gn", frame @ rotations @ frame.T, ideal) - 1) / 2


def _deviations(frame: Matrices, rotations: Matrices, ideal: Matrices) -> NDArray[np.float64]:
    """Angle from every rotation of the group to the nearest measured one seen in ``frame``."""
    return np.arccos(np.clip(_cosines(frame, rotations, ideal).max(1), -1, 1))


def _refine(frame: Matrices, rotations: Matrices, ideal: Matrices) -> Matrices:
    """``frame`` turned so that the measured axes nearest to the group's lie on them in the least-squares sense."""
    nearest = _cosines(frame, rotations, ideal).argmax(1)
    axes, _ = _axes((frame @ rotations @ frame.T)[nearest])
    targets, angles = _axes(ideal)
    axes = axes * np.where(np.sum(targets * axes, axis=1) < 0, -1, 1)[:, None]
    used = angles > _TOLERANCE
    return _turn(axes[used], targets[used]) @ frame
