"""What is done to every image, real or simulated, before the discriminator sees it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryobench.physics.grids import half_frequencies, inside_nyquist


def prepare(images: Tensor, kind: str, width: float = 0.0) -> Tensor:
    """Images ``(..., y, x)`` smoothed by a Gaussian of ``width`` pixels, then brought to a common footing.

    ``kind="disc"``: without mean and without frequencies beyond the Nyquist disc (:func:`keep_disc`).
    ``kind="image"``: each of mean 0 and variance 1. Without smoothing, a second time changes nothing.
    """
    if kind == "disc":
        return keep_disc(images, width)
    return standardise(smooth(images, width) if width else images)


def keep_disc(images: Tensor, width: float = 0.0) -> Tensor:
    """Images without their mean and without frequencies beyond the Nyquist disc, smoothed by ``width`` pixels.

    The mean is the background's and says nothing of the particle; the corners of the spectrum, which projections never reach,
    would only tell the discriminator how an image was resampled.
    """
    box = images.shape[-1]
    spectra = torch.fft.rfft2(images) * inside_nyquist(box, images)
    if width:
        spectra = spectra * gaussian(box, width, images)
    spectra[..., 0, 0] = 0
    return torch.fft.irfft2(spectra, s=(box, box))


def smooth(images: Tensor, width: float) -> Tensor:
    """Images convolved with a Gaussian of standard deviation ``width`` pixels, periodic at the edges."""
    box = images.shape[-1]
    return torch.fft.irfft2(torch.fft.rfft2(images) * gaussian(box, width, images), s=(box, box))


def gaussian(box: int, width: float, like: Tensor) -> Tensor:
    """Transform ``exp(-2 pi^2 width^2 f^2)`` of a Gaussian of standard deviation ``width`` pixels, on half-space frequencies."""
    kx, ky = half_frequencies(box, like)
    return torch.exp(-2 * (math.pi * width / box) ** 2 * (kx**2 + ky**2))


def standardise(images: Tensor) -> Tensor:
    """Each image at mean 0 and variance 1."""
    deviation, mean = torch.std_mean(images, dim=(-2, -1), keepdim=True)
    return (images - mean) / deviation.clamp(min=torch.finfo(images.dtype).tiny)
