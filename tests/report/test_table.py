from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from cryobench.report.table import format_duration, format_length, format_resolution, headline, resolution_rows


def make_result(**changes: Any) -> dict[str, Any]:
    crossed = {"0.143": {"value": 12.34, "state": "crossed"}, "0.5": {"value": None, "state": "below_at_first_shell"}}
    limit = {"0.143": {"value": 14.66, "state": "above_to_nyquist"}, "0.5": {"value": 123.4, "state": "crossed"}}
    resolution = {"half_map": crossed, "truth": limit, "truth_half1": crossed, "truth_half2": crossed}
    return {"method": "cryogan", "scenario": "snr-20", "oracle_poses": False, "resolution": resolution} | changes


def render(result: dict[str, Any]) -> str:
    console = Console(width=100, color_system=None)
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


def test_headline_holds_every_comparison_in_order() -> None:
    lines = render(make_result()).splitlines()
    rows = [line for line in lines if "│" in line]
    names = ["half-map", "truth", "half 1 vs truth", "half 2 vs truth"]
    assert [row.split("│")[1].strip() for row in rows] == names
    assert "<= 14.7 Å (Nyquist)" in rows[1]
    assert "123 Å" in rows[1]
    assert "not reached" in rows[0]
    assert "oracle" not in "".join(lines)


def test_headline_leaves_out_the_truth_where_there_is_none() -> None:
    resolution = make_result()["resolution"] | dict.fromkeys(("truth", "truth_half1", "truth_half2"))
    result = make_result(resolution=resolution, scenario=None)
    assert [name for name, _ in resolution_rows(result)] == ["half-map"]
    assert "imported particles" in render(result)


def test_headline_marks_oracle_poses() -> None:
    assert "backproject (oracle poses)" in render(make_result(method="backproject", oracle_poses=True))


def test_what_must_stand_with_the_numbers_stands_under_them() -> None:
    told = render(make_result(hallucination={"mean_gap": 0.0581}, warnings=["the mask cuts the particle"]))
    assert "hallucination gap +0.058" in told
    assert "the mask cuts the particle" in told
    assert "gap" not in render(make_result(hallucination={"mean_gap": None}, warnings=[]))
