from __future__ import annotations

from typing import Any

import pytest

from cryobench.evaluate.over_time import area_under, is_reached, meets, summarise, time_to_targets

NYQUIST = 5.0


def found(value: float | None) -> dict[str, Any]:
    state = "below_at_first_shell" if value is None else "above_to_nyquist" if value == NYQUIST else "crossed"
    return {"value": value, "state": state}


def entry(
    seconds: float, half_map: float | None, truth: float | None = None, with_truth: bool = True
) -> dict[str, Any]:
    curve = {"0.143": found(half_map), "0.5": found(half_map)}
    against = {"0.143": found(truth), "0.5": found(truth)} if with_truth else None
    return {"seconds": seconds, "images_seen": int(10 * seconds), "half_map": curve, "truth": against}


def test_above_to_nyquist_meets_targets_no_finer_than_nyquist() -> None:
    assert is_reached(found(NYQUIST), 5.0)
    assert is_reached(found(NYQUIST), 8.0)
    assert not is_reached(found(NYQUIST), 4.9)
    assert not is_reached(found(None), 1000.0)


def test_a_half_map_figure_counts_only_where_the_truth_bears_it_out() -> None:
    assert not meets(entry(1, half_map=10.0, truth=25.0), 20.0)
    assert meets(entry(1, half_map=10.0, truth=15.0), 20.0)
    assert not meets(entry(1, half_map=25.0, truth=15.0), 20.0)
    assert meets(entry(1, half_map=10.0, with_truth=False), 20.0)
    assert not meets({"seconds": 1, "images_seen": 1}, 20.0)


def test_time_to_target_is_the_first_snapshot_from_which_on_all_meet_it() -> None:
    entries = [entry(1, None), entry(2, 18.0, 18.0), entry(3, 22.0, 22.0), entry(4, 15.0, 16.0), entry(5, 9.0, 12.0)]
    assert time_to_targets(entries, (20.0, 12.0, 8.0)) == [
        {"target": 20.0, "seconds": 4, "images_seen": 40},
        {"target": 12.0, "seconds": 5, "images_seen": 50},
        {"target": 8.0, "seconds": None, "images_seen": None},
    ]
    assert time_to_targets([], (20.0,)) == [{"target": 20.0, "seconds": None, "images_seen": None}]


def test_area_is_the_mean_resolved_share_of_frequencies() -> None:
    # nothing for 2 s, half of Nyquist's frequency for 2 s, all of it for 6 s
    entries = [entry(0, None), entry(2, 10.0), entry(4, 5.0), entry(10, 5.0)]
    assert area_under(entries, "half_map", "0.143", "seconds", NYQUIST) == pytest.approx(
        (0 * 2 + 0.5 * 2 + 1.0 * 6) / 10
    )
    assert area_under(entries, "half_map", "0.143", "images_seen", NYQUIST) == pytest.approx(0.7)


def test_what_came_before_the_first_snapshot_was_nothing() -> None:
    assert area_under([entry(5, 5.0), entry(10, 5.0)], "half_map", "0.143", "seconds", NYQUIST) == pytest.approx(0.5)


def test_sooner_is_better() -> None:
    early = [entry(0, None), entry(2, 8.0), entry(10, 6.0)]
    late = [entry(0, None), entry(8, 8.0), entry(10, 6.0)]
    areas = [area_under(e, "half_map", "0.143", "seconds", NYQUIST) for e in (early, late)]
    assert areas[0] is not None
    assert areas[1] is not None
    assert areas[0] > areas[1]


def test_nothing_to_measure() -> None:
    assert area_under([], "truth", "0.5", "seconds", NYQUIST) is None
    assert area_under([entry(0, 5.0)], "half_map", "0.143", "seconds", NYQUIST) is None
    assert area_under([entry(1, 5.0, with_truth=False)], "truth", "0.5", "seconds", NYQUIST) is None


def test_summary_of_pairs() -> None:
    said = summarise({"half_map": [entry(0, None), entry(4, 9.0, 11.0), entry(8, 9.0, 11.0)]}, NYQUIST)
    assert said["area"]["truth_0.5_over_seconds"] == pytest.approx(0.5 * 5 / 11)
    assert said["area"]["half_map_0.143_over_images_seen"] == pytest.approx(0.5 * 5 / 9)
    reached = {row["target"]: row["seconds"] for row in said["time_to_target"]}
    assert (reached[12.0], reached[10.0]) == (4, None)
