"""Resolution of every snapshot that a method kept on its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cryobench.conventions import HALVES
from cryobench.evaluate.describe import describe_resolutions
from cryobench.evaluate.fsc import correlate
from cryobench.evaluate.move import apply
from cryobench.evaluate.over_time import summarise
from cryobench.evaluate.superpose import Superposed, scaled_mean
from cryobench.types import Volume

Snapshot = tuple[float, int, Volume]
"""Seconds, images seen, volume."""


def measure_over_time(
    snapshots: Mapping[int, Sequence[Snapshot]], superposed: Superposed, voxel_size: float
) -> dict[str, Any]:
    """``over_time`` and ``quality_over_time`` of ``result.json``: snapshots superposed as the final volumes are."""
    truths = superposed.truths

    def compare(name: str, a: Volume, b: Volume | None) -> dict[str, Any]:
        if b is None:
            return {name: None}
        curve = correlate(a, b)
        return {name: describe_resolutions(curve, a.shape[-1], voxel_size), f"{name}_fsc": curve.tolist()}

    over_time: dict[str, Any] = {
        f"half{half}": [
            {"seconds": seconds, "images_seen": images, **compare("truth", volume, truths.get(f"half{half}"))}
            for seconds, images, volume in snapshots[half]
        ]
        for half in HALVES
    }
    pairs = []
    assert superposed.between is not None
    for first, second in zip(snapshots[1], snapshots[2], strict=False):  # a half may have been stopped earlier
        moved = apply(superposed.between, second[2])
        pairs.append(
            {
                "seconds": max(first[0], second[0]),
                "images_seen": max(first[1], second[1]),
                **compare("half_map", first[2], moved),
                **compare("truth", scaled_mean(first[2], moved), truths.get("mean")),
            }
        )
    over_time["half_map"] = pairs
    return {"over_time": over_time, "quality_over_time": summarise(over_time, 2 * voxel_size)}
