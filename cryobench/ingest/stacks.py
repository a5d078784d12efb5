"""Images of particle tables that name image stacks: those of RELION and cryoSPARC."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.ingest.options import ImportOptions
from cryobench.ingest.particles import ParticleImages, Progress, import_particles
from cryobench.interop.mrc import open_stack
from cryobench.interop.particles import ParticleTable
from cryobench.interop.stacks import compare_pixel_sizes, locate_stacks
from cryobench.physics.fourier import fourier_crop_images
from cryobench.types import Images

SAME: Final = 1e-3
"""Fields of view that differ by less than this fraction are one."""


@final
class StackImages(ParticleImages):
    """Sections of image stacks, mapped from disk: a block is all that is in memory.

    Where optics groups differ in pixel size but not in field of view, all are Fourier-cropped to the box of the coarsest.

    Args:
        table: the particles.
        stack_directory: where the stacks are, if not where the table says.
        invert: flip the contrast.

    Raises:
        InputError: if a stack is missing or too short, or the fields of view differ.
    """

    def __init__(self, table: ParticleTable, stack_directory: str | Path | None, *, invert: bool) -> None:
        self._table, self._invert = table, invert
        self._paths = locate_stacks(table, stack_directory)
        sides = {name: open_stack(path)[0].shape[-1] for name, path in self._paths.items()}
        boxes = np.array([sides[name] for name in table.stack], dtype=np.int64)
        views = boxes * table.pixel_size
        other = np.flatnonzero(np.abs(views / views[0] - 1) > SAME)
        if len(other):
            first, row = (f"{boxes[i]} px of {table.pixel_size[i]:.5g} Å" for i in (0, other[0]))
            raise InputError(
                f"{table.source.name}: expected one pixel size and box, or one field of view, got {first} in particle row 1 and "
                f"{row} in particle row {other[0] + 1}; import each optics group by itself"
            )
        self.box = int(boxes.min())
        self.pixel_size = float(table.pixel_size[np.argmin(boxes)])
        self.notes = compare_pixel_sizes(table, self._paths)
        if (boxes != self.box).any():
            self.notes.append(self._resampled(boxes))

    def _resampled(self, boxes: NDArray[np.int64]) -> str:
        kinds = sorted({(int(b), float(f"{p:.5g}")) for b, p in zip(boxes, self._table.pixel_size, strict=True)})
        listed = ", ".join(f"{box} px of {pixel:g} Å" for box, pixel in kinds)
        return (
            f"images of {listed}, one field of view, were Fourier-cropped to {self.box} px of {self.pixel_size:.5g} Å"
        )

    @property
    def names(self) -> list[str]:
        """File names of the stacks."""
        return [path.name for path in self._paths.values()]

    def read(self, start: int, stop: int) -> Images:
        """Images of rows ``start ... stop - 1``."""
        table, rows = self._table, np.arange(start, stop)
        block = torch.empty(len(rows), self.box, self.box)
        for name in np.unique(table.stack[rows].astype(str)).tolist():
            stack, _ = open_stack(self._paths[name])
            here = np.flatnonzero(table.stack[rows] == name)
            images = np.stack([self._section(stack, int(rows[i])) for i in here])
            block[torch.as_tensor(here)] = fourier_crop_images(torch.from_numpy(images), self.box)
        return -block if self._invert else block

    def _section(self, stack: NDArray[Any], row: int) -> NDArray[np.float32]:
        table = self._table
        image = np.asarray(stack[table.index[row]], dtype=np.float32)
        if not np.isfinite(image).all():
            raise InputError(
                f"{table.source.name}: particle row {row + 1}: expected finite pixels in image {table.index[row] + 1} of "
                f"{table.stack[row]}, got NaN or infinity; remove the row or extract the image again"
            )
        return image


def import_stacks(
    table: ParticleTable,
    out: str | Path,
    options: ImportOptions | None,
    form: str,
    invert: bool,
    stack_directory: str | Path | None,
    on_progress: Progress,
) -> Path:
    """Import the images that a table of another program names; ``form`` is what the store calls the table's file."""
    images = StackImages(table, stack_directory, invert=invert)
    attributes = {
        "source": {"format": form, "file": table.source.name, "stacks": images.names},
        "import_options": {"inverted": invert},
    }
    table = replace(table, notes=(*table.notes, *images.notes))
    return import_particles(table, images, out, options or ImportOptions(), attributes, on_progress=on_progress)
