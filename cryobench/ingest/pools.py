"""Noise patches for the methods, a pool for each half."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from cryobench.conventions import HALVES
from cryobench.errors import InputError
from cryobench.interop.boxes import micrograph_key
from cryobench.noise.patches import read_patches
from cryobench.physics.background import BackgroundNormalisation
from cryobench.scenario.noise import ENOUGH_PATCHES, NoiseSource
from cryobench.types import Curve, Images

LEAST_PIXEL: Final = 0.01
"""Patches whose pixels differ by less than this fraction from the images' are not resampled."""


class NoisePool(ABC):
    """Where the noise patches of an imported dataset come from.

    Attributes:
        patches: of each half.
        note: what the store says of them.
    """

    patches: int
    note: str

    @abstractmethod
    def draw(self, half: int, power: Curve, start: int, stop: int) -> tuple[Images, NDArray[np.int64]]:
        """Patches ``start ... stop - 1`` of a half at the images' own box, and the micrograph of each (-1 if generated).

        ``power`` is the spectrum measured beside the half's own particles.
        """


@final
class GeneratedPool(NoisePool):
    """Gaussian noise of the radial spectrum measured on the half's own particles."""

    def __init__(self, box: int, patches: int, seed: int, radius: float) -> None:
        self.box, self.patches, self.seed = box, patches, seed
        self.note = (
            f"Generated: {patches} patches for each half, Gaussian, of the radial spectrum measured on that half's own "
            f"particles outside {radius:.4g} Å (neighbouring particles that reach there count as noise)."
        )

    def draw(self, half: int, power: Curve, start: int, stop: int) -> tuple[Images, NDArray[np.int64]]:
        """Drawn at the images' own box, so that they are cropped as the images are."""
        source = NoiseSource(self.box, power=power)
        return source.draw(self.seed, f"pool-{half}", start, stop), np.full(stop - start, -1)


@final
class PatchPool(NoisePool):
    """Real patches of a noise store, each used once, treated as the particles are; the halves share none.

    Args:
        path: of the noise store (or MRC stack, protein dark).
        box: pixels of the images' side before they are cropped; larger patches are cut into as many of these as they hold.
        pixel_size: of the images, angstrom.
        patches: of each half, at most.
        normalisation: of the images.
        micrographs: names that the images' micrograph numbers stand for.

    Raises:
        InputError: if the patches are too few, too small or too coarse.
    """

    def __init__(
        self,
        path: str | Path,
        box: int,
        pixel_size: float,
        patches: int,
        normalisation: BackgroundNormalisation,
        micrographs: Sequence[str],
    ) -> None:
        found = read_patches(path)
        if abs(found.pixel_size / pixel_size - 1) > LEAST_PIXEL:
            found = found.resampled(pixel_size, box)
        if found.box < box:
            raise InputError(f"{path}: expected patches of at least the images' {box} px, got {found.box} px")
        across = found.box // box
        whole = found.images[:, : across * box, : across * box]
        tiles = whole.unfold(1, box, box).unfold(2, box, box).reshape(-1, box, box)
        self._images, flat = normalisation(tiles)
        if len(tiles) < len(HALVES) * ENOUGH_PATCHES or not bool((flat > 0).all()):
            raise InputError(
                f"{path}: expected at least {ENOUGH_PATCHES} patches for each half that are not of one grey value, got "
                f"{len(tiles)} for both; extract more, or leave them away to have noise of the measured spectrum made"
            )
        self.patches = min(patches, len(tiles) // len(HALVES))
        number = {micrograph_key(name): i for i, name in enumerate(micrographs)}
        owner = [number.get(micrograph_key(found.names[i]), -1) if i >= 0 else -1 for i in found.micrograph.tolist()]
        self._micrograph = np.repeat(np.array(owner, dtype=np.int64), across**2)
        self.note = (
            f"Real patches ({Path(path).name}): {self.patches} for each half, no patch in both, cut and normalised as the "
            f"particles were."
        )

    def draw(self, half: int, _power: Curve, start: int, stop: int) -> tuple[Images, NDArray[np.int64]]:
        """The half's patches in their order: every second one of the store."""
        rows = np.arange(start, stop) * len(HALVES) + HALVES.index(half)
        return self._images[torch.as_tensor(rows)], self._micrograph[rows]
