"""A volume mirrored, rotated and shifted, as exactly as its grid allows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryobench.conventions import origin
from cryobench.errors import InputError
from cryobench.physics.grids import coordinates, radius
from cryobench.physics.symmetry import rotate_volume
from cryobench.types import Volume

MIRROR = np.diag([1.0, 1.0, -1.0])
"""The mirror that an alignment may begin with: ``(x, y, z) -> (x, y, -z)``."""


@dataclass(frozen=True)
class Alignment:
    """How to superpose a moving volume on a reference: mirror, then rotate about the origin voxel, then shift.

    Attributes:
        rotation: unit quaternion ``(x, y, z, w)``, ``w >= 0``; of all that the symmetry makes equal, the smallest.
        shift: of the content, ``(x, y, z)`` in angstrom.
        mirrored: whether ``(x, y, z) -> (x, y, -z)`` comes first.
        correlation: mean Fourier shell correlation over all coefficients, the mean density left out, up to the last shell
            in which the two volumes agree (shell 64 at most); 0 if one of them is constant.
        correlation_other_hand: the best that the other hand reaches over the same shells; None if it was not tried.
        voxel_size: angstrom.
        hand_decided: whether the found hand fits better than the other by more than noise would make it; None if the
            other was not tried.
    """

    rotation: tuple[float, float, float, float]
    shift: tuple[float, float, float]
    mirrored: bool
    correlation: float
    correlation_other_hand: float | None
    voxel_size: float
    hand_decided: bool | None = None

    @property
    def angle(self) -> float:
        """Angle of the rotation in radians."""
        return float(Rotation.from_quat(self.rotation).magnitude())

    @property
    def hand(self) -> str:
        """``"same"``, ``"mirrored"`` or, where the volumes do not tell, ``"undecided"``."""
        if self.hand_decided is False:
            return "undecided"
        return "mirrored" if self.mirrored else "same"

    def inverse(self) -> Alignment:
        """The alignment that takes the reference to the moving volume: again mirror, rotate, shift, in this order."""
        flip = MIRROR if self.mirrored else np.eye(3)
        # M R' S_-t = S_-(R'' t) R'' M  with R' the transpose of R and R'' = M R' M
        matrix = flip @ Rotation.from_quat(self.rotation).as_matrix().T
        return replace(self, rotation=as_quaternion(matrix @ flip), shift=as_triple(-matrix @ np.asarray(self.shift)))


def as_triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Three numbers as a tuple."""
    x, y, z = (float(v) + 0.0 for v in values)  # + 0.0 turns -0.0 into 0.0
    return x, y, z


def as_quaternion(matrix: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Unit quaternion ``(x, y, z, w)``, ``w >= 0``, of a rotation matrix."""
    x, y, z, w = (float(v) + 0.0 for v in Rotation.from_matrix(matrix).as_quat(canonical=True))
    return x, y, z, w


def apply(alignment: Alignment, volume: Volume) -> Volume:
    """The volume mirrored, rotated and shifted; on the device and in the dtype of ``volume``.

    Exact (voxels only change places) for the identity and for rotations that map the grid onto itself, if the shift is of
    whole voxels. A fraction of a voxel is a phase factor. Any other rotation is interpolated by quintic splines from the
    volume cut to its Nyquist sphere and resampled to twice the box, which costs a few parts in 1e5 (tested).
    Shifts and mirrors are periodic. Corners of the box that a rotated box leaves empty keep what they held before the rotation,
    so that noise is as strong there as elsewhere; they are outside the inscribed sphere.
    """
    if volume.ndim != 3 or len(set(volume.shape)) != 1:
        raise InputError(f"expected a cubic volume (z, y, x) to move, got {tuple(volume.shape)}")
    matrix = Rotation.from_quat(alignment.rotation).as_matrix()
    shift = np.asarray(alignment.shift) / alignment.voxel_size
    if alignment.mirrored:
        volume = volume.flip(0) if volume.shape[0] % 2 else volume.flip(0).roll(1, 0)
    permutation = np.round(matrix)
    if np.abs(matrix - permutation).max() > 1e-9:
        return _interpolate(volume, matrix, shift)
    volume = rotate_volume(volume, torch.from_numpy(permutation))
    whole = np.round(shift)
    if np.abs(shift - whole).max() < 1e-9:
        return volume.roll([int(s) for s in whole[::-1]], (0, 1, 2))
    return _real_volume(_shifted_spectrum(volume, shift)).to(volume)


def _shifted_spectrum(volume: Volume, shift: NDArray[np.float64]) -> Tensor:
    """Spectrum of the shifted volume inside the Nyquist sphere, zero frequency at the origin voxel, double precision."""
    n = volume.shape[-1]
    spectrum = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(volume.to(torch.float64))))
    axis = coordinates(n, spectrum.real)
    x, y, z = (torch.polar(torch.ones_like(axis), -2 * torch.pi * axis * float(s) / n) for s in shift)
    return spectrum * (radius(n, 3, axis) < n / 2) * z[:, None, None] * y[:, None] * x


def _real_volume(spectrum: Tensor) -> Tensor:
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(spectrum))).real


def _resample_twice(spectrum: Tensor) -> NDArray[np.float64]:
    """The real volume of a centred spectrum on a grid twice as fine, its origin at voxel 0."""
    n = spectrum.shape[-1]
    half = torch.zeros(2 * n, 2 * n, n + 1, dtype=spectrum.dtype)
    rows = torch.arange(n) - origin(n)  # negative ones count from the end
    half[rows[:, None], rows[None], : n - origin(n)] = spectrum[:, :, origin(n) :]
    return 8 * torch.fft.irfftn(half, s=(2 * n, 2 * n, 2 * n)).numpy()


def _interpolate(volume: Volume, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Volume:
    n = volume.shape[-1]
    # S_t R = R S_u with u = R^T t: the shift goes first, periodic and without interpolation
    fine = _resample_twice(_shifted_spectrum(volume, shift @ matrix).cpu())
    axis = np.arange(n) - origin(n)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack([x, y, z], -1) @ matrix  # rows: R^T p
    values = ndimage.map_coordinates(fine, 2 * np.moveaxis(points[..., ::-1], -1, 0), order=5, mode="grid-wrap")
    kept = fine[np.ix_(*[2 * axis % (2 * n)] * 3)]
    outside = np.abs(points).max(-1) > n / 2
    return torch.from_numpy(np.where(outside, kept, values)).to(volume)
