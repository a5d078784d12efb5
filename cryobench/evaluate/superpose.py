"""Half-maps, their mean and the truth put into one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryobench.evaluate.align import align
from cryobench.evaluate.move import Alignment, apply
from cryobench.types import Volume


@dataclass(frozen=True)
class Superposed:
    """Maps to be compared, and how they came to lie on one another.

    Attributes:
        maps: by name. ``mean`` is the map that is held against the truth; ``half1`` as it is and ``half2`` moved onto it, where
            there are halves.
        truths: the truth moved onto ``mean``, ``half1`` and the unmoved half 2 (``half2``); empty without a truth.
        unmoved_half2: as it was.
        between: alignment of half 2 on half 1.
        to_truth: alignment on the truth of each map that ``truths`` names.
    """

    maps: Mapping[str, Volume]
    truths: Mapping[str, Volume]
    unmoved_half2: Volume | None
    between: Alignment | None
    to_truth: Mapping[str, Alignment]


def superpose(
    halves: tuple[Volume, Volume] | None,
    full: Volume | None,
    truth: Volume | None,
    voxel_size: float,
    symmetry: str,
) -> Superposed:
    """Superpose half 2 on half 1, and the truth on each map.

    Only half 2 is interpolated. The truth, which is free of noise, is superposed on each map of its own accord, so that no map
    is interpolated to be compared with it; what is reported is the inverse, how the map would be moved onto the truth.

    Args:
        halves: half 1 and half 2, or None.
        full: the map to hold against the truth; the mean of the halves where None.
        truth: of the same grid, or None.
        voxel_size: angstrom.
        symmetry: point group of all, main axis on z.
    """
    maps: dict[str, Volume] = {}
    between = None
    if halves is not None:
        between = align(halves[1], halves[0], voxel_size, symmetry)
        maps = {"half1": halves[0], "half2": apply(between, halves[1])}
    maps["mean"] = scaled_mean(maps["half1"], maps["half2"]) if full is None else full
    truths: dict[str, Volume] = {}
    to_truth: dict[str, Alignment] = {}
    if truth is not None:
        unmoved = {"mean": maps["mean"]}
        if halves is not None:
            unmoved |= {"half1": halves[0], "half2": halves[1]}
        for name, volume in unmoved.items():
            found = align(truth, volume, voxel_size, symmetry)
            truths[name] = apply(found, truth)
            to_truth[name] = found.inverse()
    return Superposed(maps, truths, None if halves is None else halves[1], between, to_truth)


def scaled_mean(half1: Volume, half2: Volume) -> Volume:
    """Mean of half 1 and half 2 brought to the standard deviation of half 1.

    That is the geometric mean of what least squares gives either way round. One way alone would shrink half 2 by the
    halves' correlation: of noisy halves, next to nothing of it would be left in the mean.
    """
    deviation = half2.std()
    scale = half1.std() / deviation if deviation > 0 else 1.0
    return (half1 + scale * half2) / 2
