from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cryobench.cli import main
from cryobench.errors import InputError
from cryobench.evaluate.bare import evaluate_map
from cryobench.evaluate.options import Options
from cryobench.evaluate.run import write_result
from cryobench.report.comparison_tables import describe_cells
from cryobench.report.leaderboard import BARE, find_results, gather_leaderboard
from cryobench.report.rows import gather_rows


def change(run: Path, into: Path, **changes: Any) -> Path:
    """A result with something else in it, in a directory of its own."""
    into.mkdir(parents=True)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    (into / "result.json").write_text(json.dumps(result | changes), encoding="utf-8")
    return into


def shift(run: Path) -> dict[str, Any]:
    """A curve that is not the run's, so that the result is no copy."""
    fsc = json.loads((run / "result.json").read_text(encoding="utf-8"))["fsc"]
    return {"fsc": fsc | {"half_map": [value * 0.99 for value in fsc["half_map"]]}}


def test_runs_of_one_scenario_are_one_group_ranked_by_the_truth(small_runs: Path) -> None:
    board = gather_leaderboard([small_runs])
    assert {cell.scenario for cell in board.cells} == {"tiny · box 16 of 14.7 Å voxels, D2"}
    methods = [row for row in gather_rows(board) if row.kind == "method"]
    assert [(row.name, row.rank, len(row.cells)) for row in methods] == [
        ("backproject", None, 1),
        ("cryogan[fast]", 1, 2),
    ]
    assert methods[0].told_poses == "oracle poses"
    yardsticks = [row.name for row in gather_rows(board) if row.kind == "yardstick"]
    assert yardsticks == ["ellipsoid", "two pure-noise halves", "oracle poses"]


def test_results_that_cannot_be_read_are_named_and_copies_left_out(small_runs: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    for name in ("a", "b"):
        (runs / name).mkdir()
        shutil.copy(small_runs / "cryogan-0" / "result.json", runs / name)
    (runs / "old").mkdir()
    (runs / "old" / "result.json").write_text('{"schema": 0}')
    board = gather_leaderboard([runs, runs / "a"])
    assert len(board.cells) == 1
    assert any("old" in note and "got 0" in note for note in board.notes)
    assert any(note == f"left out: {runs / 'b'} holds the same result as {runs / 'a'}" for note in board.notes)


def test_what_may_not_be_compared_is_told_apart(small_runs: Path, tmp_path: Path) -> None:
    run = small_runs / "cryogan-0"
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    scenario = result["dataset"]["scenario"]
    noisy = {"seed": 0, "scenario": scenario | {"noise": scenario["noise"] | {"snr_db": -5.0}}}
    own = {"seed": 0, "scenario": scenario | {"name": "of-mine"}}
    other = {"seed": 0, "scenario": own["scenario"] | {"particles": 7}}
    change(run, tmp_path / "noisy", dataset=noisy, **shift(run))
    change(run, tmp_path / "asymmetric", symmetry="C1", **shift(run))
    change(run, tmp_path / "filtered", gaussian_filter=2.0, **shift(run))
    change(run, tmp_path / "mine", dataset=own, scenario="of-mine", **shift(run))
    change(run, tmp_path / "other", dataset=other, scenario="of-mine", **shift(run))
    groups = {cell.scenario for cell in gather_leaderboard([small_runs, tmp_path]).cells}
    assert groups == {
        "tiny · box 16 of 14.7 Å voxels, D2",
        "tiny · box 16 of 14.7 Å voxels, D2 (2)",
        "tiny · box 16 of 14.7 Å voxels, C1",
        "tiny --snr -5.0 · box 16 of 14.7 Å voxels, D2",
        "of-mine · box 16 of 14.7 Å voxels, D2",
        "of-mine · box 16 of 14.7 Å voxels, D2 (2)",
    }


def test_budgets_and_repeats_of_one_seed_are_not_taken_for_seeds(small_runs: Path, tmp_path: Path) -> None:
    run = small_runs / "cryogan-0"
    change(run, tmp_path / "again", **shift(run))
    change(run, tmp_path / "short", budget_seconds=30.0, **shift(run))
    board = gather_leaderboard([run, tmp_path])
    names = [row.name for row in gather_rows(board) if row.kind == "method"]
    assert len(names) == 3
    assert sorted("budget=30 s" in name for name in names) == [False, False, True]
    assert sum(f"run={tmp_path / 'again'}" in name for name in names) == 1


def test_bare_maps_join_the_runs_on_the_data_whose_truth_they_were_measured_against(
    small_runs: Path, tmp_path: Path
) -> None:
    run = small_runs / "cryogan-0"
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    unknown = dict.fromkeys(("params", "scenario", "seed", "dataset", "particles", "cost", "provenance"))
    digests = {"truth": "abc", "truth_store": "def"}
    change(run, tmp_path / "run", digests=digests, **shift(run))
    maps = {"kin": digests, "volume": {"truth": "abc", "truth_store": None}, "stranger": {"truth": "xyz"}}
    for name, own in maps.items():
        change(run, tmp_path / "maps" / name, method=f"{name}.mrc", digests=own, **unknown)
    board = gather_leaderboard([tmp_path])
    groups = {cell.method: cell.scenario for cell in board.cells}
    label = "tiny · box 16 of 14.7 Å voxels, D2"
    assert groups["cryogan"] == groups["kin.mrc"] == groups["volume.mrc"] == label
    assert groups["stranger.mrc"] == f"maps against {result['specimen']} · box 16 of 14.7 Å voxels, D2"
    assert all((BARE in cell.notes) is cell.method.endswith(".mrc") for cell in board.cells)


def test_a_map_of_another_program_stands_among_the_runs_on_its_data(small_runs: Path, tmp_path: Path) -> None:
    run = small_runs / "backproject-0"
    options = Options(bootstrap_draws=0, yardsticks=False)
    found = evaluate_map(run / "mean.mrc", run / "truth.zarr", symmetry="D2", name="theirs", options=options)
    (tmp_path / "map").mkdir()
    write_result(found, tmp_path / "map")
    board = gather_leaderboard([small_runs, tmp_path])
    assert len({cell.scenario for cell in board.cells}) == 1
    rows = {row.name: row for row in gather_rows(board) if row.kind == "method"}
    assert rows["theirs"].rank == 1
    assert describe_cells(rows["theirs"]) == "a map from elsewhere"
    # the same densities, but for the frame that they were turned into for the file
    truth = [rows[name].figures["truth 0.5"].found["value"] for name in ("theirs", "backproject")]
    assert truth[0] == pytest.approx(truth[1], rel=0.02)


def test_stores_are_not_searched_and_nothing_found_is_an_error(small_runs: Path, tmp_path: Path) -> None:
    change(small_runs / "cryogan-0", tmp_path / "predicted.zarr")
    with pytest.raises(InputError, match="found none that can be read"):
        gather_leaderboard([tmp_path])
    with pytest.raises(InputError, match="found none at"):
        gather_leaderboard([tmp_path / "nowhere"])
    assert list(find_results(small_runs / "cryogan-0" / "result.json")) == [small_runs / "cryogan-0" / "result.json"]


def test_command_prints_every_format(
    small_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")

    def run(*options: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["leaderboard", str(small_runs), *options])
        assert left.value.code in (0, None)
        return capsys.readouterr().out

    told = run("--html", str(tmp_path / "board.html"))
    assert "1. cryogan[fast]" in told
    assert "backproject (oracle poses)" in told
    assert "ranked by truth 0.5" in told
    assert (tmp_path / "board.html").stat().st_size < 15e6
    lines = list(csv.DictReader(io.StringIO(run("--csv"))))
    assert [line["rank"] for line in lines if line["kind"] == "method"] == ["", "1"]
    assert json.loads(run("--json", "--by", "truth_0.143"))["rows"][1]["rank"] == 1
    assert run("--markdown").startswith("## leaderboard")


@pytest.mark.parametrize("options", [["--csv", "--json"], ["--by", "half_map_0.143"]])
def test_command_refuses_what_it_cannot_do(
    small_runs: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["leaderboard", str(small_runs), *options])
    assert left.value.code == 2
    assert "--csv" in (said := capsys.readouterr().err) or "truth_0.5" in said
