"""Gaussians at points, put on a cubic grid: band-limited through their Fourier transform, or sampled and averaged."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

from cryobench.conventions import origin
from cryobench.types import Volume

_TAPS = 6
_OVERSAMPLING = 1.5
_POINTS_AT_A_TIME = 4096
_NODES = 64
_TOLERANCE = 1e-6
_CUTOFF = 6.0

Points: TypeAlias = NDArray[np.float64]
Widths: TypeAlias = float | NDArray[np.float64]


def render_points(
    points: Points,
    weights: Points,
    width: Widths,
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
        width: standard deviation of the Gaussians in angstrom, one for all or ``(point,)``; 0 for bare points.
        box: voxels along each axis.
        voxel_size: angstrom.
        band_limit: spatial frequency in 1/angstrom at and beyond which nothing is kept, where that is below the Nyquist.
    """
    length = box * voxel_size
    full, half = scipy.fft.fftfreq(box, 1 / box), scipy.fft.rfftfreq(box, 1 / box)
    k2 = full[:, None, None] ** 2 + full[:, None] ** 2 + half**2
    limit = min(box / 2, band_limit * length) ** 2
    if isinstance(width, np.ndarray):
        spectrum = _spectrum_of_widths(points / length, weights, width / length, box, k2, limit)
        spectrum *= np.float32(1 / voxel_size**3)
    else:
        spectrum = _point_spectrum(points / length, weights, box)
        blur_full, blur_half = (np.exp(-2 * (np.pi * width / length * k) ** 2) for k in (full, half))
        spectrum *= (blur_full[:, None, None] * blur_full[:, None] * blur_half / voxel_size**3).astype(np.float32)
    spectrum *= k2 < limit
    return torch.from_numpy(scipy.fft.fftshift(scipy.fft.irfftn(spectrum, s=(box, box, box), overwrite_x=True)))


def sample_points(points: Points, weights: Points, width: Widths, box: int, voxel_size: float, average: int) -> Volume:
    """Gaussians sampled at the voxels of an ``average`` times finer grid, then averaged over cubes of ``average`` voxels.

    Each cube's centre is a voxel of the grid that comes out. Nothing is band-limited: what the fine grid and the averaging leave
    beyond the Nyquist frequency aliases. Gaussians end at six standard deviations. Float32 ``(z, y, x)``, per cubic angstrom.

    Args:
        points: centres ``(point, xyz)`` in angstrom from the origin, all within the field of view with their Gaussians.
        weights: integrals ``(point,)``.
        width: standard deviation above 0, one for all or ``(point,)``, angstrom.
        box: voxels along each axis, after averaging.
        voxel_size: after averaging, angstrom.
        average: voxels of the fine grid along an edge of the cube.
    """
    widths = np.broadcast_to(np.asarray(width, dtype=np.float64), len(points)) / voxel_size
    order = np.argsort(widths, kind="stable")  # chunks of like widths need like numbers of voxels
    offsets = (np.arange(average) - (average - 1) / 2) / average
    grid = np.zeros(box**3)
    for start in range(0, len(points), _POINTS_AT_A_TIME):
        chosen = order[start : start + _POINTS_AT_A_TIME]
        position, sd = points[chosen] / voxel_size + origin(box), widths[chosen]
        reach = int(np.ceil(_CUTOFF * sd[-1] + 0.5))
        taps = np.round(position).astype(np.int64)[:, :, None] + np.arange(-reach, reach + 1)
        distance = taps[..., None] + offsets - position[:, :, None, None]  # (point, xyz, tap, offset)
        profile = np.exp(-0.5 * np.square(distance / sd[:, None, None, None])).mean(-1)
        x, y, z = np.moveaxis(profile / (np.sqrt(2 * np.pi) * sd * voxel_size)[:, None, None], 1, 0)
        _add_products(grid, box, taps, x, y, z * weights[chosen, None])
    return torch.from_numpy(grid.reshape(box, box, box).astype(np.float32))


def _spectrum_of_widths(
    points: Points, weights: Points, widths: Points, box: int, k2: Points, limit: float
) -> NDArray[np.complex64]:
    """``sum_j w_j exp(-2 (pi sigma_j k)^2) exp(-2 pi i k c_j)`` at the half-space frequencies; points and widths in boxes.

    As functions of ``k^2`` below ``limit`` the blurs of all widths are, to 1e-6, sums of a few functions: the singular value
    decomposition of the blurs at Chebyshev nodes gives them, and each needs one transform of the points.
    """
    variances, kind = np.unique(widths**2, return_inverse=True)
    nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    blurs = np.exp(-2 * np.pi**2 * limit / 2 * np.outer(variances, 1 + nodes))
    values, functions = np.linalg.eigh(blurs.T @ blurs)
    functions = functions[:, values > (_TOLERANCE**2) * values[-1]][:, ::-1]  # (node, function), orthonormal
    places, of = np.unique(points, axis=0, return_inverse=True)  # the Gaussians of one atom share its place
    polynomials = np.polynomial.chebyshev.chebfit(nodes, functions, _NODES - 1)
    curves = np.polynomial.chebyshev.chebval(np.arange(int(np.ceil(limit))) * (2 / limit) - 1, polynomials)
    index = np.minimum(np.rint(k2).astype(np.int64), curves.shape[1] - 1)  # those beyond are cut off afterwards
    spectrum = np.zeros(k2.shape, np.complex64)
    for coefficients, curve in zip((blurs @ functions).T, curves.astype(np.float32), strict=True):
        merged = np.bincount(of.ravel(), weights * coefficients[kind], len(places)).astype(np.float64)
        spectrum += _point_spectrum(places, merged, box) * curve[index]
    return spectrum


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
        z = z * weights[start : start + _POINTS_AT_A_TIME, None]
        _add_products(grid, fine, taps.astype(np.int64), x, y, z)
    spectrum = scipy.fft.rfftn(grid.reshape(fine, fine, fine), overwrite_x=True)

    positive, negative = (box + 1) // 2, box // 2
    keep = np.r_[:positive, fine - negative : fine]
    spectrum = spectrum[keep][:, keep, : box // 2 + 1]
    full, half = (
        _kernel_transform(k / fine, beta) for k in (np.fft.fftfreq(box, 1 / box), np.fft.rfftfreq(box, 1 / box))
    )
    spectrum /= (full[:, None, None] * full[:, None] * half).astype(np.float32)
    return spectrum


def _add_products(
    grid: NDArray[np.floating[Any]], n: int, taps: NDArray[np.int64], x: Points, y: Points, z: Points
) -> None:
    """Add each point's ``z y x`` to a periodic cubic grid of ``n`` voxels, flat, at voxels ``taps`` ``(point, xyz, tap)``."""
    ix, iy, iz = np.moveaxis(taps % n, 1, 0)
    index = (iz[:, :, None, None] * n + iy[:, None, :, None]) * n + ix[:, None, None]
    values = z[:, :, None, None] * y[:, None, :, None] * x[:, None, None]
    np.add.at(grid, index.ravel(), values.ravel().astype(grid.dtype))


def _kernel_transform(frequency: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Fourier transform of the Kaiser-Bessel kernel ``I0(beta sqrt(1 - (2 u / taps)^2))`` at cycles per fine voxel."""
    root = np.sqrt(beta**2 - (np.pi * _TAPS * frequency) ** 2)
    return _TAPS * np.sinh(root) / root
