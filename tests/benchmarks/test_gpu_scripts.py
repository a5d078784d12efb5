"""The scripts for a machine with a GPU run to their ends on one without, at sizes that cost nothing."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
import zarr
from torch.profiler import record_function

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
pytest.importorskip("cryobench_cryogan")
from cryobench_cryogan.method import Params  # noqa: E402
from cryobench_cryogan.schedule import Schedule  # noqa: E402
from cryobench_cryogan.step import PHASES  # noqa: E402

Script: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """``script("check", ...)`` runs it with these words; gives its status and what it printed."""

    def run(name: str, *words: object) -> tuple[int, str]:
        monkeypatch.syspath_prepend(FOLDER)
        status = importlib.import_module(name).main([str(word) for word in words])
        return status, capsys.readouterr().out

    return run


def test_every_check_runs_and_what_is_done_is_not_done_again(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one section is lost on the way, as it is when a call is killed
    compiled: list[torch.nn.Module] = []

    def compile_nothing(network: torch.nn.Module) -> torch.nn.Module:  # it would take minutes
        compiled.append(network)
        return network

    monkeypatch.setattr(torch, "compile", compile_nothing)
    status, out = script("check", "--device", "cpu", "--tiny", "--out", tmp_path)
    assert status == 0, out
    assert len(compiled) == 1
    found = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert all(section["whole"] and not section["error"] for section in found.values())
    assert all(row["as expected"] for row in found["agreement"]["rows"] + found["alignment"]["rows"])
    assert {(row["preset"], row["with"]) for row in found["cryogan"]["rows"]} == {
        ("fast", ""),
        ("paper", ""),
        ("convolutions", "bfloat16=True"),
        ("convolutions", "bfloat16=False"),
    }
    assert [row["with"] for row in found["compile"]["rows"]] == ["", "compile=True"]
    assert all(row["real images/s"] > 0 for row in found["cryogan"]["rows"] + found["compile"]["rows"])
    # the last one trained: at the native box alone, and ended by its budget
    trained: Any = zarr.open_group(tmp_path / "training" / "predicted.zarr", mode="r")
    assert trained.attrs["params"]["coarsest"] is None
    assert all(0 < row["steps"] < trained.attrs["params"]["steps"] for row in found["cryogan"]["rows"])
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


def test_the_tests_of_the_library_and_of_the_plugin_are_run_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    check = importlib.import_module("check")
    called: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        called.append(command)
        return subprocess.CompletedProcess(command, 1, "FAILED tests/test_it.py\n1 failed", "")

    monkeypatch.setattr(check.subprocess, "run", run)
    rows = list(check.check_tests(check.Settings(torch.device("cpu"), tmp_path, tiny=False)))
    assert [command[-3:] for command in called[:2]] == [["tests", "-m", "gpu"], ["plugins/cryogan/tests", "-m", "gpu"]]
    assert all((check.ROOT / command[-3]).is_dir() for command in called)
    assert all(row["failed"] == "FAILED tests/test_it.py" for row in rows)


def test_the_headline_fills_its_minutes_or_takes_all_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    choose = importlib.import_module("headline").choose_training
    params, budget = choose("fast", {"symmetrise": False}, None)
    assert (params["symmetrise"], budget) == (False, 600)
    # never by the number of steps, a hundred thousand or so in ten minutes, but by the clock
    schedule = Schedule(Params.model_validate(params), 20500, 184)
    assert schedule.progress(150_000, 0.5) == 0.5
    assert schedule.rate(150_000, 1.0) == pytest.approx(Params().final_rate)
    assert choose("fast", {"steps": 4000}, 2.0) == ({"preset": "fast", "steps": 4000}, 120)
    # rates that fall after every epoch are not told of a budget: none is set unless it is asked for
    params, budget = choose("paper", {}, None)
    assert budget == math.inf
    assert Schedule(Params.model_validate(params), 20500, 184).steps == 25_625
    assert choose("paper", {}, 2.0) == ({"preset": "paper"}, 120)


def test_the_headline_tells_when_it_was_cut_short(script: Script, tmp_path: Path) -> None:
    small = json.dumps({"channels": 2, "epochs": 1e6})
    words = ("--device", "cpu", "--tiny", "--out", tmp_path, "--preset", "paper", "--params", small)
    status, out = script("headline", *words, "--minutes", 0.01)
    assert status == 0, out
    assert "1,000,000 steps" in out
    assert out.count("cut short") == 2, out


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
        launches, traffic, rest, rates, peaks = (
            [float(row[place].replace(",", "")) for row in rows] for place in (3, 4, 8, 9, -2)
        )
        assert peaks[0] <= peaks[1]
        assert traffic[0] < traffic[1]
        assert min(*launches, *rest, *rates) > 0


def test_work_is_counted_by_its_phases(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    counting = importlib.import_module("counting")
    weight = torch.nn.Parameter(torch.zeros(10, 10, device="meta"))
    optimiser = torch.optim.Adam([weight], foreach=True)

    def work() -> None:
        with record_function("product"):
            product = weight @ weight
        torch.zeros(1000).add_(1)  # of the processor alone
        weight.grad = product.detach()
        with record_function("optimisers"):
            optimiser.step()

    work()
    found = counting.count_phases(work, [weight])
    assert set(found) == {"product", "optimisers", counting.OTHER}
    assert found["product"] == counting.Cost(1, 3 * 400, 2 * 10**3, found["product"].memory)
    assert found[counting.OTHER].launches == 0
    # at least weight and both moments written, these and the gradient read
    assert found["optimisers"].traffic >= 7 * 400
    assert counting.count(work, [weight]).launches == 1 + found["optimisers"].launches


def test_whole_steps_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    predict = importlib.import_module("predict")
    observed = predict.observe(tmp_path, 16)
    fast, larger = (predict.count_step(observed, Params(batch=batch)) for batch in (8, 16))
    assert set(fast) == {*PHASES, predict.OTHER} - {"penalty"}
    assert sum(cost.launches for cost in fast.values()) == sum(cost.launches for cost in larger.values())
    assert sum(cost.traffic for cost in fast.values()) < sum(cost.traffic for cost in larger.values())
    changes: tuple[dict[str, Any], ...] = {}, {"penalty_interval": 1}, {"bfloat16": True}
    convolutions = Params(preset="convolutions", bfloat16=False, batch=8)
    plain, often, half = (predict.count_step(observed, convolutions.model_copy(update=change)) for change in changes)
    assert often["penalty"].launches == convolutions.penalty_interval * plain["penalty"].launches > 0
    assert half["discriminator"].launches > plain["discriminator"].launches  # conversions
