"""Fixed soft masks: a sphere, or the shape of the specimen. Neither is ever drawn from the map under test."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage

from cryobench.errors import InputError
from cryobench.evaluate.filters import filter_volume
from cryobench.physics.grids import radius, soft_sphere
from cryobench.types import Volume

LOW_PASS = 20.0
"""Angstrom: coarse enough that secondary structure leaves no holes in a specimen's mask."""
LEVEL = 0.15
"""Of the largest low-passed density: where a specimen is taken to end."""
EXTENSION, EDGE = 5.0, 20.0
"""Angstrom by which a specimen's mask is grown, and over which it then falls off."""
LEAST_EDGE = 3.0
"""Voxels: a narrower edge correlates too many shells."""
_CUT_AT_MOST = 0.02


def make_sphere_mask(box: int, voxel_size: float, radius_in_angstroms: float | None = None) -> Volume:
    """A soft sphere about the origin voxel, of the largest radius that the box holds where none is given; float64."""
    edge = max(EDGE / voxel_size, LEAST_EDGE)
    inside = (box - 1) // 2 - edge if radius_in_angstroms is None else radius_in_angstroms / voxel_size
    if not inside > 0:
        raise InputError(f"expected a mask of a radius above 0 in a box of {box} voxels, got {inside:.3g} voxels")
    return soft_sphere(box, inside, edge, torch.zeros((), dtype=torch.float64))


def make_specimen_mask(truth: Volume, voxel_size: float) -> Volume:
    """The soft shape of a specimen: its density low-passed, cut at a level, grown, and given a raised-cosine edge.

    What is constant in the box (solvent) is taken off first, as the mean of what lies outside the inscribed sphere.

    Args:
        truth: cubic volume ``(z, y, x)`` free of noise, never the map under test.
        voxel_size: angstrom.

    Returns:
        Mask of the same shape between 0 and 1, float64.

    Raises:
        InputError: if there is nothing but solvent.
    """
    box = truth.shape[-1]
    density = truth.detach().to("cpu", torch.float64)
    density = density - density[radius(box, 3, density) > box / 2].mean()
    # a Gaussian whose transform, exp(-2 (pi deviation f)^2), has fallen to one half at the low-pass frequency
    blurred = filter_volume(density, LOW_PASS * math.sqrt(math.log(2) / 2) / (math.pi * voxel_size)).abs()
    largest = float(blurred.max())
    if not largest > 0:
        raise InputError("expected density that differs from the solvent to make a mask of, found none in the truth")
    distance = ndimage.distance_transform_edt((blurred <= LEVEL * largest).numpy())
    extension, edge = EXTENSION / voxel_size, max(EDGE / voxel_size, LEAST_EDGE)
    fall = np.clip((distance - extension) / edge, 0, 1)
    return torch.from_numpy(0.5 * (1 + np.cos(np.pi * fall)))


def find_flaws(mask: Volume, specimen: Volume | None = None) -> list[str]:
    """What is wrong with a mask that may yet be used, as sentences; none if it is well.

    Args:
        mask: cubic, between 0 and 1.
        specimen: what it is meant to hold, in the same frame, free of noise; None where unknown.

    Raises:
        InputError: if it is no mask: NaN, outside 0 to 1, empty, or of another shape than the specimen.
    """
    if not torch.isfinite(mask).all() or mask.min() < -1e-3 or mask.max() > 1 + 1e-3:
        raise InputError(
            f"expected a mask of finite values from 0 to 1, got {float(mask.min()):.3g} to {float(mask.max()):.3g}; rescale it"
        )
    if not (mask > 0.5).any():
        raise InputError("expected a mask that holds something, got one that is nowhere above 0.5")
    flaws = []
    edge = ((mask > 0.01) & (mask < 0.99)).sum()
    # one voxel's width of edge is what rounding a surface leaves
    surface = ndimage.binary_dilation((mask > 0.5).numpy()) ^ (mask > 0.5).numpy()
    if float(edge) < 1.5 * float(surface.sum()):
        flaws.append(
            "the mask has no soft edge: the cut itself correlates the maps; give it an edge of 3 voxels or more"
        )
    if specimen is not None:
        if specimen.shape != mask.shape:
            raise InputError(
                f"expected a mask of shape {tuple(specimen.shape)}, that of the maps, got {tuple(mask.shape)}; resample it"
            )
        box = specimen.shape[-1]
        density = specimen - specimen[radius(box, 3, specimen) > box / 2].mean()
        lost = 1 - float((density * mask).square().sum() / density.square().sum())
        if lost > _CUT_AT_MOST:
            flaws.append(f"the mask cuts the particle: it takes away {lost:.0%} of its power; enlarge or move it")
    return flaws
