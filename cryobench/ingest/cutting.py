"""Particle images cut from micrographs, one micrograph mapped at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryobench.errors import InputError
from cryobench.ingest.particles import ParticleImages
from cryobench.interop.boxes import BoxTable
from cryobench.interop.mrc import open_stack
from cryobench.types import Images

PIXEL_TOLERANCE: Final = 0.01
"""Pixel sizes that differ by more than this fraction are not those of one microscope setting."""


@final
@dataclass(frozen=True)
class Cuts:
    """Which boxes are cut where.

    Attributes:
        row: ``(particle,)`` of the box table.
        micrograph: ``(particle,)`` number of the micrograph.
        corner: ``(particle, 2)`` first pixel (x, y).
        remainder: ``(particle, 2)`` of the centre beyond whole pixels, at most half a pixel on either axis.
        left_out: how many boxes were left out, by reason.
        overlapping: how many of the boxes share pixels with another.
    """

    row: NDArray[np.intp]
    micrograph: NDArray[np.int64]
    corner: NDArray[np.int64]
    remainder: NDArray[np.float64]
    left_out: dict[str, int]
    overlapping: int


def open_micrograph(path: Path) -> tuple[NDArray[Any], float]:
    """Map one micrograph ``(y, x)`` from disk, and its pixel size in angstrom (0 where the header does not say).

    Raises:
        InputError: if it cannot be read or holds several frames.
    """
    frames, pixel_size = open_stack(path)
    if len(frames) != 1:
        raise InputError(f"{path}: expected a micrograph of one frame, got {len(frames)}; sum the movie's frames first")
    return frames[0], pixel_size


def place_cuts(table: BoxTable, rows: Sequence[NDArray[np.intp]], shapes: Sequence[tuple[int, int]], box: int) -> Cuts:
    """Where each micrograph's boxes are cut: at the nearest whole pixel, those beyond the edge or there twice left out.

    Args:
        table: the boxes.
        rows: of the table, for each micrograph.
        shapes: (y, x) of each micrograph.
        box: side of the cut in pixels.
    """
    kept: list[tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]] = []
    left_out: Counter[str] = Counter()
    overlapping = 0
    for number, (mine, (height, width)) in enumerate(zip(rows, shapes, strict=True)):
        centre = np.floor(table.centres[mine] + 0.5)
        inside = ((centre >= box // 2) & (centre <= (width, height) - np.array(box - box // 2))).all(-1)
        corner = centre[inside].astype(np.int64) - box // 2
        first = np.unique(corner, axis=0, return_index=True)[1]
        left_out["beyond the edge"] += int((~inside).sum())
        left_out["at a place that another box has"] += len(corner) - len(first)
        first.sort()
        corner = corner[first]
        if len(corner):
            # two squares share pixels where their corners are nearer than the side on both axes
            neighbours = cKDTree(corner).query_ball_point(corner, box - 0.5, p=np.inf, return_length=True)
            overlapping += int((neighbours > 1).sum())
        kept.append((mine[inside][first], np.full(len(corner), number), corner))
    row, micrograph, corner = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    remainder = table.centres[row] - (corner + box // 2)
    return Cuts(row, micrograph, corner, remainder, {k: n for k, n in left_out.items() if n}, overlapping)


@final
class CutImages(ParticleImages):
    """Boxes of micrographs, protein bright.

    Args:
        micrographs: files.
        cuts: where.
        box: side of the cuts in pixels.
        pixel_size: of the micrographs, angstrom.
        invert: flip the contrast, for micrographs with protein dark.
        source: of the boxes, for messages.
    """

    def __init__(
        self, micrographs: Sequence[Path], cuts: Cuts, box: int, pixel_size: float, *, invert: bool, source: Path
    ) -> None:
        self._micrographs, self._cuts, self._invert, self._source = micrographs, cuts, invert, source
        self.box, self.pixel_size = box, pixel_size

    def read(self, start: int, stop: int) -> Images:
        """Images of cuts ``start ... stop - 1``."""
        images = np.empty((stop - start, self.box, self.box), dtype=np.float32)
        owner = self._cuts.micrograph[start:stop]
        for number in np.unique(owner):
            field, _ = open_micrograph(self._micrographs[number])
            for i in np.flatnonzero(owner == number):
                x, y = self._cuts.corner[start + i]
                images[i] = field[y : y + self.box, x : x + self.box]
                if not np.isfinite(images[i]).all():
                    row = self._cuts.row[start + i] + 1
                    raise InputError(
                        f"{self._micrographs[number].name}: expected finite pixels in the box of {self.box} px at ({x}, {y}) "
                        f"(particle row {row} of {self._source.name}), got NaN or infinity; remove the row or the micrograph"
                    )
        return torch.from_numpy(-images if self._invert else images)
