"""Intervals of what ``result.json`` states, from one run's own coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from cryobench.conventions import THRESHOLDS
from cryobench.evaluate.fsc import frequency, resolution
from cryobench.evaluate.hallucination import measure_gap
from cryobench.evaluate.independent import count_independent
from cryobench.evaluate.intervals import LEVEL, bootstrap_curves, take_interval
from cryobench.types import Curve, Volume


def measure_intervals(
    pairs: Mapping[str, tuple[Volume, Volume]],
    curves: Mapping[str, Curve | None],
    voxel_size: float,
    symmetry: str,
    draws: int,
) -> dict[str, Any] | None:
    """Bootstrap intervals of the resolutions and of the mean gap; None where a map is empty.

    Args:
        pairs: what was compared: ``half_map``, ``truth`` or both. What noise fills, the difference of half-maps tells;
            without them a map's difference from the truth does, part of which is what the map lacks.
        curves: correlation of each pair.
        voxel_size: angstrom.
        symmetry: point group that was imposed on the maps.
        draws: of the bootstrap.
    """
    if not pairs or draws < 1 or not all(volume.any() for pair in pairs.values() for volume in pair):
        return None
    halves, truth = (curves[name] if name in pairs else None for name in ("half_map", "truth"))
    independent = count_independent(*pairs["half_map" if "half_map" in pairs else "truth"], symmetry)
    drawn = bootstrap_curves(halves, truth, independent, draws)
    box = next(iter(pairs.values()))[0].shape[-1]
    found = {
        name: None
        if measured is None or values is None
        else {f"{t:g}": _resolution_interval(measured, values, t, box, voxel_size) for t in THRESHOLDS}
        | {"curve": _band(values)}
        for name, measured, values in zip(("half_map", "truth"), (halves, truth), drawn, strict=True)
    }
    return {
        **found,
        "mean_gap": None if halves is None or truth is None else _gap_interval((halves, truth), drawn),
        "level": LEVEL,
        "draws": draws,
        "independent_share": independent.share,
    }


def _gap_interval(curves: tuple[Curve, Curve], drawn: tuple[Tensor | None, Tensor | None]) -> dict[str, float] | None:
    measured = measure_gap(*curves).mean
    half_maps, truths = drawn
    assert half_maps is not None
    assert truths is not None
    gaps = [measure_gap(half_map, truth).mean for half_map, truth in zip(half_maps, truths, strict=True)]
    known = np.array([gap for gap in gaps if gap is not None])
    if measured is None or not len(known):
        return None
    interval = take_interval(known, measured)
    # where next to no draw lies on one side of it, the correction ends at the outermost draw: what was measured belongs to it
    return {"low": min(interval.low, measured), "high": max(interval.high, measured)}


def _band(curves: Tensor) -> dict[str, list[float]]:
    """Between what values each shell lies, at the level of the intervals."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(curves.numpy(), [tail, 1 - tail], axis=0)
    return {"low": low.tolist(), "high": high.tolist()}


def _resolution_interval(
    measured: Curve, curves: Tensor, threshold: float, box: int, voxel_size: float
) -> dict[str, float | None]:
    found, *frequencies = (frequency(resolution(c, threshold, box, voxel_size)) for c in (measured, *curves))
    interval = take_interval(np.array(frequencies))
    # of a curve that only just stays above, most draws fall through: what was measured belongs to the interval
    low, high = min(interval.low, found), max(interval.high, found)
    return {"finest": 1 / high if high > 0 else None, "coarsest": 1 / low if low > 0 else None}
