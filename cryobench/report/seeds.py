"""Seeds combined: the median of resolutions over the runs of several seeds, and an interval for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryobench.report.reading import Found, spatial_frequency

LEVEL: Final = 0.9
"""That the percentiles are taken at."""


@dataclass(frozen=True)
class Combined:
    """A resolution over seeds.

    Attributes:
        median: in the form of ``result.json``. Of an even number of seeds the two in the middle are averaged in spatial
            frequency where both were read off a crossing, and are the coarser one with its state otherwise.
        finest: the interval's fine end, one of the seeds.
        coarsest: its coarse end, one of the seeds; a seed that did not reach the threshold leaves it without a number.
        coverage: share of repetitions in which such an interval holds the median of all seeds there could be.
        seeds: how many.
    """

    median: Found
    finest: Found
    coarsest: Found
    coverage: float
    seeds: int


def combine_seeds(founds: Sequence[Found]) -> Combined:
    """Median and interval of what the runs of several seeds reached.

    States are never turned into numbers: seeds are put in order (not reached, then by spatial frequency, then above the threshold
    up to Nyquist), and every figure is one of them.

    Args:
        founds: one resolution for each seed, all at one threshold.
    """
    ordered = sorted(founds, key=lambda found: (spatial_frequency(found), found["state"] == "above_to_nyquist"))
    count = len(ordered)
    rank = median_rank(count)
    return Combined(
        _middle(ordered[(count - 1) // 2], ordered[count // 2]),
        ordered[count - rank],
        ordered[rank - 1],
        rank_coverage(rank, count),
        count,
    )


def _middle(coarser: Found, finer: Found) -> Found:
    if coarser["value"] == finer["value"] or coarser["state"] != "crossed" or finer["state"] != "crossed":
        return coarser
    mean = (spatial_frequency(coarser) + spatial_frequency(finer)) / 2
    return {"value": 1 / mean, "state": "crossed"}


def median_rank(count: int, level: float = LEVEL) -> int:
    """Rank from either end of the seeds at which the percentile bootstrap of the median puts the ends of its interval.

    Exact, without drawing: the lower median of ``count`` values drawn with replacement is at most the ``k``-th smallest with
    probability ``P(Bin(count, k / count) >= (count + 1) // 2)`` (Efron 1979, Annals of Statistics 7:1-26, section 3). By symmetry
    the other end has the same rank from above. Up to six seeds it is 1: the interval is the range of the seeds.

    Args:
        count: of the seeds.
        level: of the interval.
    """
    needed = (count + 1) // 2
    for rank in range(1, needed + 1):
        share = rank / count
        reached = sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(needed, count + 1))
        if reached >= (1 - level) / 2:
            return rank
    raise AssertionError("the lower median is at most itself in at least half of all resamples")


def rank_coverage(rank: int, count: int) -> float:
    """Probability that the median of a continuous distribution lies between the ``rank``-th values from both ends of a sample.

    ``1 - 2 P(Bin(count, 1/2) < rank)``, whatever the distribution (Thompson 1936, Annals of Mathematical Statistics 7:122-128):
    50, 75, 88, 94 and 97 % for the range of 2, 3, 4, 5 and 6 seeds, so few seeds cannot give the nominal 90 %, and tables say
    what they give.
    """
    return max(0.0, 1 - 2 * sum(math.comb(count, k) for k in range(rank)) / 2**count)
