"""Patches cut from one micrograph: its defects mended, its pixel brought to the one wanted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cryobench.errors import InputError
from cryobench.interop.boxes import BoxTable
from cryobench.noise.defects import Micrograph, find_defects, mend
from cryobench.noise.positions import choose_positions

PIXEL_TOLERANCE: Final = 1e-3
"""Pixel sizes that differ by less than this fraction are the same."""


@final
@dataclass(frozen=True)
class Wanted:
    """What is cut: see :func:`cryobench.noise.extract.extract_noise`. Lengths in angstrom, the box in pixels."""

    box: int
    pixel_size: float | None
    particle_diameter: float | None
    distance: float
    edge: float
    per_micrograph: int


def cut_patches(
    image: Micrograph, boxes: BoxTable, pixel: float, wanted: Wanted, path: Path
) -> tuple[NDArray[np.float32], NDArray[np.int32], int]:
    """Patches ``(patch, y, x)`` as they were recorded, their first pixels (x, y), and how many defects the micrograph has."""
    none = np.empty((0, wanted.box, wanted.box), np.float32), np.empty((0, 2), np.int32)
    scale = 1.0 if wanted.pixel_size is None else pixel / wanted.pixel_size
    if len(boxes) == 0 or min(image.shape) * scale < wanted.box:
        return *none, 0
    if wanted.particle_diameter is None and (boxes.box == 0).any():
        raise InputError(
            f"{boxes.source}: expected the side of every box, found positions alone; give --particle-diameter"
        )
    height, width = image.shape
    outside = ((boxes.centres < 0) | (boxes.centres >= (width, height))).any(1)
    if outside.all():
        raise InputError(
            f"{boxes.source}: expected boxes inside {path.name} of {width} x {height} px, got centres such as "
            f"({boxes.centres[0, 0]:g}, {boxes.centres[0, 1]:g}); boxes must be in pixels of the micrograph as it is"
        )
    broken = find_defects(image)
    level = np.float32(np.median(image[~broken])) if not broken.all() else np.float32(0)
    clean = mend(image, broken, np.random.default_rng(0)) - level
    defects = int(broken.sum())
    sides = boxes.box.astype(np.float64)
    if wanted.particle_diameter is not None:
        sides[:] = wanted.particle_diameter / pixel
    if scale < 1 - PIXEL_TOLERANCE:
        clean, broken = _resampled(clean, scale), _moved(broken, scale)
    else:
        scale = 1.0
    positions = choose_positions(
        clean,
        broken,
        boxes.centres * scale,
        sides * scale,
        box=wanted.box,
        pixel_size=pixel / scale,
        distance=wanted.distance * scale / pixel,
        edge=wanted.edge * scale / pixel,
        count=wanted.per_micrograph,
    )
    if len(positions) == 0:
        return *none, defects
    return np.stack([clean[y : y + wanted.box, x : x + wanted.box] for x, y in positions]) + level, positions, defects


def _resampled(image: Micrograph, scale: float) -> Micrograph:
    """A micrograph with fewer pixels over the same field, by Fourier cropping. Pixel 0 stays where it was."""
    (height, width), (h, w) = image.shape, (round(n * scale) for n in image.shape)
    spectrum = fft.rfft2(image)
    keep_y, keep_x = (h - 1) // 2, (w - 1) // 2  # every frequency that has its partner
    kept = np.zeros((h, w // 2 + 1), dtype=spectrum.dtype)
    kept[: keep_y + 1, : keep_x + 1] = spectrum[: keep_y + 1, : keep_x + 1]
    kept[-keep_y:, : keep_x + 1] = spectrum[-keep_y:, : keep_x + 1]
    return np.asarray(fft.irfft2(kept, s=(h, w)) * (h * w / (height * width)), dtype=np.float32)


def _moved(broken: NDArray[np.bool_], scale: float) -> NDArray[np.bool_]:
    """Defects on the resampled micrograph: every pixel that one falls into."""
    small = np.zeros([round(n * scale) for n in broken.shape], dtype=np.bool_)
    ys, xs = ((index * scale).astype(int) for index in np.nonzero(broken))
    small[np.minimum(ys, small.shape[0] - 1), np.minimum(xs, small.shape[1] - 1)] = True
    return small
