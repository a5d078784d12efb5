from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from cryobench.report.seeds import combine_seeds, median_rank, rank_coverage

NOT_REACHED = {"value": None, "state": "below_at_first_shell"}
TO_NYQUIST = {"value": 7.0, "state": "above_to_nyquist"}


def crossed(value: float) -> dict[str, Any]:
    return {"value": value, "state": "crossed"}


@pytest.mark.parametrize("count", range(1, 7))
def test_interval_is_that_of_every_resample_there_is(count: int) -> None:
    # the fifth percentile of the (lower) median over all count**count equally likely resamples
    medians = sorted(sorted(drawn)[(count - 1) // 2] for drawn in itertools.product(range(1, count + 1), repeat=count))
    assert median_rank(count) == medians[math.ceil(0.05 * len(medians)) - 1]


@pytest.mark.parametrize("count", [9, 12, 20])
def test_interval_agrees_with_drawn_resamples(count: int) -> None:
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.integers(1, count + 1, (40_000, count)), axis=1)[:, (count - 1) // 2]
    rank = median_rank(count)
    assert (drawn <= rank).mean() >= 0.05 - 0.005
    assert (drawn <= rank - 1).mean() < 0.05 + 0.005


@pytest.mark.parametrize("count", [2, 3, 5, 9, 10])
@pytest.mark.parametrize("law", ["normal", "exponential"])
def test_intervals_cover_as_often_as_they_say(count: int, law: str) -> None:
    rng = np.random.default_rng(1)
    draws = np.sort(getattr(rng, law)(size=(20_000, count)), axis=1)
    true = 0.0 if law == "normal" else math.log(2)
    rank = median_rank(count)
    held = (draws[:, rank - 1] <= true) & (true <= draws[:, count - rank])
    assert held.mean() == pytest.approx(rank_coverage(rank, count), abs=0.012)


def test_range_of_few_seeds_has_the_coverage_of_a_coin() -> None:
    assert [rank_coverage(1, count) for count in (1, 2, 3, 4)] == [0, 0.5, 0.75, 0.875]


def test_median_of_an_odd_number_is_one_of_the_seeds() -> None:
    found = combine_seeds([crossed(20.0), crossed(10.0), crossed(12.0)])
    assert found.median == crossed(12.0)
    assert (found.finest, found.coarsest, found.seeds, found.coverage) == (crossed(10.0), crossed(20.0), 3, 0.75)


def test_two_crossings_meet_in_spatial_frequency() -> None:
    found = combine_seeds([crossed(10.0), crossed(20.0)])
    assert found.median["value"] == pytest.approx(1 / ((1 / 10 + 1 / 20) / 2))
    assert found.median["state"] == "crossed"


def test_states_are_ordered_and_never_averaged() -> None:
    half = combine_seeds([NOT_REACHED, crossed(10.0)])
    assert half.median == NOT_REACHED
    assert (half.finest, half.coarsest) == (crossed(10.0), NOT_REACHED)
    limit = combine_seeds([TO_NYQUIST, crossed(10.0), TO_NYQUIST, NOT_REACHED])
    assert limit.median == crossed(10.0)
    assert (limit.finest, limit.coarsest) == (TO_NYQUIST, NOT_REACHED)
    assert combine_seeds([TO_NYQUIST, TO_NYQUIST, crossed(7.0)]).median == TO_NYQUIST


def test_one_seed_is_itself_without_coverage() -> None:
    found = combine_seeds([crossed(9.0)])
    assert found.median == found.finest == found.coarsest == crossed(9.0)
    assert found.coverage == 0
