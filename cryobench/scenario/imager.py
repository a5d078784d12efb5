"""Clean images of a scenario's particles, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.detector import DetectorTransfer
from cryobench.physics.fourier import fourier_crop_images, transform_images
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.project import VolumeSpectrum, transform_volume
from cryobench.scenario.draw import Draws, draw_particles, draw_states
from cryobench.scenario.micrographs import detector_of, draw_micrographs
from cryobench.scenario.pairing import paired_micrographs
from cryobench.scenario.spec import Scenario
from cryobench.types import Images, Spectra

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""
CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Imager:
    """Clean images of a scenario's particles. Make one with :meth:`prepare`.

    Attributes:
        scenario: what is simulated.
        seed: of every draw.
        volumes: one density for each state of the specimen, at the native voxel.
        weights: share of the particles in each state.
        table: CTF of every micrograph.
        detector: its transfer function, or None.
        paired: micrograph of each noise patch, where particles are on those of their patches; else None.
        device: where images are formed; they are equal from device to device but for rounding.
    """

    scenario: Scenario
    seed: int
    volumes: tuple[Tensor, ...]
    weights: tuple[float, ...]
    table: ContrastTransfer
    detector: DetectorTransfer | None
    paired: NDArray[np.int32] | None = None
    device: torch.device = CPU

    @classmethod
    def prepare(
        cls,
        scenario: Scenario,
        seed: int,
        volumes: Sequence[Tensor],
        weights: Sequence[float] = (1.0,),
        device: torch.device = CPU,
    ) -> Imager:
        """Draw the micrographs that the particles are on."""
        table = draw_micrographs(scenario.ctf, seed)
        detector = detector_of(scenario.ctf, scenario.image.native_pixel_size)
        paired = paired_micrographs(scenario)
        return cls(scenario, seed, tuple(volumes), tuple(weights), table, detector, paired, device)

    @cached_property
    def native(self) -> list[VolumeSpectrum]:
        """Spectra that native images are sliced from, one a state."""
        return [transform_volume(v.to(self.device), self.scenario.image.native_pixel_size) for v in self.volumes]

    @cached_property
    def working(self) -> list[VolumeSpectrum]:
        """Spectra that working images are sliced from, one a state."""
        spec = self.scenario.image
        if self._through_native:
            return self.native
        return [transform_volume(v.to(self.device), spec.native_pixel_size, spec.box) for v in self.volumes]

    @property
    def _through_native(self) -> bool:
        # padded slices wrap differently at every box, so that working images must be cropped from native ones
        return self.scenario.image.slicing == "padded" or self.scenario.image.box == self.scenario.image.native_box

    def draws(self, start: int, stop: int) -> Draws:
        """Poses, shifts, micrographs and CTFs of particles ``start ... stop - 1``."""
        return draw_particles(self.scenario, self.seed, start, stop, self.table, self.paired)

    def states(self, start: int, stop: int) -> NDArray[np.int32]:
        """Which state each of particles ``start ... stop - 1`` is in."""
        return draw_states(self.weights, self.seed, start, stop)

    def clean(self, start: int, stop: int, native: bool = False) -> Images:
        """Clean images of particles ``start ... stop - 1`` at the working box, or at the native one. Shape ``(n, y, x)``.

        The last bits depend on the span: ask for whole :func:`cryobench.scenario.streams.blocks`.
        """
        spec = self.scenario.image
        at_native = native or self._through_native
        images = self._each_state(start, stop, at_native, lambda operator, spectrum: operator.image(spectrum))
        return images if native else fourier_crop_images(images, spec.box)

    def spectra(self, start: int, stop: int, native: bool) -> Spectra:
        """Half-space spectra of the clean images, without going through the images where nothing is cropped."""
        if self.scenario.image.slicing == "padded":
            return transform_images(self.clean(start, stop, native))
        return self._each_state(start, stop, native, lambda operator, spectrum: operator.spectra(spectrum))

    def _each_state(
        self, start: int, stop: int, native: bool, form: Callable[[ImagingOperator, VolumeSpectrum], Tensor]
    ) -> Tensor:
        """What ``form`` makes of each particle and the spectrum of its own state."""
        draws, spectra = self.draws(start, stop), self.native if native else self.working
        if len(spectra) == 1:
            return form(self._operator(draws, slice(None), native), spectra[0])
        states = self.states(start, stop)
        parts, places = [], []
        for state in np.unique(states):
            chosen = torch.as_tensor(np.flatnonzero(states == state))
            parts.append(form(self._operator(draws, chosen, native), spectra[state]))
            places.append(chosen)
        return torch.cat(parts)[torch.cat(places).argsort()]

    def _operator(self, draws: Draws, chosen: Tensor | slice, native: bool) -> ImagingOperator:
        spec = self.scenario.image
        return ImagingOperator(
            spec.native_box,
            spec.native_pixel_size,
            draws.rotations[chosen].float(),
            draws.shifts[chosen].float(),
            draws.ctf[chosen],
            image_box=spec.native_box if native else spec.box,
            slicing=spec.slicing,
            detector=self.detector,
        )
