"""Noise images: white, coloured by a radial or a two-dimensional spectrum, or cut from real patches."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.fourier import crop_spectra
from cryobench.physics.grids import friedel_weights, half_frequencies, half_shells
from cryobench.types import Curve, Images, Plane


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
    weight = friedel_weights(box, power).flatten()
    kept = shells <= box // 2
    total = power.new_zeros(box // 2 + 1).index_add(0, shells[kept], (power * weight)[kept])
    return total / power.new_zeros(box // 2 + 1).index_add(0, shells[kept], weight[kept])


def colour(white: Images, power: Curve | Plane) -> Images:
    """White noise of unit variance given a ``power`` spectrum of the same box, periodic at the image's edges.

    Args:
        white: ``(*batch, y, x)``.
        power: radial (shells 0 ..., linear between them, the last one's value beyond), or over the half plane ``(y, x // 2 + 1)``
            in FFT order.
    """
    return torch.fft.irfft2(torch.fft.rfft2(white) * _amplitude(white, power), s=white.shape[-2:])


def whiten(images: Images, power: Curve | Plane) -> Images:
    """The inverse of :func:`colour`: noise of spectrum ``power`` becomes white of variance 1."""
    amplitude = _amplitude(images, power).clamp(min=torch.finfo(images.dtype).tiny ** 0.5)
    return torch.fft.irfft2(torch.fft.rfft2(images) / amplitude, s=images.shape[-2:])


def spread_power(power: Curve, box: int) -> Plane:
    """A radial spectrum on the half plane of a box: linear between shells, the last one's value beyond."""
    if len(power) != box // 2 + 1:
        raise InputError(f"expected a noise spectrum of {box // 2 + 1} shells for a box of {box}, got {len(power)}")
    kx, ky = half_frequencies(box, power)
    radius = (kx**2 + ky**2).sqrt().clamp(max=box // 2)
    lower = radius.floor().long().clamp(max=box // 2 - 1)
    return torch.lerp(power[lower], power[lower + 1], radius - lower)


def crop_power(power: Plane, box: int) -> Float[Tensor, "{box} {box}//2+1"]:
    """Spectrum of the images that :func:`cryobench.physics.fourier.fourier_crop_images` makes of noise of spectrum ``power``.

    The coefficients of stationary periodic noise are independent, and the crop keeps those of the Nyquist disc, scaled. So
    ``colour(white, crop_power(power, box))`` of white noise at the small box is equal in distribution to noise coloured at the
    large box and cropped.
    """
    n = power.shape[-2]
    if box == n:
        return power
    # |F|^2 falls by (box / n)^4, and is told per box^2 in place of n^2: by (box / n)^2 in all, as crop_spectra scales F
    return crop_spectra(torch.complex(power, torch.zeros_like(power)), box).real


def mean_power(power: Plane) -> float:
    """Pixel variance of noise of spectrum ``power``: its mean over all coefficients, Friedel partners counted."""
    weight = friedel_weights(power.shape[-2], power)
    return float((power * weight).sum(dtype=torch.float64) / weight.sum(dtype=torch.float64))


def _amplitude(images: Images, power: Curve | Plane) -> Tensor:
    """Square root of a ``power`` on the half-space frequencies of ``images``."""
    box = images.shape[-1]
    plane = spread_power(power, box) if power.ndim == 1 else power
    if plane.shape != (box, box // 2 + 1):
        raise InputError(
            f"expected a noise spectrum over {box} x {box // 2 + 1} coefficients for a box of {box}, got {tuple(plane.shape)}"
        )
    return plane.to(images).clamp(min=0).sqrt()


def turn(patches: Images, turns: Tensor) -> Images:
    """Square patches under the eight symmetries of the square, ``turns`` in 0 ... 7 (quarter turns, then flipped)."""
    side = patches.shape[-1]
    pixels = torch.arange(side**2, device=patches.device).view(side, side)
    quarters = torch.stack([pixels.rot90(code) for code in range(4)])
    sources = torch.cat([quarters, quarters.flip(-1)]).flatten(1)
    # gathered, since to choose the patches of one kind the host would have to wait for their number
    return patches.flatten(-2).gather(-1, sources[turns]).view(patches.shape)


def cut(patches: Images, box: int, corners: Tensor) -> Float[Tensor, "batch {box} {box}"]:
    """Windows of ``box`` pixels from patches ``(batch, y, x)`` at upper-left ``corners (batch, 2)`` in (x, y)."""
    limit = patches.shape[-1] - box
    if limit < 0:
        raise InputError(f"expected noise patches of at least {box} pixels, got {patches.shape[-1]}")
    return torch.stack([p[y : y + box, x : x + box] for p, (x, y) in zip(patches, corners.tolist(), strict=True)])
