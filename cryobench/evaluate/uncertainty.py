"""Intervals of what ``result.json`` states, from one run's own coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from cryobench.conventions import THRESHOLDS
from cryobench.evaluate.fsc import frequency, resolution
from cryobench.evaluate.hallucination import measure_gap
from cryobench.evaluate.intervals import LEVEL, bootstrap_curves, independent_share, take_interval
from cryobench.types import Volume


def measure_intervals(
    pairs: Mapping[str, tuple[Volume, Volume]], voxel_size: float, symmetry: str, draws: int
) -> dict[str, Any] | None:
    """Bootstrap intervals of the resolutions and of the mean gap; None where a map is empty."""
    if not pairs or draws < 1 or not all(volume.any() for pair in pairs.values() for volume in pair):
        return None
    box = next(iter(pairs.values()))[0].shape[-1]
    halves = pairs.get("half_map")
    share = 1.0 if halves is None else independent_share(*halves)
    drawn = dict(zip(pairs, bootstrap_curves(list(pairs.values()), symmetry, share, draws), strict=True))
    found: dict[str, Any] = {
        name: {f"{t:g}": _resolution_interval(curves, t, box, voxel_size) for t in THRESHOLDS}
        for name, curves in drawn.items()
    }
    gaps: list[float] = []
    if len(drawn) == 2:
        both = zip(drawn["half_map"], drawn["truth"], strict=True)
        gaps = [gap.mean for gap in (measure_gap(half_map, truth) for half_map, truth in both) if gap.mean is not None]
    interval = take_interval(np.array(gaps)) if gaps else None
    return {
        "half_map": None,
        "truth": None,
        **found,
        "mean_gap": None if interval is None else {"low": interval.low, "high": interval.high},
        "level": LEVEL,
        "draws": draws,
        "independent_share": share,
    }


def _resolution_interval(curves: Tensor, threshold: float, box: int, voxel_size: float) -> dict[str, float | None]:
    frequencies = np.array([frequency(resolution(curve, threshold, box, voxel_size)) for curve in curves])
    interval = take_interval(frequencies)
    return {
        "finest": 1 / interval.high if interval.high > 0 else None,
        "coarsest": 1 / interval.low if interval.low > 0 else None,
    }
