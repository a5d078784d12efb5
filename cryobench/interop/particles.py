"""Particles as a file of another program lists them, in our units and conventions: what every reader gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryobench.errors import InputError

CTF_COLUMNS: Final = (
    "defocus_u",
    "defocus_v",
    "defocus_angle",
    "voltage",
    "spherical_aberration",
    "amplitude_contrast",
    "phase_shift",
    "b_factor",
)


@final
@dataclass(frozen=True)
class ParticleTable:
    """Particles as a file of another program lists them, one row each, in our units.

    Attributes:
        source: the file, for messages.
        stack: ``(particle,)`` names of the image stacks as the file writes them.
        index: ``(particle,)`` section of that stack, from 0.
        ctf: :data:`CTF_COLUMNS`, each ``(particle,)``: angstrom, radian, kV, mm.
        pixel_size: ``(particle,)`` of the images, angstrom.
        box: ``(particle,)`` pixels of an image's side, 0 where the file does not say.
        micrograph: ``(particle,)`` names.
        quaternion: poses ``(particle, 4)``, scalar last, or None.
        shift: ``(particle, 2)`` in angstrom, moving the content, or None.
        half: ``(particle,)`` half-set 1 or 2, or None.
        notes: what was assumed or left aside, in sentences.
    """

    source: Path
    stack: NDArray[np.object_]
    index: NDArray[np.int64]
    ctf: dict[str, NDArray[np.float64]]
    pixel_size: NDArray[np.float64]
    box: NDArray[np.int64]
    micrograph: NDArray[np.object_]
    quaternion: NDArray[np.float64] | None = None
    shift: NDArray[np.float64] | None = None
    half: NDArray[np.int8] | None = None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.index)

    def common_pixel_size(self) -> float:
        """The one pixel size in angstrom of all particles.

        Raises:
            InputError: if there are several.
        """
        first = float(self.pixel_size[0])
        other = np.flatnonzero(np.abs(self.pixel_size / first - 1) > 1e-4)
        if len(other):
            raise InputError(
                f"{self.source.name}: expected one pixel size, got {first:.5g} Å in particle row 1 and "
                f"{self.pixel_size[other[0]]:.5g} Å in particle row {other[0] + 1}; import each optics group by itself"
            )
        return first


def find_repeated(stack: NDArray[np.object_], index: NDArray[np.int64]) -> tuple[int, int] | None:
    """The first row whose image was there before, and where; an image in both half-sets would correlate them."""
    repeated = pd.DataFrame({"stack": stack, "index": index}).duplicated().to_numpy()
    if not repeated.any():
        return None
    row = int(np.argmax(repeated))
    return row, int(np.argmax((stack == stack[row]) & (index == index[row])))
