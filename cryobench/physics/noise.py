"""Noise images: white, coloured by a measured spectrum, or cut from real patches."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.grids import half_frequencies, half_shells
from cryobench.types import Curve, Images


def radial_power(images: Images, mask: Tensor | None = None) -> Curve:
    """Mean power per pixel of square images in shells 0 ... box // 2: ``mean |F|^2 / box^2`` (variance of white noise).

    Args:
        images: ``(*batch, y, x)``, at least one.
        mask: optional ``(y, x)`` window applied before the transform; power is divided by its mean square.
    """
    box = images.shape[-1]
    if mask is not None:
        images = images * mask
    power = torch.fft.rfft2(images).abs().square().reshape(-1, box * (box // 2 + 1)).mean(0) / box**2
    if mask is not None:
        power = power / mask.square().mean()
    shells = half_shells(box, images).flatten()
    kx, _ = half_frequencies(box, images)
    weight = torch.where((kx == 0) | (2 * kx == box), 1.0, 2.0).flatten().to(power)  # Friedel partners count
    kept = shells <= box // 2
    total = power.new_zeros(box // 2 + 1).index_add(0, shells[kept], (power * weight)[kept])
    return total / power.new_zeros(box // 2 + 1).index_add(0, shells[kept], weight[kept])


def colour(white: Images, power: Curve) -> Images:
    """White noise of unit variance given the radial ``power`` (shells 0 ... of the same box), linear between shells.

    Frequencies beyond the last shell take its value.
    """
    return torch.fft.irfft2(torch.fft.rfft2(white) * _amplitude(white, power), s=white.shape[-2:])


def whiten(images: Images, power: Curve) -> Images:
    """The inverse of :func:`colour`: noise of radial spectrum ``power`` becomes white of variance 1."""
    amplitude = _amplitude(images, power).clamp(min=torch.finfo(images.dtype).tiny ** 0.5)
    return torch.fft.irfft2(torch.fft.rfft2(images) / amplitude, s=images.shape[-2:])


def _amplitude(images: Images, power: Curve) -> Tensor:
    """Square root of a radial ``power`` on the half-space frequencies of ``images``."""
    box = images.shape[-1]
    if len(power) != box // 2 + 1:
        raise InputError(f"expected a noise spectrum of {box // 2 + 1} shells for a box of {box}, got {len(power)}")
    kx, ky = half_frequencies(box, images)
    radius = (kx**2 + ky**2).sqrt().clamp(max=box // 2)
    lower = radius.floor().long().clamp(max=box // 2 - 1)
    values = power.to(images)
    return torch.lerp(values[lower], values[lower + 1], radius - lower).clamp(min=0).sqrt()


def turn(patches: Images, turns: Tensor) -> Images:
    """Square patches under the eight symmetries of the square, ``turns`` in 0 ... 7 (quarter turns, then flipped)."""
    result = torch.empty_like(patches)
    for code in range(8):
        chosen = turns == code
        moved = torch.rot90(patches[chosen], code % 4, dims=(-2, -1))
        result[chosen] = moved.flip(-1) if code >= 4 else moved
    return result


def cut(patches: Images, box: int, corners: Tensor) -> Float[Tensor, "batch {box} {box}"]:
    """Windows of ``box`` pixels from patches ``(batch, y, x)`` at upper-left ``corners (batch, 2)`` in (x, y)."""
    limit = patches.shape[-1] - box
    if limit < 0:
        raise InputError(f"expected noise patches of at least {box} pixels, got {patches.shape[-1]}")
    return torch.stack([p[y : y + box, x : x + box] for p, (x, y) in zip(patches, corners.tolist(), strict=True)])
