"""Best superposition of one volume on another over rotation, shift and hand.

``aligned = S_t R M moving``: an optional mirror ``M: (x, y, z) -> (x, y, -z)`` first, then the rotation about the origin voxel,
then the shift. Both volumes are faded out towards the inscribed sphere for the search (and for it alone). It goes from
coarse to fine over Fourier shells: all rotations and, through FFTs, all shifts of both hands; then gradient ascent on the
log-likelihood that the shell correlations amount to, from the best few of each hand, and once more within the region where
the superposed volumes agree. The result does not depend on chance, and everything happens on the device of the moving volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.agreement import refine_where_they_agree
from cryobench.evaluate.band import Band, Pose, distance, stack
from cryobench.evaluate.fsc import fsc
from cryobench.evaluate.move import MIRROR, Alignment, apply, as_quaternion, as_triple
from cryobench.evaluate.shells import Shells
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.physics.grids import soft_sphere
from cryobench.physics.rotation import spread_quaternions
from cryobench.physics.symmetry import symmetry_rotations
from cryobench.types import Curve, Volume

__all__ = ["Alignment", "align", "apply"]

COARSE_RADIUS = 6
"""Shells of the first search."""
COARSE_ROTATIONS = 4608
"""About 15 degrees apart: at the edge of a molecule that fills half the box, well under a period of the last coarse shell."""
MOST_SHELLS = 64
"""Of any comparison: volumes that agree so far are superposed to a few hundredths of a degree, and more shells cost much."""
REFINED_RADII = ((10, 2), (20, 1))
"""Shells of each refinement but the last, and how many candidates of a hand outlive it."""
CANDIDATES = 5
SLACK = 40.0
"""How much a simpler pose may lose of ``sum count log(1 - FSC^2)``: six fitted numbers gain 6 on average and rarely 12, times 3.3
because a masked volume has that many fewer independent coefficients."""
_MASKED, _DECIDED = 3.3, 3.0
"""That factor, and standard deviations by which a hand must win."""
SNAP_ANGLE = np.deg2rad(3.0)


def align(
    moving: Volume, reference: Volume, voxel_size: float, symmetry: str = "C1", allow_mirror: bool = True
) -> Alignment:
    """Find the mirror, rotation and shift that superpose ``moving`` on ``reference``.

    Simple poses win ties: the identity, then rotations that map the grid onto itself, are preferred to what the search
    found if they score no worse within the sampling error of six fitted numbers, so volumes that are aligned stay as they are.

    Args:
        moving: cubic volume ``(z, y, x)``.
        reference: of the same shape.
        voxel_size: angstrom.
        symmetry: point group of the moving volume, main axis on z; the search leaves out what it makes equal, unless the
            volume plainly lacks it.
        allow_mirror: also try the other hand.

    Raises:
        InputError: if the volumes are not cubic, not of one shape, or not finite.
    """
    for volume, name in ((moving, "moving"), (reference, "reference")):
        if volume.ndim != 3 or len(set(volume.shape)) != 1 or volume.shape != moving.shape:
            raise InputError(
                f"expected two cubic volumes of one shape, got {tuple(moving.shape)}, {tuple(reference.shape)}"
            )
        if not torch.isfinite(volume).all():
            raise InputError(f"expected finite densities, the {name} volume holds NaN or infinity; repair it first")
    identity = Pose(np.eye(3), np.zeros(3), False)
    hands = (False, True) if allow_mirror else (False,)
    moving, reference = (
        _without_surroundings(v.detach().to(moving.device, torch.float64)) for v in (moving, reference)
    )
    if not (moving.any() and reference.any()):
        unknown = _alignment(identity, 0.0, 0.0 if allow_mirror else None, voxel_size)
        return replace(unknown, hand_decided=False if allow_mirror else None)
    group = _group_shown(moving, symmetry)
    found = _search_hands(moving, reference, hands, group)
    band, agreed, found = _refine_to_the_end(moving, reference, found)
    box, grid = moving.shape[-1], min(moving.shape[-1], 2 * band.last + 4)
    moving, reference = fourier_crop_volumes(moving, grid), fourier_crop_volumes(reference, grid)
    found = [refine_where_they_agree(moving, reference, pose, band.last, box) for pose in found]
    # score again as the result will be applied: exactly, or with the interpolation of `apply`

    def judge(pose: Pose) -> _Judged:
        curve = fsc(_move(pose, moving, box), reference)[1 : band.last + 1]
        return _Judged(pose, curve, float(band.information(curve)), float(band.mean(curve[:agreed])))

    judged = sorted((judge(pose) for pose in found), key=lambda j: -j.score)
    best = judged[0]
    slack = SLACK / float(band.count.sum())
    for pose in _simpler_poses(best.pose, group):
        if np.array_equal(pose.matrix, best.pose.matrix) and np.array_equal(pose.shift, best.pose.shift):
            break
        simple = judge(pose)
        if simple.score >= best.score - slack:
            best = simple
            break
    other = next((j for j in judged if j.pose.mirrored != best.pose.mirrored), None)
    if other is None:
        return _alignment(best.pose, best.correlation, None, voxel_size)
    decided = _is_decided(best, other, band.count)
    return replace(_alignment(best.pose, best.correlation, other.correlation, voxel_size), hand_decided=decided)


@dataclass(frozen=True)
class _Judged:
    """A candidate that was applied and compared."""

    pose: Pose
    curve: Curve
    score: float
    correlation: float


def _is_decided(best: _Judged, other: _Judged, count: Tensor) -> bool:
    """Whether one hand scores higher than noise would let it if the specimen were its own mirror image.

    Each hand's correlation then has the same expectation, and of a shell with ``n`` coefficients the two differ by
    ``sqrt(2 / n) (1 - F)`` or so; of the score ``-n log(1 - F^2)`` that is ``sqrt(8 n) F / (1 + F)``. A mask
    leaves 3.3 times fewer independent coefficients.
    """
    mean = ((best.curve + other.curve) / 2).clamp(min=0)
    deviation = (_MASKED * 8 * (count * (mean / (1 + mean)) ** 2).sum()).sqrt()
    return float((best.score - other.score) * count.sum()) > SLACK + _DECIDED * float(deviation)


def _without_surroundings(volume: Volume) -> Volume:
    """The volume faded out towards the inscribed sphere, after the mean of what lies outside that sphere was taken off.

    Most of a box is solvent: leaving its noise out makes the search two to three times as exact. The largest density is
    scaled to 1; a volume that is constant to six digits comes back as zeros.
    """
    box = volume.shape[-1]
    mask = soft_sphere(box, 0.35 * box, 0.15 * box, volume)
    faded = (volume - volume[mask == 0].mean()) * mask
    largest = faded.abs().max()
    return faded / largest if largest > 1e-6 * volume.abs().max() else torch.zeros_like(volume)


def _alignment(pose: Pose, score: float, other: float | None, voxel_size: float) -> Alignment:
    return Alignment(
        as_quaternion(pose.matrix), as_triple(pose.shift * voxel_size), pose.mirrored, score, other, voxel_size
    )


def _group_shown(volume: Volume, symmetry: str) -> NDArray[np.float64]:
    """Rotation matrices of the point group; the identity alone if the volume does not look alike under every one of them."""
    group = symmetry_rotations(symmetry).numpy()
    band = Band(volume, volume, COARSE_RADIUS)
    curves = band.curves(*stack([Pose(g, np.zeros(3), False) for g in group], volume))
    return group if bool((band.mean(curves) > 0.5).all()) else np.eye(3)[None]


def _equivalents(pose: Pose, group: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations that a symmetric moving volume cannot tell from the pose's: ``R M g M``."""
    flip = MIRROR if pose.mirrored else np.eye(3)
    return pose.matrix @ (flip @ group @ flip)


def _search_hands(moving: Volume, reference: Volume, hands: tuple[bool, ...], group: NDArray[np.float64]) -> list[Pose]:
    """The best few poses of each hand, from all rotations and shifts, refined over the lower shells."""
    matrices = Rotation.from_quat(spread_quaternions(COARSE_ROTATIONS)).as_matrix()
    # a rotation that an element of the group brings nearer to the identity is left out; the trace falls with the angle
    traces = np.einsum("rij,gji->rg", matrices, group)
    matrices = matrices[np.trace(matrices, axis1=1, axis2=2) >= traces.max(1) - 1e-9]
    coarse = Band(moving.float(), reference.float(), COARSE_RADIUS)
    found = [p for hand in hands for p in coarse.search(matrices, hand, CANDIDATES, apart=np.deg2rad(20.0))]
    for last, keep in REFINED_RADII:
        band = Band(moving.float(), reference.float(), last)
        found = sorted(band.refine(found, 25, pace=0.1 * band.box / band.last), key=lambda pose: -pose.score)
        found = [pose for hand in hands for pose in [p for p in found if p.mirrored == hand][:keep]]
    return found


def _refine_to_the_end(moving: Volume, reference: Volume, found: list[Pose]) -> tuple[Band, int, list[Pose]]:
    """A band that ends a little past the last shell in which the volumes agree, that shell, and the poses refined over it."""
    best, box = max(found, key=lambda pose: pose.score), moving.shape[-1]
    agreed = _last_agreed(best, moving, reference, min(box, 2 * MOST_SHELLS + 4))
    band = Band(moving.float(), reference.float(), min(agreed + 4, MOST_SHELLS))
    return band, agreed, band.refine(found, 20, pace=0.05 * band.box / band.last)


def _last_agreed(pose: Pose, moving: Volume, reference: Volume, grid: int) -> int:
    """The last shell in which the superposed volumes agree, of those that a coarser grid holds."""
    box = moving.shape[-1]
    moved = _move(pose, fourier_crop_volumes(moving, grid), box)
    curve = fsc(moved, fourier_crop_volumes(reference, grid))[1 : (grid - 1) // 2 + 1]
    count = Shells(grid, curve.device).sum(curve.new_ones(grid, grid, grid // 2 + 1))[1 : len(curve) + 1]
    # the shell before which agreement above 0.143 and lack of it balance best: one odd shell does not end the band
    return 1 + int((count * (curve - 0.143)).cumsum(0).argmax())


def _move(pose: Pose, cropped: Volume, box: int) -> Volume:
    """A volume cut to fewer voxels over the field of view of ``box``, moved by a pose whose shift is in voxels of the latter."""
    return apply(replace(_alignment(pose, 0.0, None, 1.0), voxel_size=box / cropped.shape[-1]), cropped)


def _simpler_poses(best: Pose, group: NDArray[np.float64]) -> Iterator[Pose]:
    """What to prefer to the best pose if it scores no worse, simplest first."""
    yield Pose(np.eye(3), np.zeros(3), False)
    equivalents = _equivalents(best, group)
    smallest = equivalents[np.trace(equivalents, axis1=1, axis2=2).argmax()]
    octahedral = symmetry_rotations("O").numpy()
    nearest = octahedral[np.square(octahedral - smallest).sum((1, 2)).argmin()]
    if distance(nearest, smallest) < SNAP_ANGLE:
        yield replace(best, matrix=nearest, shift=np.zeros(3))
        yield replace(best, matrix=nearest, shift=np.round(best.shift))
        yield replace(best, matrix=nearest)
    yield replace(best, matrix=smallest)
