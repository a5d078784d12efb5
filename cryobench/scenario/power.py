"""The power of a scenario's signal and of its noise, which the noise scale follows from."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor

from cryobench.physics.fourier import transform_images
from cryobench.physics.grids import friedel_weights, half_frequencies
from cryobench.scenario.imager import Imager, Progress
from cryobench.scenario.noise import NoiseSource
from cryobench.scenario.spec import Scenario
from cryobench.scenario.streams import BLOCK, blocks
from cryobench.types import Spectra

SAMPLE: Final = 4096
"""Particles, at most, that the power is measured on: whole blocks, spread evenly over the dataset."""
TAIL_SAMPLE: Final = 256
"""Particles, at most, whose native images measure the signal's power beyond the working Nyquist frequency: a small part, and many
times dearer; and all of it where there is no noise to be scaled, and the power is told for its own sake."""


@dataclass(frozen=True)
class Power:
    """Variance over all pixels of all images of a sample.

    Attributes:
        native: at the native pixel.
        working: of the Fourier crop to the working box.
        error: standard error of ``native``, relative; zero where the sample is the whole dataset.
        sample: how many images were measured.
    """

    native: float
    working: float
    error: float
    sample: int


def measure_signal(imager: Imager, pool: Executor, on_progress: Progress) -> Power:
    """Power of the clean images: in band from working images, beyond it from some native ones."""
    scenario, spec = imager.scenario, imager.scenario.image
    report = partial(on_progress, "measure signal")
    sample = TAIL_SAMPLE if scenario.noise.snr_db == math.inf else SAMPLE
    imager.working  # noqa: B018  # made here once and not by every thread
    in_band = _sample(partial(imager.spectra, native=False), scenario, sample, pool, report)
    tail = torch.zeros(1)
    if spec.box < spec.native_box:
        imager.native  # noqa: B018
        native = _sample(partial(imager.spectra, native=True), scenario, TAIL_SAMPLE, pool, report)
        tail = native[:, 1] - native[:, 2]
    mean, working, _ = in_band.mean(0).tolist()
    variance = working - mean**2 + float(tail.mean())
    error = math.hypot(_standard_error(_centred_squares(in_band), scenario), _standard_error(tail, scenario))
    return Power(variance, working - mean**2, error / variance if variance else 0.0, len(in_band))


def measure_noise(source: NoiseSource, imager: Imager, pool: Executor, on_progress: Progress) -> Power:
    """Power of the data's own noise before it is scaled: from its spectrum, or measured where it has none."""
    scenario = imager.scenario
    native, working = source.variance(scenario.image.native_box), source.variance(scenario.image.box)
    if native is not None and working is not None:
        return Power(native, working, 0.0, scenario.particles)

    def spectra(start: int, stop: int) -> Spectra:
        return transform_images(source.draw(imager.seed, "noise", start, stop))

    measured = _sample(spectra, scenario, SAMPLE, pool, partial(on_progress, "measure noise"))
    mean, total, kept = measured.mean(0).tolist()
    error = _standard_error(_centred_squares(measured), scenario)
    return Power(total - mean**2, kept - mean**2, error / (total - mean**2), len(measured))


def _sample(
    spectra: Callable[[int, int], Spectra],
    scenario: Scenario,
    sample: int,
    pool: Executor,
    on_progress: Callable[[int, int], None],
) -> Tensor:
    """Moments of at most ``sample`` images, as :func:`_moments` gives them."""

    def moments(block: tuple[int, int]) -> Tensor:
        return _moments(spectra(*block), scenario.image.box)

    parts = []
    chosen = _spread(scenario.particles, sample)
    for part in pool.map(moments, chosen):
        parts.append(part)
        on_progress(len(parts), len(chosen))
    return torch.cat(parts)


def _centred_squares(moments: Tensor) -> Tensor:
    """What each image adds to ``mean(y^2) - mean(y)^2``, to first order."""
    return moments[:, 1] - 2 * float(moments[:, 0].mean()) * moments[:, 0]


def _standard_error(values: Tensor, scenario: Scenario) -> float:
    """Of the mean over all particles, images being independent draws; none where all were measured."""
    count = len(values)
    return float(values.std()) * math.sqrt(max(0, 1 - count / scenario.particles) / count) if count > 1 else 0.0


def _spread(particles: int, sample: int) -> list[tuple[int, int]]:
    """At most ``sample`` particles in whole blocks, evenly spread."""
    every = blocks(0, particles)
    count = min(len(every), sample // BLOCK)
    return [every[index * len(every) // count] for index in range(count)]


def _moments(spectra: Spectra, working: int) -> Tensor:
    """Mean, mean square, and mean square inside the working Nyquist disc, of each image of half-space ``spectra``.

    By Parseval, ``mean(y^2) = sum |F|^2 / n^4`` over all ``n^2`` coefficients. Shape ``(batch, 3)``.
    """
    box = spectra.shape[-2]
    kx, ky = half_frequencies(box, spectra.real)
    weight = friedel_weights(box, kx.double())
    inside = (kx**2 + ky**2 < (working / 2) ** 2) | (working == box)
    power = spectra.abs().square().flatten(1).double()
    weights = torch.stack([weight.expand(inside.shape), weight * inside]).flatten(1)
    means = spectra[:, 0, 0].real.double() / box**2
    return torch.cat([means[:, None], power @ weights.T / box**4], 1)
