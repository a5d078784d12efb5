"""Density maps (MRC, CCP4) as specimens: any box, axis order and cell, put on a cubic grid by their Fourier transform."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.mrc import MapFile, Vector, read_map
from cryobench.specimens.base import Specimen
from cryobench.specimens.resample import resample, resample_skew
from cryobench.types import Volume

_RIGHT_ANGLE = 1e-3


@dataclass(frozen=True)
class DensityMap(Specimen):
    """A map from a file, resampled to any cubic grid.

    The box's centre, voxel ``n // 2`` of each axis, is put on the origin, as the programs that reconstruct single particles
    have it; ``nstart`` and the origin field do not move it. The map is taken as band-limited to the sphere inside its own
    Nyquist frequency and as zero outside its box. Its Fourier transform is evaluated exactly at the frequencies of the new
    grid, within both Nyquist spheres, so nothing is interpolated. What lies beyond the new field of view is cut off first.

    Attributes:
        name: what the catalogue calls it.
        path: the file.
        symmetry: point group, its axes already on the grid's.
        voxel_size: angstrom; overrides the header's, and is needed where the header says 0.
        description: one line for people.
    """

    name: str
    path: Path
    symmetry: str = "C1"
    voxel_size: float | None = None
    description: str = "density map"

    def density(self, box: int, voxel_size: float) -> Volume:
        """The map's own values and units; see :meth:`cryobench.specimens.base.Specimen.density`."""
        volume = self.file.volume
        band_limit = min(_band_limit(self.basis), 0.5 / voxel_size)
        if np.abs(np.array(self.angles) - 90).max() > _RIGHT_ANGLE:
            return resample_skew(volume, self.basis, box, voxel_size, band_limit)
        return resample(volume, self.voxel_sizes, box, voxel_size, band_limit)

    def facts(self) -> list[tuple[str, str]]:
        """Its file, grid and units."""
        nz, ny, nx = self.file.volume.shape
        sizes = self.voxel_sizes
        return [
            ("file", str(self.path)),
            ("grid", f"{nx} x {ny} x {nz} voxels of {' x '.join(f'{size:.4g}' for size in sizes)} Å (x, y, z)"),
            ("units", "those of the file"),
        ]

    @cached_property
    def file(self) -> MapFile:
        """What was read."""
        return read_map(self.path)

    @property
    def voxel_sizes(self) -> Vector:
        """Angstrom along x, y, z: the header's unless ``voxel_size`` overrides it."""
        if self.voxel_size is not None:
            if not self.voxel_size > 0:
                raise InputError(f"expected a voxel_size above 0 Å for {self.path}, got {self.voxel_size:g}")
            return (self.voxel_size,) * 3
        if min(self.file.header.voxel_sizes) <= 0:
            raise InputError(
                f"expected a voxel size in the header of {self.path}, got {self.file.header.voxel_sizes}; "
                "state it in angstrom with the option voxel_size"
            )
        return self.file.header.voxel_sizes

    @property
    def angles(self) -> Vector:
        """Of the cell, degrees: (alpha, beta, gamma); right ones where the header says 0, as some programs leave it."""
        angles = self.file.header.angles
        if not any(angles):
            return (90.0, 90.0, 90.0)
        alpha, beta, gamma = angles
        if not (min(angles) > 0 and alpha + beta + gamma < 360 and 2 * max(angles) < alpha + beta + gamma):
            raise InputError(
                f"expected cell angles that make a cell in the header of {self.path}, got {angles} degrees"
            )
        return angles

    @property
    def basis(self) -> NDArray[np.float64]:
        """Columns: the steps of one voxel along the cell's axes a, b, c, in (x, y, z) angstrom; a on x, b in the x-y plane."""
        alpha, beta, gamma = np.radians(self.angles)
        cx, cy = np.cos(beta), (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
        directions = [[1, np.cos(gamma), cx], [0, np.sin(gamma), cy], [0, 0, np.sqrt(1 - cx**2 - cy**2)]]
        return np.array(directions) * np.array(self.voxel_sizes)


def _band_limit(basis: NDArray[np.float64]) -> float:
    """Radius in 1/angstrom of the largest sphere inside the sampling's Nyquist cell: half the shortest reciprocal step."""
    return 0.5 * float(np.linalg.norm(np.linalg.inv(basis), axis=1).min())
