from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cryobench.report.comparison import Cell, Comparison
from cryobench.report.comparison_formats import as_csv, as_json, as_markdown
from cryobench.report.comparison_tables import compare_in_terminal, explain, gather_squares
from cryobench.report.rows import Row, find_best, gather_rows

VOXEL = 3.665
PUBLISHED = {"half_map 0.143": 8.6, "truth 0.5": 15.3, "truth 0.143": 5.0}
TIMES = "\N{MULTIPLICATION SIGN}"
UNREACHED = {"value": None, "state": "below_at_first_shell"}
LIMIT = {"value": 2 * VOXEL, "state": "above_to_nyquist"}


def crossed(value: float) -> dict[str, Any]:
    return {"value": value, "state": "crossed"}


def at(first: Any, second: Any) -> dict[str, Any]:
    found = [crossed(value) if isinstance(value, (int, float)) else value for value in (first, second)]
    return dict(zip(("0.143", "0.5"), found, strict=True))


def make_result(
    half_map: Any = 10.0, truth: Any = (12.0, 20.0), gap: float | None = 0.01, *, oracle: bool = False, **changes: Any
) -> dict[str, Any]:
    resolution = {"half_map": at(half_map, 15.0), "truth": None if truth is None else at(*truth)}
    ellipsoid = {"resolution": {"half_map": at(LIMIT, LIMIT), "truth": at(25.0, 49.0)}}
    noise = {"resolution": {"half_map": at(UNREACHED, UNREACHED)}}
    poses = {"resolution": {"half_map": at(LIMIT, LIMIT), "truth": at(LIMIT, 8.0)}}
    base: dict[str, Any] = {"resolution": resolution, "voxel_size": VOXEL, "hallucination": {"mean_gap": gap}}
    base |= {"yardsticks": {"ellipsoid": ellipsoid, "noise_halves": noise, "oracle_poses": poses}, "warnings": []}
    base |= {
        "oracle_poses": oracle,
        "cost": {
            "total_wall_seconds": 60.0,
            "half1": {"peak_memory_bytes": 2**30},
            "half2": {"peak_memory_bytes": None},
        },
        "intervals": None,
    }
    return base | changes


def cell(scenario: str = "-20 dB", method: str = "cryogan", seed: int = 0, **changes: Any) -> Cell:
    base: dict[str, Any] = {"params": {"preset": "fast"}, "state": "finished", "result": make_result()}
    base |= {"published": PUBLISHED if method == "cryogan" else {}}
    return Cell(scenario, method, seed=seed, **(base | changes))


def failed(method: str, state: Any, reason: str, scenario: str = "-20 dB", **changes: Any) -> Cell:
    return cell(scenario, method, state=state, reason=reason, result=None, params={}, **changes)


def compare(*cells: Cell, **changes: Any) -> Comparison:
    base: dict[str, Any] = {"name": "betagal", "description": "Three noises.", "size": "desk", "source": "Gupta 2021"}
    return Comparison(cells=cells, **(base | changes))


def only(rows: list[Row], name: str) -> Row:
    (found,) = (row for row in rows if row.name == name)
    return found


def render(comparison: Comparison, width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(compare_in_terminal(comparison))
    return capture.get()


def test_seeds_make_one_row_with_the_median_and_the_range() -> None:
    truths = ((12.0, 24.0), (13.0, 20.0), (11.0, 22.0))
    cells = [cell(seed=i, result=make_result(truth=truth, gap=0.01 * i)) for i, truth in enumerate(truths)]
    rows = gather_rows(compare(*cells))
    row = only(rows, "cryogan[fast]")
    figure = row.figures["truth 0.5"]
    assert (figure.found["value"], figure.finest, figure.coarsest) == (22.0, 20.0, 24.0)
    assert (figure.coverage, figure.over_seeds) == (0.75, True)
    assert (row.gap, row.gap_range) == (0.01, (0.0, 0.02))
    assert [r.name for r in rows] == ["published", row.name, "ellipsoid", "two pure-noise halves", "oracle poses"]


def test_a_seed_that_did_not_reach_the_threshold_leaves_the_end_open() -> None:
    results = [make_result(truth=(12.0, value)) for value in (20.0, 21.0, UNREACHED)]
    row = only(gather_rows(compare(*(cell(seed=i, result=r) for i, r in enumerate(results)))), "cryogan[fast]")
    figure = row.figures["truth 0.5"]
    assert (figure.found["value"], figure.finest, figure.coarsest) == (21.0, 20.0, None)
    assert row.objection == "truth 0.5 not reached"  # of one seed, and so the half-maps of none count
    assert not row.is_counted("half_map 0.143")
    assert row.is_counted("truth 0.5")


def test_one_seed_shows_its_own_interval_and_says_so() -> None:
    interval = {"0.143": {"finest": 11.5, "coarsest": 12.9}, "0.5": {"finest": 18.0, "coarsest": None}}
    intervals = {"half_map": None, "truth": interval, "mean_gap": {"low": -0.02, "high": 0.05}, "level": 0.9}
    comparison = compare(cell(result=make_result(intervals=intervals)))
    row = only(gather_rows(comparison), "cryogan[fast]")
    figure = row.figures["truth 0.5"]
    assert (figure.finest, figure.coarsest, figure.coverage, figure.over_seeds) == (18.0, None, 0.9, False)
    assert row.figures["half_map 0.143"].coverage is None
    assert row.gap_range == (-0.02, 0.05)
    assert any(said.startswith("of one seed") for said in explain(comparison, [row]))


def test_published_values_stand_beside_ours_with_the_ratio() -> None:
    comparison = compare(cell(result=make_result(half_map=LIMIT, truth=(12.0, 20.0))))
    rows = gather_rows(comparison)
    row = only(rows, "cryogan[fast]")
    assert row.figures["truth 0.5"].ratio == pytest.approx(20.0 / 15.3)
    assert row.figures["half_map 0.143"].ratio == pytest.approx(7.33 / 8.6)
    told = render(comparison, 100)
    assert f"1.31{TIMES}" in told
    assert f"≤ 0.85{TIMES}" in told
    # of the published figures, only 5.0 Å lies beyond what this box can show
    assert [row.figures[key].is_beyond for key in PUBLISHED] == [False, False, True]
    assert "5.00 Å *" in told
    assert "finer than Nyquist here (7.33 Å)" in told
    assert set(only(rows, "published").figures) == set(PUBLISHED)


def test_no_ratio_where_the_threshold_was_not_reached() -> None:
    row = only(gather_rows(compare(cell(result=make_result(truth=(12.0, UNREACHED))))), "cryogan[fast]")
    assert row.figures["truth 0.5"].ratio is None


def test_runs_without_a_result_are_rows_with_their_reason() -> None:
    comparison = compare(
        cell(), failed("relion", "declined", "relion_refine is not here"), failed("other", "failed", "NaN at step 3")
    )
    told = render(comparison, 80)
    assert "declined: relion_refine is not here" in " ".join(told.split())
    assert "other on -20 dB, seed 0: failed: NaN at step 3" in told
    assert [row.name for row in gather_rows(comparison) if row.kind == "method"] == ["cryogan[fast]", "relion", "other"]


def test_some_seeds_missing_is_said() -> None:
    told = render(compare(cell(), cell(seed=1, state="failed", result=None, reason="killed")), 100)
    assert "1 of 2 seeds; 1 failed" in told


def test_parameters_tell_rows_of_one_preset_apart() -> None:
    cells = [cell(params={"preset": "fast", "steps": steps, "batch": 8}) for steps in (10, 20)]
    names = [row.name for row in gather_rows(compare(*cells)) if row.kind == "method"]
    assert names == ["cryogan[fast] (steps=10)", "cryogan[fast] (steps=20)"]


def test_yardsticks_count_a_seed_once_however_many_methods_share_it() -> None:
    poses = {"resolution": {"half_map": at(8.0, 9.0), "truth": at(8.5, 10.0)}}
    other = make_result()["yardsticks"] | {"oracle_poses": poses}
    cells = [cell(), cell(method="relion"), cell(method="third"), cell(seed=1, result=make_result(yardsticks=other))]
    oracle = only(gather_rows(compare(*cells)), "oracle poses").figures["truth 0.5"]
    assert oracle.found["value"] == pytest.approx(2 / (1 / 8 + 1 / 10))
    assert (oracle.finest, oracle.coarsest) == (8.0, 10.0)
    ellipsoid = only(gather_rows(compare(*cells)), "ellipsoid").figures["truth 0.5"]
    assert (ellipsoid.found["value"], ellipsoid.coverage) == (49.0, None)


def test_yardsticks_that_were_not_measured_are_missed() -> None:
    comparison = compare(cell(result=make_result(yardsticks=None)))
    assert "yardsticks were not measured: -20 dB" in explain(comparison, gather_rows(comparison))


def test_best_is_neither_an_oracle_nor_a_half_map_that_does_not_count() -> None:
    proud = make_result(half_map=8.0, truth=(30.0, 60.0))  # its half-maps agree, on a blob
    cells = [
        cell(method="proud", result=proud),
        cell(method="honest", result=make_result(half_map=10.0, truth=(12.0, 20.0))),
        cell(method="given", result=make_result(half_map=7.5, truth=(7.5, 7.5), oracle=True)),
    ]
    rows = gather_rows(compare(*cells))
    for figure in ("half_map 0.143", "truth 0.143", "truth 0.5"):
        assert [row.name for row in find_best(rows, figure)] == ["honest[fast]"]
    assert find_best(rows[:1], "truth 0.5") == []
    blobs = compare(cell(method="proud", result=proud), cell(method="prouder", result=proud))
    assert find_best(gather_rows(blobs), "truth 0.143") == []


def test_ranks_go_by_the_truth_and_leave_out_oracles_and_those_without_one() -> None:
    results = {
        "second": make_result(half_map=8.0, truth=(14.0, 20.0)),
        "first": make_result(half_map=12.0, truth=(12.0, 20.0)),
        "unreached": make_result(truth=(15.0, UNREACHED)),
        "given": make_result(truth=(7.5, 7.5), oracle=True),
        "imported": make_result(half_map=3.0, truth=None),
    }
    cells = [cell(method=name, params={}, result=result) for name, result in results.items()]
    rows = [row for row in gather_rows(compare(*cells, ranked_by="truth 0.5")) if row.kind == "method"]
    ranked = [("given", None), ("first", 1), ("second", 2), ("unreached", 3), ("imported", None)]
    assert [(row.name, row.rank) for row in rows] == ranked
    swapped = gather_rows(compare(*cells, ranked_by="truth 0.143"))
    assert [row.rank for row in swapped if row.name in ("first", "second", "unreached")] == [1, 2, 3]


def test_scenarios_that_make_a_square_are_told_as_one() -> None:
    places = [(a, b) for a in ("uniform", "sigma 2") for b in ("uniform", "sigma 2")]
    cells = [
        cell(f"{a} as {b}", place=(a, b), result=make_result(truth=(12.0, 20.0 + i))) for i, (a, b) in enumerate(places)
    ]
    cells.append(failed("relion", "failed", "it broke", "uniform as uniform", place=("uniform", "uniform")))
    comparison = compare(*cells, axes=("true prior", "assumed prior"))
    (square,) = gather_squares(comparison, gather_rows(comparison))
    assert (square.method, square.rows, square.columns) == (
        "cryogan[fast]",
        ("uniform", "sigma 2"),
        ("uniform", "sigma 2"),
    )
    values = {place: row.figures["truth 0.5"].found["value"] for place, row in square.entries.items()}
    assert values == {place: 20.0 + i for i, place in enumerate(places)}
    told = render(comparison, 80)
    assert "true prior in rows, assumed prior in columns" in " ".join(told.split())
    assert f"15.3 Å 1.31{TIMES}" in told
    assert gather_squares(compare(*cells), gather_rows(comparison)) == []


@pytest.mark.parametrize("width", [80, 100, 140])
def test_terminal_cuts_nothing(width: int) -> None:
    results = [make_result(half_map=LIMIT, truth=(100.0 + i, UNREACHED), gap=-0.5) for i in range(3)]
    cells = [cell("a quite long label of a scenario, 20 % shifts", seed=i, result=r) for i, r in enumerate(results)]
    told = render(compare(*cells, failed("relion-with-a-long-name", "declined", "no")), width)
    assert max(len(line) for line in told.splitlines()) <= width
    assert "…" not in told
    for part in ("(≤ 7.33 Å)", "100\N{EN DASH}102", "not reached", "-0.500", "1 min 00 s", "3 seeds"):
        assert part in told


def test_csv_and_json_hold_every_row_with_states_beside_the_numbers() -> None:
    comparison = compare(
        cell(result=make_result(truth=(12.0, UNREACHED)), directory=Path("cells/a")), failed("relion", "failed", "a\nb")
    )
    lines = list(csv.DictReader(io.StringIO(as_csv(comparison))))
    told = json.loads(as_json(comparison))
    assert [line["name"] for line in lines] == [row["name"] for row in told["rows"]]
    assert [line["kind"] for line in lines] == ["published", "method", "method"] + ["yardstick"] * 3
    ours = lines[1]
    assert (ours["truth 0.5 value"], ours["truth 0.5 state"]) == ("", "below_at_first_shell")
    assert (float(ours["truth 0.143 value"]), float(ours["truth 0.143 published"])) == (12.0, 5.0)
    assert float(ours["truth 0.143 ratio"]) == pytest.approx(12 / 5)
    assert (ours["half_maps_counted"], ours["objection"]) == ("False", "truth 0.5 not reached")
    assert lines[2]["reasons"] == "a\nb"
    assert told["rows"][1]["figures"]["truth 0.5"]["value"] is None
    assert told["rows"][1]["params"] == {"preset": "fast"}
    assert told["rows"][0]["figures"]["truth 0.5"] == crossed(15.3)
    assert (told["published"], told["rows"][1]["peak_memory_bytes"]) == ("Gupta 2021", 2**30)


def test_markdown_is_one_table_that_shows_text_as_it_is() -> None:
    text = as_markdown(compare(cell(), failed("a|b", "failed", "x|y <z>")))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "cryogan\\[fast]" in text
    assert "x\\|y \\<z>" in text
    assert f"10.0 Å 1.16{TIMES}" in text
    assert "8.60 Å" in text
