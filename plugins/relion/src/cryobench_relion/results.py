"""What RELION found, in our units and conventions: density, poses and shifts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from cryobench.errors import PluginError
from cryobench.interop.mrc import read_map
from cryobench.interop.relion import read_particles
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.reconstruct.contract import Observed
from cryobench.types import Images, Rotations, Shifts, Volume

MOST_IMAGES: Final = 1000
"""From which the scale of the map is measured."""
BLOCK: Final = 250


@dataclass(frozen=True)
class Poses:
    """Of all images of a half-set: ``rotations (particle, 3, 3)``, ``shifts (particle, 2)`` in angstrom."""

    rotations: Rotations
    shifts: Shifts


def read_density(path: Path, noise: float, voxel_size: float) -> Volume:
    """A map as density: RELION sums voxels along the beam where we integrate in angstrom, of images in units of their noise."""
    return torch.as_tensor(read_map(path).volume.astype(np.float32)) * (noise / voxel_size)


def read_poses(path: Path, particles: int) -> Poses | None:
    """Poses and shifts in the order of the images; None where RELION gave none.

    Raises:
        PluginError: if the table is not of these images.
    """
    table = read_particles(path)
    if not np.array_equal(np.sort(table.index), np.arange(particles)):
        raise PluginError(f"expected RELION's table of all {particles} images, got one of {len(table)}")
    if table.quaternion is None or table.shift is None:
        return None
    order = np.argsort(table.index)
    quaternions, shifts = (torch.as_tensor(values[order]) for values in (table.quaternion, table.shift))
    return Poses(quaternion_to_matrix(quaternions).float(), shifts.float())


def fit_scale(volume: Volume, observed: Observed, poses: Poses, examples: int) -> tuple[float, Images]:
    """The factor of the volume that explains the images best by least squares, and the first images that it gives unscaled.

    RELION's own scale is that of its regularised map and images masked by a soft edge.
    """
    product = square = 0.0
    first: list[Images] = []
    for start in range(0, min(len(observed), MOST_IMAGES), BLOCK):
        rows = slice(start, min(start + BLOCK, MOST_IMAGES, len(observed)))
        batch = observed.read(rows)
        operator = ImagingOperator(
            observed.box,
            observed.voxel_size,
            poses.rotations[rows],
            poses.shifts[rows],
            batch.ctf.to(volume),
            detector=observed.detector,
        )
        images = operator(volume)
        product += float((images.double() * batch.images).sum())
        square += float(images.double().square().sum())
        first.append(images[:examples])
    scale = product / square if product > 0 and square > 0 else 1.0
    return scale, first[0]
