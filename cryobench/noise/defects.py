"""Pixels of a micrograph that no noise made: not finite, hot or dead, of dead rows, columns and blocks."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

OUTLIER_DEVIATIONS: Final = 8.0
"""Robust standard deviations from the median of its surroundings beyond which a pixel is a defect: of 10^8 Gaussian pixels none,
of counts with a tail very few."""
BLOCK: Final = 8
"""Pixels to the side of the blocks whose median a pixel is held against."""
FLAT: Final = 5
"""Pixels to the side of a square that cannot be all alike by chance."""
NORMAL_MAD: Final = 1.4826
"""Standard deviation of normal values over their median absolute deviation."""

Micrograph = NDArray[np.float32]
Mask = NDArray[np.bool_]


def find_defects(micrograph: Micrograph) -> Mask:
    """Where a micrograph ``(y, x)`` holds a defect.

    Not finite; further than :data:`OUTLIER_DEVIATIONS` robust deviations from the local median (over blocks, so that ice
    gradients are no outliers); rows and columns whose mean or spread lies so far from those of their neighbours; and squares of
    :data:`FLAT` pixels to the side that are all alike.
    """
    broken = ~np.isfinite(micrograph)
    finite = np.where(broken, np.float32(np.median(micrograph[~broken]) if not broken.all() else 0), micrograph)
    height, width = (n // BLOCK * BLOCK for n in finite.shape)
    blocks = finite[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).swapaxes(1, 2)
    medians = np.median(blocks, axis=(2, 3)).astype(np.float32)
    smooth = ndimage.median_filter(medians, 3, mode="nearest")
    padded = np.pad(smooth, ((0, 1), (0, 1)), mode="edge")
    local = np.repeat(np.repeat(padded, BLOCK, 0), BLOCK, 1)[: finite.shape[0], : finite.shape[1]]
    residual = finite - local
    broken |= np.abs(residual) > OUTLIER_DEVIATIONS * max(_deviation(residual), 1e-30)
    flat = ndimage.maximum_filter(finite, FLAT) == ndimage.minimum_filter(finite, FLAT)
    broken |= ndimage.maximum_filter(flat, FLAT)
    residual[broken] = 0
    for axis, squares in ((0, "yx,yx->x"), (1, "yx,yx->y")):
        lines = np.stack([residual.sum(axis), np.sqrt(np.einsum(squares, residual, residual))])
        lines /= np.sqrt(np.maximum((~broken).sum(axis), 1))
        apart = np.abs(lines - ndimage.median_filter(lines, (1, 2 * BLOCK + 1), mode="nearest"))
        spread = np.array([max(_deviation(values), 1e-30) for values in apart])
        bad = (apart > OUTLIER_DEVIATIONS * spread[:, None]).any(0)
        broken |= bad[None, :] if axis == 0 else bad[:, None]
    return broken


def _deviation(values: NDArray[np.float32]) -> float:
    """Robust standard deviation about zero: from at most about a million values, evenly spread."""
    flat = values.ravel()[:: max(1, values.size // 1_000_000)]
    return NORMAL_MAD * float(np.median(np.abs(flat))) or float(flat.std())


def mend(micrograph: Micrograph, broken: Mask, source: np.random.Generator) -> Micrograph:
    """The micrograph with good pixels nearby, chosen at random, in the place of the broken ones: noise of the same kind.

    Where none is near, from further off: from anywhere in the end.
    """
    mended = micrograph.copy()
    height, width = broken.shape
    ys, xs = np.nonzero(broken)
    reach = BLOCK
    while len(ys) and reach < 4 * max(height, width):
        y = np.clip(ys + source.integers(-reach, reach + 1, len(ys)), 0, height - 1)
        x = np.clip(xs + source.integers(-reach, reach + 1, len(xs)), 0, width - 1)
        found = ~broken[y, x]
        mended[ys[found], xs[found]] = micrograph[y[found], x[found]]
        ys, xs, reach = ys[~found], xs[~found], 2 * reach
    mended[ys, xs] = 0 if broken.all() else micrograph[~broken].mean(dtype=np.float64)
    return mended
