"""Density maps (MRC, CCP4) as specimens: any box, axis order and cell, put on a cubic grid by their Fourier transform."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from cryobench.conventions import origin
from cryobench.errors import InputError
from cryobench.interop.mrc import MapFile, Vector, read_map
from cryobench.specimens.base import Specimen
from cryobench.specimens.gaussians import render_points
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
        volume, _, header = self.file
        band_limit = min(_band_limit(self.basis), 0.5 / voxel_size)
        if np.abs(np.array(header.angles) - 90).max() > _RIGHT_ANGLE:
            return _resample_skew(volume, self.basis, box, voxel_size, band_limit)
        return _resample(volume, self.voxel_sizes, box, voxel_size, band_limit)

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
    def basis(self) -> NDArray[np.float64]:
        """Columns: the steps of one voxel along the cell's axes a, b, c, in (x, y, z) angstrom; a on x, b in the x-y plane."""
        alpha, beta, gamma = np.radians(self.file.header.angles)
        cx, cy = np.cos(beta), (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
        directions = [[1, np.cos(gamma), cx], [0, np.sin(gamma), cy], [0, 0, np.sqrt(1 - cx**2 - cy**2)]]
        return np.array(directions) * np.array(self.voxel_sizes)


def _band_limit(basis: NDArray[np.float64]) -> float:
    """Radius in 1/angstrom of the largest sphere inside the sampling's Nyquist cell: half the shortest reciprocal step."""
    return 0.5 * float(np.linalg.norm(np.linalg.inv(basis), axis=1).min())


def _resample(volume: NDArray[np.float32], sizes: Vector, box: int, voxel_size: float, band_limit: float) -> Volume:
    """Separable discrete Fourier transform of a rectangular grid at the cubic grid's frequencies, inverted."""
    length = box * voxel_size
    full, half = scipy.fft.fftfreq(box, 1 / box), scipy.fft.rfftfreq(box, 1 / box)
    spectrum: NDArray[Any] = volume
    for axis, frequencies, size in ((2, half, sizes[0]), (1, full, sizes[1]), (0, full, sizes[2])):
        position = (np.arange(volume.shape[axis]) - origin(volume.shape[axis])) * size
        seen = (position >= -length / 2 - 1e-3 * size) & (position < length / 2 - 1e-3 * size)
        angle = -2 * np.pi * np.outer(position[seen], frequencies) / length
        columns = np.ascontiguousarray(np.moveaxis(spectrum.compress(seen, axis), axis, -1))
        if spectrum is volume:  # real: two real products cost half of a complex one
            transformed = columns @ np.cos(angle).astype(np.float32) + 1j * (columns @ np.sin(angle).astype(np.float32))
        else:
            transformed = columns @ np.exp(1j * angle).astype(np.complex64)
        spectrum = np.moveaxis(transformed, -1, axis)
    k2 = full[:, None, None] ** 2 + full[:, None] ** 2 + half**2
    spectrum = spectrum * ((k2 < (band_limit * length) ** 2) * np.float32(np.prod(sizes) / voxel_size**3))
    return torch.from_numpy(scipy.fft.fftshift(scipy.fft.irfftn(spectrum, s=(box, box, box))))


def _resample_skew(
    volume: NDArray[np.float32], basis: NDArray[np.float64], box: int, voxel_size: float, band_limit: float
) -> Volume:
    """The same for a cell that is not rectangular (crystallographic maps, small as a rule): every voxel a point mass."""
    indices = np.indices(volume.shape).reshape(3, -1).T - [origin(n) for n in volume.shape]
    points = indices[:, ::-1] @ basis.T
    seen = (np.abs(points) < box * voxel_size / 2).all(1)
    weights = volume.reshape(-1)[seen] * abs(np.linalg.det(basis))
    return render_points(points[seen], weights, 0.0, box, voxel_size, band_limit)
