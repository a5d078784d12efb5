"""Signal and noise power of particle images that are known only with their noise: whole images against their background.

Let ``y = s + n`` with noise ``n`` of the same statistics everywhere in the image and a signal ``s`` inside a disc. The variance
of the pixels of ``y`` about the image's own mean is that of the signal plus that of the noise, and the noise's part follows from
its autocovariance, which the pixels outside the disc give (see :mod:`cryobench.physics.background`):
``C(0) - sum_l C(l) w(l) / w(0)^2`` over all lags ``l``, of which a whole image has ``w(l)`` pairs of pixels. Both are quadratic
in the image, and so is their difference: an estimate for every image, whose scatter is the error of the mean. An unknown mean
of the background only adds a constant to ``C``, which cancels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.background import outside
from cryobench.types import Images


@final
@dataclass(frozen=True)
class SignalToNoise:
    """Powers per pixel, over all pixels of the images.

    Attributes:
        signal: variance of the signal inside the disc; what reaches beyond it counts as noise.
        noise: variance of the noise.
        standard_error: of the signal.
        images: that were measured.
    """

    signal: float
    noise: float
    standard_error: float
    images: int


def decibels(ratio: float) -> float:
    """A ratio of powers in dB; minus infinity where it is not above 0."""
    return 10 * math.log10(ratio) if ratio > 0 else -math.inf


@final
class SignalMeter:
    """Measures signal and noise power on square images, block by block.

    Args:
        box: pixels of the images' side.
        radius_in_pixels: of the disc that holds the particle.

    Raises:
        InputError: if the disc leaves too little background.
    """

    def __init__(self, box: int, radius_in_pixels: float) -> None:
        self.box = box
        self._background = outside(box, radius_in_pixels).double()
        pairs, whole = self._pairs(self._background), self._pairs(torch.ones_like(self._background))
        # in small boxes the longest lags, which hardly count, have no pair
        weight = torch.where((whole > 0.5) & (pairs > 0.5), 1 / pairs.clamp(min=0.5), 0)
        constant = whole / whole[0, 0] ** 2  # the variance of an image's mean
        zero_lag = torch.zeros_like(whole)
        zero_lag[0, 0] = 1
        # the mean's own share of the noise is taken from the lowest frequencies, as it is in the noise spectrum
        lag = 2 * torch.pi * torch.arange(2 * box, dtype=torch.float64) / box
        lowest = constant * (lag.cos()[:, None] + lag.cos()[None, :]) / 2
        self._within = self._kernel((zero_lag - constant) * weight)
        self._all = self._kernel((zero_lag - constant + lowest) * weight)
        self._signals: list[Tensor] = []
        self._noises: list[Tensor] = []

    def _transform(self, images: Tensor) -> Tensor:
        return torch.fft.fft2(images, s=(2 * self.box, 2 * self.box))

    def _pairs(self, mask: Tensor) -> Tensor:
        return torch.fft.ifft2(self._transform(mask).abs().square()).real

    def _kernel(self, weight: Tensor) -> Tensor:
        """Weights of lags as weights of the power of padded images, halved in space: ``sum_l w(l) p(l) = sum_k W(k) P(k)``."""
        kernel = torch.fft.fft2(weight).real / (2 * self.box) ** 2
        half = kernel[:, : self.box + 1].clone()
        half[:, 1 : self.box] *= 2
        return half

    def add(self, images: Images) -> None:
        """Count ``(batch, y, x)`` images in."""
        values = images.double()
        mean = (values * self._background).sum((-2, -1), keepdim=True) / self._background.sum()
        background = (values - mean) * self._background
        power = torch.fft.rfft2(background, s=(2 * self.box, 2 * self.box)).abs().square()
        self._signals.append(values.var((-2, -1), correction=0) - (power * self._within).sum((-2, -1)))
        self._noises.append((power * self._all).sum((-2, -1)))

    def measure(self) -> SignalToNoise:
        """What was found.

        Raises:
            InputError: if fewer than two images were counted in.
        """
        signal = torch.cat(self._signals) if self._signals else torch.empty(0)
        if len(signal) < 2:
            raise InputError(f"expected at least two images to measure signal and noise on, got {len(signal)}")
        return SignalToNoise(
            signal=float(signal.mean()),
            noise=float(torch.cat(self._noises).mean()),
            standard_error=float(signal.std()) / math.sqrt(len(signal)),
            images=len(signal),
        )
