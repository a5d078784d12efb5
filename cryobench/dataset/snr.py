"""How much signal a dataset's images hold above their own background, where no truth says it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import xarray as xr

from cryobench.dataset.schema import PARTICLES_PER_CHUNK
from cryobench.errors import InputError
from cryobench.machine import torch_threads
from cryobench.physics.background import MAXIMUM_RADIUS
from cryobench.physics.snr import SignalMeter, decibels

SMALLER_RADIUS: Final = 0.4
"""A second, smaller disc, as a fraction of the box: what the estimate loses by it tells what the larger one still misses."""
MISSED: Final = 3.0
"""What lies past the larger disc, at most, in units of that loss: 0.5 to 2.4 in simulated datasets whose truth is known."""
MOST_IMAGES: Final = 2048
MOST_PIXELS: Final = 2**26
"""Of padded images that are transformed for an estimate: seconds, whatever the box."""


@dataclass(frozen=True)
class SnrEstimate:
    """Signal-to-noise ratio of real images, as far as they show it.

    Attributes:
        value: dB, over all pixels of the images as they are stored; minus infinity where no signal stands out.
        low, high: dB, two standard errors lower and higher, the higher with the signal that may lie past the disc.
        images: that were measured.
        radius: of the disc in angstrom; all beyond it counts as noise.
        pixel_size: of the images, angstrom.
    """

    value: float
    low: float
    high: float
    images: int
    radius: float
    pixel_size: float

    def __str__(self) -> str:
        how = (
            f"{self.images} images at {self.pixel_size:.4g} Å: the variance of all their pixels above that of the background, "
            f"outside {self.radius:.4g} Å, over the background's; neighbours that reach there count as noise"
        )
        if self.value == -math.inf:
            bound = "" if self.high == -math.inf else f", at most {self.high:.1f} dB"
            return f"no signal stands out{bound} ({how})"
        return f"{self.value:.1f} dB, between {self.low:.1f} and {self.high:.1f} ({how})"


def estimate_snr(observed: xr.Dataset) -> SnrEstimate:
    """Estimate the SNR of a dataset's images from blocks of them spread over the dataset.

    Signal and noise are measured as :class:`~cryobench.physics.snr.SignalMeter` does, all beyond 0.45 of the box counting as
    noise. What CTF and shifts carry past that disc is missing in the signal and too much in the noise, and is bounded by what a
    disc of 0.4 misses beside it (:data:`MISSED`): little below 0 dB, more where images are nearly clean or filled.

    Raises:
        InputError: if the images are too few or too small.
    """
    box, pixel_size = observed.sizes["x"], float(observed.attrs["voxel_size"])
    meters = [SignalMeter(box, fraction * box) for fraction in (MAXIMUM_RADIUS, SMALLER_RADIUS)]
    with torch_threads(1):
        for rows in _blocks(observed.sizes["particle"], min(MOST_IMAGES, MOST_PIXELS // (2 * box) ** 2)):
            images = torch.as_tensor(observed["images"][rows].values.astype(np.float32))
            for meter in meters:
                meter.add(images)
    large, small = (meter.measure() for meter in meters)
    error, beyond = 2 * large.standard_error, MISSED * max(0.0, large.signal - small.signal)
    return SnrEstimate(
        value=decibels(large.signal / large.noise),
        low=decibels((large.signal - error) / large.noise),
        high=decibels((large.signal + error + beyond) / max(large.noise - beyond, large.noise / 2)),
        images=large.images,
        radius=MAXIMUM_RADIUS * box * pixel_size,
        pixel_size=pixel_size,
    )


def describe_snr(observed: xr.Dataset) -> str:
    """The estimate in words, or why there is none."""
    try:
        return str(estimate_snr(observed))
    except InputError as error:
        return f"none: {error}"


def _blocks(particles: int, most: int) -> list[slice]:
    """Chunks of the images, evenly spread over the dataset: ``most`` images, or one chunk at least."""
    starts = np.arange(0, particles, PARTICLES_PER_CHUNK)
    wanted = max(1, min(len(starts), most // PARTICLES_PER_CHUNK))
    chosen = starts[np.linspace(0, len(starts) - 1, wanted).round().astype(int)].tolist()
    return [slice(start, min(start + PARTICLES_PER_CHUNK, particles)) for start in chosen]
