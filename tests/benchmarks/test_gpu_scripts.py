"""The scripts for a machine with a GPU run to their ends on one without, at sizes that cost nothing."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
pytest.importorskip("cryobench_cryogan")


Script: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """``script("check", ...)`` runs it with these words; gives its status and what it printed."""

    def run(name: str, *words: object) -> tuple[int, str]:
        monkeypatch.syspath_prepend(FOLDER)
        status = importlib.import_module(name).main([str(word) for word in words])
        return status, capsys.readouterr().out

    return run


def test_every_check_runs_and_what_is_done_is_not_done_again(script: Script, tmp_path: Path) -> None:
    # one section is lost on the way, as it is when a call is killed
    status, out = script("check", "--device", "cpu", "--tiny", "--out", tmp_path)
    assert status == 0, out
    found = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert all(section["whole"] and not section["error"] for section in found.values())
    assert all(row["as expected"] for row in found["agreement"]["rows"] + found["alignment"]["rows"])
    assert {row["preset"] for row in found["cryogan"]["rows"]} == {"fast", "paper"}
    assert "## simulation" in (tmp_path / "check.md").read_text(encoding="utf-8")
    found["agreement"]["whole"] = False
    (tmp_path / "check.json").write_text(json.dumps(found), encoding="utf-8")
    status, out = script("check", "--device", "cpu", "--tiny", "--out", tmp_path)
    assert status == 0, out
    assert {line.split(":")[0] for line in out.splitlines()[:-1]} == {"agreement"}


def test_a_device_that_is_not_there_is_a_row_and_not_the_end(script: Script, tmp_path: Path) -> None:
    status, _ = script("check", "--device", "cuda:77", "--tiny", "--out", tmp_path, "--only", "machine", "agreement")
    assert status == 1
    found = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert found["machine"]["error"]
    assert found["agreement"]["error"]
    assert "Failed" in (tmp_path / "check.md").read_text(encoding="utf-8")


def test_the_headline_goes_on_where_a_call_ended(script: Script, tmp_path: Path) -> None:
    words = ("--device", "cpu", "--tiny", "--out", tmp_path, "--minutes", 0.02)
    status, out = script("headline", *words, "--budget-per-call", 0)
    assert status == 75, out
    assert "give the same command again" in out
    status, out = script("headline", *words)
    assert status == 0, out
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["resolution"]["truth"]["0.5"]["state"]
    assert "| truth 0.5 | 15.3 |" in out


def test_the_prediction_grows_with_the_box(script: Script) -> None:
    status, out = script("predict", "--boxes", 16, 32, "--batch", 4)
    assert status is None
    for preset in ("fast", "convolutions", "paper"):
        rows = [line.split("|") for line in out.splitlines() if line.startswith(f"| {preset} |")]
        assert [int(row[2]) for row in rows] == [16, 32]
        peaks, rates = ([float(row[place].replace(",", "")) for row in rows] for place in (-2, 6))
        assert peaks[0] <= peaks[1]
        assert min(rates) > 0
