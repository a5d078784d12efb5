"""Where on a micrograph noise may be cut: far from particles, edges and defects, apart from one another, the quietest first.

Quietest first, but not by chance: equal noise has other variances in every patch, and to take the lowest of hundreds of positions
would take noise that is lower than noise is (measured on simulated micrographs: a quarter less power in the lowest shells). So
variances that chance alone tells apart are one class, and within a class the order is random.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryobench.noise.defects import NORMAL_MAD

FINEST_DETAIL: Final = 10.0
"""Angstrom; the variance that ranks patches is of what is coarser: finer than that, counting noise hides what differs."""
DEFECTS: Final = 1e-3
"""Largest share of defect pixels of a patch."""
LEAST_VARIANCE: Final = 0.25
"""Fraction of the median variance below which a patch is no noise but an obstruction, or a hole of the gain reference."""


def choose_positions(
    micrograph: NDArray[np.float32],
    broken: NDArray[np.bool_],
    centres: NDArray[np.float64],
    sides: NDArray[np.float64],
    *,
    box: int,
    pixel_size: float,
    distance: float,
    edge: float,
    count: int,
) -> NDArray[np.int32]:
    """First pixels ``(patch, 2)`` in (x, y) of at most ``count`` patches, of rising class of local variance.

    The variance is of the micrograph between :data:`FINEST_DETAIL` and half the patch (a difference of Gaussians), over the whole
    patch by a uniform filter. Positions are tried on a grid of an eighth of the patch. The order within a class is the same in
    every run.

    Args:
        micrograph: ``(y, x)``, defects mended.
        broken: its defects.
        centres: ``(particle, 2)`` in (x, y), pixels.
        sides: ``(particle,)`` of the squares about them that belong to the particles, pixels.
        box: side of a patch, pixels.
        pixel_size: angstrom.
        distance: pixels between a patch and the nearest such square, at least.
        edge: pixels between a patch and the micrograph's edge, at least.
        count: how many patches.
    """
    step = max(1, box // 8)
    height, width = micrograph.shape
    first = int(np.ceil(edge))
    ys = np.arange(first, height - box - first + 1, step)
    xs = np.arange(first, width - box - first + 1, step)
    if len(ys) == 0 or len(xs) == 0:
        return np.empty((0, 2), np.int32)
    banded = ndimage.gaussian_filter(micrograph, max(FINEST_DETAIL / pixel_size / 4, 0.5))
    banded -= ndimage.gaussian_filter(micrograph, box / 4)
    # the mean over a patch, at the patch's middle pixel
    middle = np.ix_(ys + box // 2, xs + box // 2)
    mean = ndimage.uniform_filter(banded, box)[middle]
    banded *= banded
    variance = np.maximum(ndimage.uniform_filter(banded, box)[middle] - mean**2, 1e-30)
    recorded = ndimage.uniform_filter(micrograph * micrograph, box)[middle]
    recorded -= ndimage.uniform_filter(micrograph, box)[middle] ** 2
    allowed = ndimage.uniform_filter(broken.astype(np.float32), box)[middle] <= DEFECTS
    for (x, y), side in zip(centres, sides, strict=True):
        reach = side / 2 + distance
        near_y = (ys + box > y - reach) & (ys < y + reach)
        near_x = (xs + box > x - reach) & (xs < x + reach)
        allowed[np.ix_(near_y, near_x)] = False
    if allowed.any():
        allowed &= recorded > LEAST_VARIANCE * np.median(recorded[allowed])
    chosen: list[tuple[int, int]] = []
    classes = _classes(np.log(variance), allowed, -(-box // step))
    shuffled = np.random.default_rng(0).permutation(classes.size)
    for index in shuffled[np.argsort(classes.ravel()[shuffled], kind="stable")]:
        row, column = divmod(int(index), len(xs))
        if len(chosen) == count:
            break
        if allowed[row, column]:
            y, x = int(ys[row]), int(xs[column])
            chosen.append((x, y))
            allowed[np.ix_(np.abs(ys - y) < box, np.abs(xs - x) < box)] = False  # no pixel twice
    return np.array(chosen, dtype=np.int32).reshape(-1, 2)


def _classes(logs: NDArray[np.float32], allowed: NDArray[np.bool_], apart: int) -> NDArray[np.int64]:
    """Class of each position's log variance: 0 for what chance explains at the quietest level, then two deviations wide each.

    Chance is what neighbours differ by that are a patch, ``apart`` positions, from one another. The quietest level is the lowest
    mean over three patches a side.
    """
    differences = [
        (logs[apart:] - logs[:-apart])[allowed[apart:] & allowed[:-apart]],
        (logs[:, apart:] - logs[:, :-apart])[allowed[:, apart:] & allowed[:, :-apart]],
    ]
    both = np.abs(np.concatenate(differences))
    chance = NORMAL_MAD * float(np.median(both)) / 2**0.5 if len(both) else 0.0
    if chance == 0 or not allowed.any():
        return np.argsort(np.argsort(logs, axis=None)).reshape(logs.shape)
    weight = ndimage.uniform_filter(allowed.astype(np.float32), 3 * apart, mode="constant")
    smooth = ndimage.uniform_filter(np.where(allowed, logs, 0), 3 * apart, mode="constant")
    full = allowed & (weight > 0.5 * weight.max())
    quietest = float((smooth[full] / weight[full]).min())
    return np.maximum(np.ceil((logs - quietest) / (2 * chance) - 1), 0).astype(np.int64)
