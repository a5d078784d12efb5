"""Volumes on any regular grid brought onto a cubic one by their Fourier transform: exact, nothing interpolated."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from cryobench.conventions import origin
from cryobench.interop.mrc import Vector
from cryobench.specimens.render import render_points
from cryobench.types import Volume


def resample(volume: NDArray[np.float32], sizes: Vector, box: int, voxel_size: float, band_limit: float) -> Volume:
    """A rectangular grid on a cubic one: its separable discrete Fourier transform at the new grid's frequencies, inverted.

    Args:
        volume: ``(z, y, x)``, origin at voxel ``n // 2`` of each axis, taken as zero outside.
        sizes: voxel sizes along x, y, z, angstrom.
        box: voxels along each axis of the new grid; what of ``volume`` lies beyond is cut off first.
        voxel_size: of the new grid, angstrom.
        band_limit: spatial frequency in 1/angstrom at and beyond which nothing is kept.
    """
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


def resample_skew(
    volume: NDArray[np.float32], basis: NDArray[np.float64], box: int, voxel_size: float, band_limit: float
) -> Volume:
    """The same for a cell that is not rectangular (crystallographic maps, small as a rule): every voxel a point mass.

    Columns of ``basis`` are the steps of one voxel along the cell's axes, in (x, y, z) angstrom.
    """
    indices = np.indices(volume.shape).reshape(3, -1).T - [origin(n) for n in volume.shape]
    points = indices[:, ::-1] @ basis.T
    seen = (np.abs(points) < box * voxel_size / 2).all(1)
    weights = volume.reshape(-1)[seen] * abs(np.linalg.det(basis))
    return render_points(points[seen], weights, 0.0, box, voxel_size, band_limit)
