"""Quality over time: how fast a method's snapshots become good."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

TARGETS: Final = (40.0, 30.0, 20.0, 15.0, 12.0, 10.0, 8.0)
"""Angstrom."""


def is_reached(found: Mapping[str, Any], target: float) -> bool:
    """Whether a resolution, as ``result.json`` states it, is as fine as ``target`` in angstrom.

    A curve that never falls through its threshold has reached the Nyquist limit and whatever is coarser, and no finer target.
    """
    return found["value"] is not None and found["value"] <= target


def meets(entry: Mapping[str, Any], target: float) -> bool:
    """Whether a snapshot has reached the target: against the truth at 0.5 where there is one, and the halves at 0.143.

    A half-map figure alone counts only where no truth is known.
    """
    curves = [(entry.get("truth"), "0.5"), (entry.get("half_map"), "0.143")]
    known = [curve[threshold] for curve, threshold in curves if curve is not None]
    return bool(known) and all(is_reached(found, target) for found in known)


def time_to_targets(
    entries: Sequence[Mapping[str, Any]], targets: Sequence[float] = TARGETS
) -> list[dict[str, float | None]]:
    """For each target in angstrom the seconds and images of the first snapshot from which on all meet it; None if none does.

    A snapshot that meets a target by a fluctuation and is followed by one that does not has not arrived.
    """
    times: list[dict[str, float | None]] = []
    for target in targets:
        arrived = None
        for entry in reversed(entries):
            if not meets(entry, target):
                break
            arrived = entry
        times.append(
            {
                "target": target,
                "seconds": None if arrived is None else arrived["seconds"],
                "images_seen": None if arrived is None else arrived["images_seen"],
            }
        )
    return times


def area_under(
    entries: Sequence[Mapping[str, Any]], curve: str, threshold: str, along: str, nyquist: float
) -> float | None:
    """Mean over the run of the resolved share of spatial frequencies: 1 from the start to the end is perfect, 0 is nothing.

    A snapshot stands for the time until the next; before the first nothing was resolved.

    Args:
        entries: snapshots in order, as ``result.json`` lists them.
        curve: ``"truth"`` or ``"half_map"``.
        threshold: ``"0.143"`` or ``"0.5"``.
        along: ``"seconds"`` or ``"images_seen"``.
        nyquist: resolution limit in angstrom.

    Returns:
        None where there is no snapshot, no such curve, or no time between them.
    """
    known = [entry for entry in entries if entry.get(curve) is not None]
    if not known or not known[-1][along] > 0:
        return None
    area = 0.0
    for entry, following in itertools.pairwise(known):
        value = entry[curve][threshold]["value"]
        area += (following[along] - entry[along]) * (0.0 if value is None else nyquist / value)
    return area / float(known[-1][along])


def summarise(over_time: Mapping[str, Sequence[Mapping[str, Any]]], nyquist: float) -> dict[str, Any]:
    """Area under the curves and times to targets of paired halves' snapshots, for ``result.json``."""
    pairs = over_time["half_map"]
    return {
        "area": {
            f"{curve}_{threshold}_over_{along}": area_under(pairs, curve, threshold, along, nyquist)
            for curve, threshold in (("truth", "0.5"), ("half_map", "0.143"))
            for along in ("seconds", "images_seen")
        },
        "time_to_target": time_to_targets(pairs),
    }
