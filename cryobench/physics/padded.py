"""The Fourier transform of a zero-padded cubic box, cut to the frequencies that slices reach, and its exact transpose.

Axis by axis, so that zeros are hardly transformed and what is cut is cut at once. The origin is voxel ``n // 2``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from cryobench.conventions import origin
from cryobench.types import Volume

LARGE: Final = 32 * 2**20
"""Bytes from which on the C library takes fresh memory for every array instead of what was freed before."""


def transform_padded(volume: Volume, padded: int, reach: int) -> Tensor:
    """``V(k) = sum_p v(p) exp(-2 pi i k p / padded)``.

    Args:
        volume: ``(n, n, n)``, real.
        padded: the box that it is thought to be padded to.
        reach: highest frequency ``r``, at most half the padded box (rounded up).

    Returns:
        ``(2 r + 1, 2 r + 1, r + 1, 2)``: z and y from ``-r`` to ``r``, x from 0 to ``r``; real and imaginary part.
    """
    n = volume.shape[-1]
    left = origin(n)
    row = zeros((n, n, padded), volume)
    row[..., : n - left], row[..., padded - left :] = volume[..., left:], volume[..., :left]
    # of an odd box the half-space lacks the last column
    spectrum = torch.fft.rfft(row) if padded % 2 == 0 else torch.fft.fft(row)
    spectrum = _transform_axis(spectrum[..., : reach + 1], 1, padded, reach)
    return torch.view_as_real(_transform_axis(spectrum, 0, padded, reach))


def transpose_padded(table: Tensor, padded: int, box: int) -> Volume:
    """The transpose of :func:`transform_padded`: ``v(p) = Re sum_k V(k) exp(2 pi i k p / padded)`` at ``box`` voxels."""
    spectrum = _transpose_axis(torch.view_as_complex(table.contiguous()), 0, padded, box)
    spectrum = _transpose_axis(spectrum, 1, padded, box)
    left = origin(box)
    if padded % 2 == 0:
        spectrum[..., 1 : padded // 2] *= 0.5  # the inverse adds their Friedel partners
        row = torch.fft.irfft(spectrum, n=padded, norm="forward")
    else:
        row = torch.fft.ifft(spectrum, n=padded, norm="forward").real
    return torch.cat([row[..., padded - left :], row[..., : box - left]], -1)


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros with the device and dtype of ``like``.

    Large ones on the CPU are NumPy's, which asks for huge pages: seven times faster to touch for the first time.
    """
    if like.device.type != "cpu" or math.prod(shape) * like.element_size() < LARGE:
        return like.new_zeros(shape)
    return torch.from_numpy(np.zeros(shape, dtype=like.new_empty(0).numpy().dtype))


def _transform_axis(array: Tensor, dim: int, padded: int, reach: int) -> Tensor:
    """Frequencies ``-reach ... reach`` along one axis of a complex array."""
    n, rows, left = array.shape[dim], 2 * reach + 1, origin(array.shape[dim])
    phases = _centring(n, padded, reach, array, dim)
    result = zeros(_resized(array, dim, max(padded, rows)), array)
    period = result.narrow(dim, 0, padded)
    for start, length, target in ((left, n - left, 0), (0, left, padded - left)):
        part = array.narrow(dim, start, length), phases.narrow(0, start, length)
        torch.mul(*part, out=period.narrow(dim, target, length))
    _replace(period, dim, inverse=False)
    if rows > padded:
        result.narrow(dim, padded, rows - padded).copy_(period.narrow(dim, 0, rows - padded))
    return result if rows >= padded else result.narrow(dim, 0, rows).clone(memory_format=torch.contiguous_format)


def _transpose_axis(array: Tensor, dim: int, padded: int, box: int) -> Tensor:
    """Transpose of :func:`_transform_axis`: back to ``box`` voxels along one axis."""
    rows, left = array.shape[dim], origin(box)
    period = zeros(_resized(array, dim, padded), array)
    kept = min(rows, padded)
    period.narrow(dim, 0, kept).copy_(array.narrow(dim, 0, kept))
    if rows > padded:
        period.narrow(dim, 0, rows - padded).add_(array.narrow(dim, padded, rows - padded))
    _replace(period, dim, inverse=True)
    phases = _centring(box, padded, rows // 2, array, dim).conj().resolve_conj()
    result = zeros(_resized(array, dim, box), array)
    for start, length, target in ((padded - left, left, 0), (0, box - left, left)):
        part = period.narrow(dim, start, length), phases.narrow(0, target, length)
        torch.mul(*part, out=result.narrow(dim, target, length))
    return result


def _centring(n: int, padded: int, reach: int, like: Tensor, dim: int) -> Tensor:
    """``exp(2 pi i reach p / padded)`` along an axis: it brings frequency ``-reach`` to the front of the transform."""
    turns = (torch.arange(n, device=like.device) - origin(n)) * reach % padded
    angle = turns.double() * (2 * torch.pi / padded)
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype).reshape([-1] + [1] * (like.ndim - 1 - dim))


def _resized(array: Tensor, dim: int, length: int) -> tuple[int, ...]:
    return (*array.shape[:dim], length, *array.shape[dim + 1 :])


def _replace(array: Tensor, dim: int, *, inverse: bool) -> None:
    """Transform a complex array along one axis, unscaled, in place."""
    if array.device.type == "cpu":  # SciPy works in place and on several lines at once, faster than torch
        along = partial(scipy.fft.ifft, norm="forward") if inverse else scipy.fft.fft
        done = torch.from_numpy(along(array.numpy(), axis=dim, overwrite_x=True))
        if done.data_ptr() == array.data_ptr():
            return
    else:
        done = torch.fft.ifft(array, dim=dim, norm="forward") if inverse else torch.fft.fft(array, dim=dim)
    array.copy_(done)
