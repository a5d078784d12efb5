"""What describes noise, one number an image, so that the spread over images gives the error of every mean."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from cryobench.noise.fit import BATCH, radii
from cryobench.types import Images

LAGS: Final = (1, 2, 4, 8, 16, 32, 64)
SECTORS: Final = 4
"""Directions 0, 45, 90 and 135 degrees from x towards y, each with the opposite one."""

Statistics = dict[str, NDArray[np.float64]]
"""Values over images by name."""


def describe_noise(images: Images, pixel_size: float) -> Statistics:
    """Spectrum, anisotropy, moments and lag correlations of noise images of about unit variance.

    ``power``: mean power in bands of shells. ``direction``: power in one of four directions over that in all.
    ``lag``: mean product of pixels so far apart in x, in y, or on the diagonals. ``edges``: mean product of pixels at opposite
    edges, which in periodic images are neighbours. ``skewness`` and ``excess kurtosis`` of the pixels. ``spread``: square of
    the log of an image's standard deviation over the mean one.

    Args:
        images: ``(image, y, x)``.
        pixel_size: angstrom; names the bands and lags.
    """
    parts: list[Statistics] = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        found = _spectral(part, pixel_size) | _lagged(part, pixel_size)
        pixels = part.flatten(1).double().numpy()
        found["skewness"] = stats.skew(pixels, axis=1)
        found["excess kurtosis"] = stats.kurtosis(pixels, axis=1)
        found["spread"] = np.log(pixels.std(axis=1))
        parts.append(found)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    joined["spread"] = (joined["spread"] - joined["spread"].mean()) ** 2
    return joined


def bands(box: int) -> list[tuple[int, int]]:
    """First and one-past-last shell of bands that widen by a half, from shell 1 to Nyquist."""
    edges = [1]
    while edges[-1] <= box // 2:
        edges.append(min(max(edges[-1] + 1, round(1.5 * edges[-1])), box // 2 + 1))
    return list(pairwise(edges))


def _spectral(images: Images, pixel_size: float) -> Statistics:
    box = images.shape[-1]
    power = torch.fft.rfft2(images.double()).abs().square().numpy() / box**2
    radius, weight = radii(box)
    shell = np.rint(radius).astype(int)
    ky = np.fft.fftfreq(box, 1 / box)[:, None] * np.ones_like(radius)
    sector = np.rint(np.arctan2(ky, np.arange(box // 2 + 1)) / (np.pi / SECTORS)).astype(int) % SECTORS
    found: Statistics = {}

    def mean(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        return power[:, mask] @ weight[mask] / weight[mask].sum()

    for first, stop in bands(box):
        inside = (shell >= first) & (shell < stop)
        resolutions = [f"{box * pixel_size / k:.3g}" for k in dict.fromkeys((first, stop - 1))]
        name = " to ".join(resolutions) + " Å"
        whole = found[f"power {name}"] = mean(inside)
        if first >= 4:
            for direction in range(SECTORS):
                part = mean(inside & (sector == direction))
                found[f"direction {direction * 180 // SECTORS}°, {name}"] = part / np.maximum(whole, 1e-30)
    return found


def _lagged(images: Images, pixel_size: float) -> Statistics:
    box = images.shape[-1]
    found: Statistics = {}

    def product(a: Tensor, b: Tensor) -> NDArray[np.float64]:
        return (a * b).mean((-2, -1), dtype=torch.float64).numpy()

    for lag in [lag for lag in LAGS if lag <= box // 2]:
        name = f"{lag} px ({lag * pixel_size:.3g} Å)"
        found[f"lag {name}, x"] = product(images[..., lag:], images[..., :-lag])
        found[f"lag {name}, y"] = product(images[..., lag:, :], images[..., :-lag, :])
        falling = product(images[..., lag:, lag:], images[..., :-lag, :-lag])
        rising = product(images[..., lag:, :-lag], images[..., :-lag, lag:])
        found[f"lag {name}, diagonals"] = (falling + rising) / 2
    found["edges, x"] = product(images[..., :1], images[..., -1:])
    found["edges, y"] = product(images[..., :1, :], images[..., -1:, :])
    return found
