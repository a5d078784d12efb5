"""A pose refined where two volumes agree, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from cryobench.conventions import origin
from cryobench.evaluate.band import Band, Pose
from cryobench.evaluate.filters import filter_volume
from cryobench.evaluate.fsc import fsc
from cryobench.evaluate.move import MIRROR
from cryobench.evaluate.shells import Shells, spectrum
from cryobench.physics.grids import coordinates
from cryobench.types import Volume

_AGREEMENT = 0.2
"""Of the largest amplitude of what two volumes share, averaged over a resolution element: where a specimen is taken to end."""
_STEPS = 25


def refine_where_they_agree(moving: Volume, reference: Volume, pose: Pose, last: int, box: int) -> Pose:
    """The pose refined within the region where the volumes agree when they are superposed by it.

    Noise that surrounds a small specimen turns its best pose by a degree or two: it is left out. What a noise-free volume is
    superposed on hardly needs it; two noisy ones do.

    Args:
        moving: cubic volume ``(z, y, x)``, cut to the shells of a band.
        reference: of the same shape.
        pose: its shift in voxels of ``box``.
        last: shell of the band.
        box: voxels along a side before the cut.
    """
    grid = reference.shape[-1]
    here = replace(pose, shift=pose.shift * grid / box)
    forward = here.matrix @ (MIRROR if pose.mirrored else np.eye(3))  # p = forward q + shift
    mask = _mask_agreement(_resample(moving, forward.T, -forward.T @ here.shift), reference)
    band = Band((moving * _resample(mask, forward, here.shift)).float(), (reference * mask).float(), last)
    (found,) = band.refine([here], _STEPS, pace=0.05 * grid / band.last)
    return replace(found, shift=found.shift * box / grid)


def _resample(volume: Volume, matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> Volume:
    """The volume's values at ``matrix p + offset`` for every voxel ``p``: trilinear, as masks need no better; zero outside."""
    n = volume.shape[-1]
    axis = coordinates(n, volume)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    turn, shift = (torch.from_numpy(values).to(volume) for values in (matrix, offset))
    points = torch.stack([x, y, z], -1) @ turn.T + shift
    return grid_sample(volume[None, None], (points + origin(n))[None] * (2 / (n - 1)) - 1, align_corners=True)[0, 0]


def _mask_agreement(a: Volume, b: Volume) -> Volume:
    """Soft mask of where two superposed volumes hold the same: of unrelated ones, all of the box.

    What they share is estimated as their mean, filtered by shell correlation (a Wiener filter), and averaged over one
    resolution element; the mask falls off over another.
    """
    box, curve = a.shape[-1], fsc(a, b).clamp(min=0)
    filtered = spectrum(a / a.std() + b / b.std()) * Shells(box, a.device).at_shells(curve)
    # the resolution at which half of the correlation is left, in voxels
    element = box / float(2 * curve[1:].sum().clamp(min=1))
    shared = filter_volume(torch.fft.irfftn(filtered, s=(box, box, box)).square(), element / 2).clamp(min=0).sqrt()
    inside = (shared > _AGREEMENT * shared.max()).to(a.dtype)
    # 1 up to the rim, where the average over a ball is a half
    return (2 * filter_volume(inside, element)).clamp(0, 1)
