"""What a reader of the table must know, as sentences that stand in the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from cryobench.evaluate.superpose import Superposed

GAP_OF_CHANCE: Final = 0.02
"""What the alignment of two halves with independent noise, and the choice of the last shell, may add to a mean gap."""
TOO_MUCH_ALIKE: Final = 0.999
"""No two maps of independent noise correlate so in every shell; copies of one map do, also where one was moved."""


def find_warnings(measured: Mapping[str, Any], superposed: Superposed) -> list[str]:
    """Everything that is to be said of what was measured.

    Args:
        measured: as :func:`cryobench.evaluate.measure.measure` returns it.
        superposed: what it was measured on.
    """
    return [
        *measured["masked"]["mask"]["flaws"],
        *_about_hands(measured["alignment"]),
        *_about_maps(superposed),
        *_about_halves(measured, superposed),
    ]


def _about_hands(alignments: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    open_hands = [name for name, found in alignments.items() if found is not None and found["hand"] == "undecided"]
    if open_hands:
        pairs = ", ".join(name.replace("_", " ").replace("half", "half ") for name in open_hands)
        yield f"the hand is undecided ({pairs}): the maps do not tell it from its mirror image"
    mean = alignments["mean_to_truth"]
    if mean is not None and mean["hand"] == "mirrored":
        yield "the mean map is of the other hand than the truth; it was compared mirrored"


def _about_maps(superposed: Superposed) -> Iterator[str]:
    named = {"half1": "half 1", "half2": "half 2", "mean": "the mean map"}
    for name, volume in superposed.maps.items():
        if not bool(volume.max() > volume.min()):
            yield f"{named[name]} has nothing to correlate: it is {float(volume.max()):g} everywhere"


def _about_halves(measured: Mapping[str, Any], superposed: Superposed) -> Iterator[str]:
    half_map = measured["fsc"]["half_map"]
    if half_map is None:
        return
    if min(half_map[1:]) > TOO_MUCH_ALIKE:
        yield (
            "the half-maps are alike in every shell, so they are not independent (the same map twice?): "
            "their correlation says nothing"
        )
    for name, said in (("half1", "half 1"), ("half2", "half 2")):
        if superposed.maps["mean"].any() and torch.equal(superposed.maps["mean"], superposed.maps[name]):
            yield f"the map and {said} are the same map; the half-maps should be made of half of the images each"
    intervals = measured["intervals"]
    gap = None if intervals is None else intervals["mean_gap"]
    if gap is not None and gap["low"] > GAP_OF_CHANCE:
        yield "the half-maps promise more than the truth bears out (hallucination gap): they share a bias"
