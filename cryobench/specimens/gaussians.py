"""Sums of isotropic Gaussians: their density on any grid, and their projections in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.physics.grids import coordinates, half_frequencies, inside_nyquist
from cryobench.types import Images, Rotations, Shifts, Spectra, Volume

_TAPS = 6
_OVERSAMPLING = 1.5
_POINTS_AT_A_TIME = 4096


@dataclass(frozen=True)
class GaussianMixture:
    """``f(p) = sum_j w_j N(p; c_j, width^2)``: point masses blurred by one normalised isotropic Gaussian.

    Attributes:
        centres: ``(point, xyz)`` in angstrom, float64.
        weights: ``(point,)``, the integral of each Gaussian.
        width: standard deviation in angstrom.
    """

    centres: NDArray[np.float64]
    weights: NDArray[np.float64]
    width: float

    @cached_property
    def support_radius(self) -> float:
        """Radius in angstrom of the sphere round the origin that holds every Gaussian out to three widths."""
        return float(np.linalg.norm(self.centres, axis=1).max()) + 3 * self.width

    def density(self, box: int, voxel_size: float) -> Volume:
        """Density per cubic angstrom on a cubic grid; see :func:`render_points`.

        Raises:
            InputError: the mixture does not fit into the field of view in every pose.
        """
        if box * voxel_size < 2 * self.support_radius:
            raise InputError(
                f"expected a field of view of at least {2 * self.support_radius:.0f} Å for a specimen of radius "
                f"{self.support_radius:.0f} Å, got {box} voxels of {voxel_size:g} Å = {box * voxel_size:.0f} Å; "
                "enlarge the box or the voxel size"
            )
        return render_points(self.centres, self.weights, self.width, box, voxel_size)

    def project(self, rotations: Rotations, shifts: Shifts, box: int, pixel_size: float) -> Images:
        """Exact integrals along the beam, per square angstrom, sampled at the pixels' centres.

        A point ``p`` lands at ``(R p)[:2] + shift`` and a Gaussian integrates to a Gaussian, so each image is
        ``sum_j w_j N(x; x_j, width^2) N(y; y_j, width^2)``.

        Args:
            rotations: poses, ``(batch, 3, 3)``.
            shifts: ``(batch, 2)`` in angstrom.
            box: pixels along each axis.
            pixel_size: angstrom.
        """
        landed, weights = self._land(rotations, shifts)
        axis = coordinates(box, landed) * pixel_size
        squares = (landed[:, None] - axis[:, None, None]).square()  # (batch, pixel, point, xy)
        profiles = torch.exp(squares / (-2 * self.width**2)) / (self.width * (2 * torch.pi) ** 0.5)
        return torch.einsum("biq,bjq->bij", profiles[..., 1] * weights, profiles[..., 0])

    def transform_projections(self, rotations: Rotations, shifts: Shifts, box: int, pixel_size: float) -> Spectra:
        """Exact Fourier transforms of the projections, as :func:`cryobench.physics.fourier.transform_images` would have them.

        Only frequencies strictly inside the Nyquist disc are kept: inverted, these are the projections band-limited to the
        grid, with nothing aliased. Arguments as in :meth:`project`.
        """
        landed, weights = self._land(rotations, shifts)
        kx, ky = half_frequencies(box, landed)
        length = box * pixel_size
        blur = torch.exp(-2 * (torch.pi * self.width / length) ** 2 * (kx**2 + ky**2)) * inside_nyquist(box, kx)
        turn_x = torch.exp(-2j * torch.pi * kx[0, :, None] * landed[:, None, :, 0] / length)
        turn_y = torch.exp(-2j * torch.pi * ky[:, 0, None] * landed[:, None, :, 1] / length)
        return torch.einsum("biq,bjq->bij", turn_y * weights, turn_x) * blur / pixel_size**2

    def _land(self, rotations: Rotations, shifts: Shifts) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the centres land in the image plane, ``(batch, point, xy)`` in angstrom, and the weights in that dtype."""
        centres = torch.from_numpy(self.centres).to(rotations)
        landed = torch.einsum("bij,qj->bqi", rotations[:, :2], centres) + shifts[:, None].to(rotations)
        return landed, torch.from_numpy(self.weights).to(rotations)


def render_points(
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    width: float,
    box: int,
    voxel_size: float,
    band_limit: float = np.inf,
) -> Volume:
    """Density of Gaussians on a cubic grid, cut strictly inside its Nyquist sphere. Float32 ``(z, y, x)``, per cubic angstrom.

    Synthesised from the Gaussians' own Fourier transform at the grid's frequencies, so nothing aliases however narrow they
    are: it equals the Fourier crop of an infinitely fine grid, periodic over the box. What that leaves of Gaussians narrower than
    about one voxel is ringing, as in any Fourier crop. The result does not depend on the number of threads.

    Args:
        points: centres ``(point, xyz)`` in angstrom from the origin.
        weights: integrals ``(point,)``.
        width: standard deviation of all Gaussians in angstrom; 0 for bare points.
        box: voxels along each axis.
        voxel_size: angstrom.
        band_limit: spatial frequency in 1/angstrom at and beyond which nothing is kept, where that is below the Nyquist.
    """
    length = box * voxel_size
    spectrum = _point_spectrum(points / length, weights, box)
    full, half = scipy.fft.fftfreq(box, 1 / box), scipy.fft.rfftfreq(box, 1 / box)
    blur_full, blur_half = (np.exp(-2 * (np.pi * width / length * k) ** 2) for k in (full, half))
    k2 = full[:, None, None] ** 2 + full[:, None] ** 2 + half**2
    spectrum *= k2 < min(box / 2, band_limit * length) ** 2
    spectrum *= (blur_full[:, None, None] * blur_full[:, None] * blur_half / voxel_size**3).astype(np.float32)
    return torch.from_numpy(scipy.fft.fftshift(scipy.fft.irfftn(spectrum, s=(box, box, box), overwrite_x=True)))


def _point_spectrum(points: NDArray[np.float64], weights: NDArray[np.float64], box: int) -> NDArray[np.complex64]:
    """``sum_j w_j exp(-2 pi i k c_j)`` at the half-space frequencies of a box, ``points`` in boxes, order (x, y, z).

    A non-uniform FFT: each point is spread over ``_TAPS^3`` voxels of a finer grid by a Kaiser-Bessel kernel, and the transform
    is cropped and divided by the kernel's (Beatty, Nishimura & Pauly 2005, eq. 3-5: about 1e-5 of the largest coefficient here).
    """
    fine = scipy.fft.next_fast_len(int(np.ceil(_OVERSAMPLING * box)) + _TAPS, real=True)
    beta = np.pi * np.sqrt((_TAPS * (1 - 0.5 * box / fine)) ** 2 - 0.8)
    grid = np.zeros(fine**3, np.float32)
    for start in range(0, len(points), _POINTS_AT_A_TIME):
        position = points[start : start + _POINTS_AT_A_TIME] * fine
        first = np.ceil(position - _TAPS / 2)
        taps = first[:, :, None] + np.arange(_TAPS)  # (point, xyz, tap)
        distance = (taps - position[:, :, None]) * (2 / _TAPS)
        kernel = np.i0(beta * np.sqrt(np.clip(1 - distance**2, 0, None)))
        x, y, z = np.moveaxis(kernel, 1, 0)
        ix, iy, iz = np.moveaxis(taps.astype(np.int64) % fine, 1, 0)
        z = z * weights[start : start + _POINTS_AT_A_TIME, None]
        index = (iz[:, :, None, None] * fine + iy[:, None, :, None]) * fine + ix[:, None, None]
        values = z[:, :, None, None] * y[:, None, :, None] * x[:, None, None]
        np.add.at(grid, index.ravel(), values.ravel().astype(np.float32))
    spectrum = scipy.fft.rfftn(grid.reshape(fine, fine, fine), overwrite_x=True)

    positive, negative = (box + 1) // 2, box // 2
    keep = np.r_[:positive, fine - negative : fine]
    spectrum = spectrum[keep][:, keep, : box // 2 + 1]
    full, half = (
        _kernel_transform(k / fine, beta) for k in (np.fft.fftfreq(box, 1 / box), np.fft.rfftfreq(box, 1 / box))
    )
    spectrum /= (full[:, None, None] * full[:, None] * half).astype(np.float32)
    return spectrum


def _kernel_transform(frequency: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Fourier transform of the Kaiser-Bessel kernel ``I0(beta sqrt(1 - (2 u / taps)^2))`` at cycles per fine voxel."""
    root = np.sqrt(beta**2 - (np.pi * _TAPS * frequency) ** 2)
    return _TAPS * np.sinh(root) / root
