"""Clean images of a scenario's particles, and the signal power that its SNR is measured against."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeAlias

from torch import Tensor

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.project import VolumeSpectrum, transform_volume
from cryobench.scenario.draw import draw_particles
from cryobench.scenario.micrographs import draw_micrographs
from cryobench.scenario.spec import Scenario

BLOCK: Final = 64
"""Images computed together, aligned to the absolute particle index: FFTs differ in the last bits between batch shapes."""
TAIL_SAMPLE: Final = 256
"""Particles whose native images measure the signal power beyond the working Nyquist frequency."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@dataclass(frozen=True)
class Imager:
    """Clean images of a scenario's particles, a block at a time."""

    scenario: Scenario
    seed: int
    table: ContrastTransfer
    native: VolumeSpectrum
    working: VolumeSpectrum

    @classmethod
    def prepare(cls, scenario: Scenario, seed: int, volume: Tensor) -> Imager:
        """Transform the native volume once for native and once for working images."""
        spec = scenario.image
        native = transform_volume(volume, spec.native_pixel_size)
        # padded slices wrap differently at every box, so that working images must be cropped from native ones
        working = native if spec.slicing == "padded" else transform_volume(volume, spec.native_pixel_size, spec.box)
        return cls(scenario, seed, draw_micrographs(scenario.ctf, seed), native, working)

    def clean(self, start: int, stop: int, native: bool = False) -> Tensor:
        """Clean images of particles ``start ... stop - 1`` at the working box, or at the native one."""
        spec = self.scenario.image
        draws = draw_particles(self.scenario, self.seed, start, stop, self.table)
        at_native = native or spec.slicing == "padded"
        operator = ImagingOperator(
            spec.native_box,
            spec.native_pixel_size,
            draws.rotations.float(),
            draws.shifts.float(),
            draws.ctf,
            image_box=spec.native_box if at_native else spec.box,
            slicing=spec.slicing,
        )
        images = operator.image(self.native if at_native else self.working)
        return images if native else fourier_crop_images(images, spec.box)


def blocks(start: int, stop: int) -> list[tuple[int, int]]:
    """Particles ``start ... stop - 1`` in blocks of :data:`BLOCK`, as (first, one past the last)."""
    return [(first, min(first + BLOCK, stop)) for first in range(start, stop, BLOCK)]


def measure_signal(imager: Imager, pool: Executor, on_progress: Progress) -> tuple[float, float]:
    """Variance over all pixels of all clean images: at the native box and at the working box.

    In-band power and mean are summed over every particle at the working box; the power beyond the working Nyquist
    frequency, a small part, is measured on the native images of the first :data:`TAIL_SAMPLE` particles.
    """
    particles = imager.scenario.particles

    def moments(block: tuple[int, int]) -> tuple[float, float]:
        images = imager.clean(*block).double()
        return float(images.mean((-2, -1)).sum()), float(images.square().mean((-2, -1)).sum())

    def tail(block: tuple[int, int]) -> float:
        images = imager.clean(*block, native=True)
        cropped = fourier_crop_images(images, imager.scenario.image.box)
        return float((images.double().square().mean((-2, -1)) - cropped.double().square().mean((-2, -1))).sum())

    total_mean = total_square = 0.0
    for done, (mean, square) in enumerate(pool.map(moments, blocks(0, particles))):
        total_mean, total_square = total_mean + mean, total_square + square
        on_progress("measure signal", min((done + 1) * BLOCK, particles), particles)
    sample = min(TAIL_SAMPLE, particles)
    beyond = sum(pool.map(tail, blocks(0, sample))) / sample
    working = total_square / particles - (total_mean / particles) ** 2
    return working + beyond, working
