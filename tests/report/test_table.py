from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from cryobench.report.reading import find_objection, read_yardsticks
from cryobench.report.table import (
    format_duration,
    format_length,
    format_range,
    format_resolution,
    headline,
    headline_rows,
    method_label,
    name_run,
    remarks,
)

CROSSED = {"0.143": {"value": 12.34, "state": "crossed"}, "0.5": {"value": 20.1, "state": "crossed"}}
FAILED = {"0.143": {"value": 12.34, "state": "crossed"}, "0.5": {"value": None, "state": "below_at_first_shell"}}
LIMIT = {"0.143": {"value": 7.33, "state": "above_to_nyquist"}, "0.5": {"value": 123.4, "state": "crossed"}}
NYQUIST = {key: {"value": 7.33, "state": "above_to_nyquist"} for key in ("0.143", "0.5")}


def make_result(**changes: Any) -> dict[str, Any]:
    resolution = {"half_map": CROSSED, "truth": LIMIT, "truth_half1": CROSSED, "truth_half2": CROSSED}
    base = {"method": "cryogan", "params": {"preset": "fast"}, "scenario": "snr-20", "specimen": "phantom"}
    base |= {"particles": {"half1": 5, "half2": 5}, "oracle_poses": False, "resolution": resolution}
    return base | {"box": 64, "voxel_size": 3.665, "symmetry": "D2"} | changes


def make_yardsticks(truth: dict[str, Any] = CROSSED) -> dict[str, Any]:
    ellipsoid = {"resolution": {"half_map": NYQUIST, "truth": truth}}
    noise = {
        "resolution": {"half_map": {t: {"value": None, "state": "below_at_first_shell"} for t in ("0.143", "0.5")}}
    }
    return {"ellipsoid": ellipsoid, "noise_halves": noise, "oracle_poses": None}


def render(result: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(headline(result))
    return capture.get()


@pytest.mark.parametrize(
    ("value", "state", "expected"),
    [
        (12.34, "crossed", "12.3 Å"),
        (7.326, "crossed", "7.33 Å"),
        (14.66, "above_to_nyquist", "<= 14.7 Å (Nyquist)"),
        (None, "below_at_first_shell", "not reached"),
    ],
)
def test_resolutions_say_how_they_were_found(value: float | None, state: str, expected: str) -> None:
    assert format_resolution(value, state) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(9.996, "10.0 Å"), (9.99, "9.99 Å"), (99.96, "100 Å"), (234.5, "234 Å")]
)
def test_lengths_have_three_digits(value: float, expected: str) -> None:
    assert format_length(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "none"),
        (0.25, "0.2 s"),
        (12.6, "13 s"),
        (59.7, "1 min 00 s"),
        (242.0, "4 min 02 s"),
        (12000.0, "3 h 20 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float | None, expected: str) -> None:
    assert format_duration(seconds) == expected


@pytest.mark.parametrize(
    ("finest", "coarsest", "expected"),
    [
        (11.94, 12.81, "11.9\N{EN DASH}12.8"),
        (7.33, 9.2, "≤ 7.33\N{EN DASH}9.20"),
        (7.33, 7.33, "≤ 7.33"),
        (14.1, None, "14.1\N{EN DASH}none"),
        (None, None, "none"),
    ],
)
def test_intervals_say_where_an_end_has_no_number(finest: float | None, coarsest: float | None, expected: str) -> None:
    assert format_range(finest, coarsest, 7.33) == expected


def test_presets_are_part_of_a_methods_name() -> None:
    assert method_label("cryogan", {"preset": "paper"}) == "cryogan[paper]"
    assert method_label("cryogan", {"preset": None}) == method_label("cryogan", None) == "cryogan"
    assert "cryogan[fast] · snr-20" in render(make_result())


def test_titles_say_what_was_measured() -> None:
    assert name_run(make_result(scenario=None)) == "cryogan[fast] · imported particles"
    bare = make_result(method="run_class001.mrc", params=None, scenario=None, particles=None)
    assert name_run(bare) == "run_class001.mrc · map against phantom"
    assert name_run(make_result(oracle_poses=True)) == "cryogan[fast] (oracle poses) · snr-20"
    assert name_run(make_result(given_poses="imported")) == "cryogan[fast] (imported poses) · snr-20"


def test_headline_holds_every_comparison_in_order() -> None:
    masked = {"half_map": {"resolution": {"corrected": LIMIT}}, "truth": {"resolution": {"corrected": CROSSED}}}
    rows = headline_rows(make_result(masked=masked, yardsticks=make_yardsticks()))
    assert [row.name for row in rows] == [
        "half-map",
        "half-map, mask-corrected",
        "truth",
        "truth, mask-corrected",
        "half 1 vs truth",
        "half 2 vs truth",
        "ellipsoid, half-map",
        "ellipsoid, truth",
        "two pure-noise halves",
    ]
    assert rows[0].cells == ("12.3 Å", "20.1 Å")
    assert rows[1].cells == rows[2].cells == ("≤ 7.33 Å", "123 Å")
    assert rows[-1].cells == ("not reached", "not reached")
    assert [row.yardstick for row in rows] == [False] * 6 + [True] * 3


def test_headline_shows_intervals_beside_the_figures() -> None:
    interval = {"0.143": {"finest": 7.33, "coarsest": 12.9}, "0.5": {"finest": 18.0, "coarsest": None}}
    intervals = {"half_map": interval, "truth": None, "mean_gap": {"low": -0.01, "high": 0.02}, "level": 0.9}
    result = make_result(intervals=intervals, hallucination={"mean_gap": 0.004})
    rows = headline_rows(result)
    assert rows[0].ranges == ("≤ 7.33\N{EN DASH}12.9", "18.0\N{EN DASH}none")
    assert rows[1].ranges == ("", "")
    told = render(result)
    assert "intervals 90 %" in told
    assert "+0.004 (-0.010 to +0.020)" in told


def test_headline_leaves_out_the_truth_where_there_is_none() -> None:
    resolution = make_result()["resolution"] | dict.fromkeys(("truth", "truth_half1", "truth_half2"))
    result = make_result(resolution=resolution, scenario=None)
    assert [(row.name, row.counted) for row in headline_rows(result)] == [("half-map", False)]
    assert "no truth to hold them against" in remarks(result)[0]


@pytest.mark.parametrize(
    ("truth", "ellipsoid", "objection"),
    [
        (FAILED, None, "truth 0.5 not reached"),
        (FAILED, CROSSED, "truth 0.5 not reached"),
        (CROSSED, None, None),
        (CROSSED, LIMIT, None),
        (CROSSED, CROSSED, "truth 0.5 reached no better than by an ellipsoid"),
        (LIMIT, CROSSED, "truth 0.5 reached no better than by an ellipsoid"),
        (NYQUIST, CROSSED, None),
        (NYQUIST, NYQUIST, "truth 0.5 reached no better than by an ellipsoid"),
    ],
)
def test_half_map_figures_count_only_where_the_truth_bears_them_out(
    truth: dict[str, Any], ellipsoid: dict[str, Any] | None, objection: str | None
) -> None:
    resolution = make_result()["resolution"] | {"truth": truth}
    yardsticks = None if ellipsoid is None else make_yardsticks(ellipsoid)
    result = make_result(resolution=resolution, yardsticks=yardsticks)
    assert find_objection(result) == objection
    rows = {row.name: row for row in headline_rows(result)}
    assert rows["half-map"].counted is (objection is None)
    assert rows["truth"].counted
    told = render(result)
    assert ("(12.3 Å)" in told) is (objection is not None)
    if objection is not None:
        assert f"are not counted: {objection}" in " ".join(told.split())


def test_a_map_without_halves_has_no_half_map_to_object_to() -> None:
    resolution = make_result()["resolution"] | {"half_map": None, "truth": FAILED}
    result = make_result(resolution=resolution, hallucination=None)
    assert headline_rows(result)[0].name == "truth"
    assert not any("parentheses" in remark for remark in remarks(result))


def test_yardsticks_that_were_not_measured_are_missed() -> None:
    assert any("yardsticks were not measured" in remark for remark in remarks(make_result()))
    assert not any("yardsticks" in remark for remark in remarks(make_result(yardsticks=make_yardsticks())))
    assert list(read_yardsticks(make_result(yardsticks=None))) == []


def test_what_must_stand_with_the_numbers_stands_under_them() -> None:
    told = render(make_result(hallucination={"mean_gap": 0.0581}, warnings=["the mask cuts the particle"]))
    assert "hallucination gap +0.058" in told
    assert "• the mask cuts the particle" in told
    assert "gap" not in render(make_result(hallucination={"mean_gap": None}, warnings=[]))


def test_headline_fits_eighty_columns_uncut() -> None:
    interval = {"0.143": {"finest": 7.33, "coarsest": 112.9}, "0.5": {"finest": 108.0, "coarsest": None}}
    intervals = {"half_map": interval, "truth": interval, "mean_gap": None, "level": 0.9}
    masked = {"half_map": {"resolution": {"corrected": FAILED}}, "truth": {"resolution": {"corrected": FAILED}}}
    resolution = make_result()["resolution"] | {"half_map": FAILED}
    yardsticks = make_yardsticks() | {"oracle_poses": {"resolution": {"half_map": CROSSED, "truth": FAILED}}}
    result = make_result(intervals=intervals, masked=masked, yardsticks=yardsticks, resolution=resolution)
    told = render(result)
    assert max(len(line) for line in told.splitlines()) <= 80
    assert "…" not in told
    for row in headline_rows(result):
        for text in (*row.cells, *row.ranges):
            assert text in told
