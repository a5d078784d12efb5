"""A suite that is killed, and goes on; one cell of it fails, and is kept; what is finished is never touched again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from cryobench.errors import InputError, StoreError
from cryobench.suite.cells import cell_directory, state_of, title_of
from cryobench.suite.gather import gather
from cryobench.suite.plan import CellPlan, Plan
from cryobench.suite.request import Request, make_plan
from cryobench.suite.run import run_suite
from cryobench.suite.spec import load_suite
from cryobench.suite.states import State, is_locked, read_state

SUITE = """description = "small"
sizes.desk = { box = 16, particles = 192, budget = "100s" }
methods = [{ name = "backproject" }, { name = "cryogan", params = { steps = 20, batch = 16, snapshots = 2 } }]
rows = [{ label = "0 dB", scenario = "tiny", published = { "truth 0.5" = 50.0 }, notes = ["a note"] }]
"""
PATIENCE = 300.0

pytestmark = pytest.mark.slow


def contents(directory: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of writing of every file; locks are opened by whoever looks, and not counted."""
    files = [p for p in sorted(directory.rglob("*")) if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(directory)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


@dataclass
class Recorder:
    """Watches; and while something runs, looks at who runs it and knocks at the locked directory."""

    request: Request
    directory: Path
    told: list[tuple[str, str]] = field(default_factory=list)
    parents: set[str] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)

    def ended(self, title: str, state: State, directory: Path) -> None:
        self.told.append((title, state.state))

    def running(self, now: Sequence[tuple[str, State]], done: int, total: int) -> None:
        if now and not self.refusals:
            with pytest.raises(StoreError) as refusal:
                run_suite(self.request, self.directory)
            self.refusals.append(str(refusal.value))
        for process in psutil.Process().children(recursive=True):
            try:
                if "cryobench.suite.work" in process.cmdline():
                    self.parents.add(" ".join(process.parent().cmdline()))  # type: ignore[union-attr]
            except psutil.Error:
                continue  # it has just left


@dataclass
class Story:
    """What was seen of one suite, run four times."""

    request: Request
    directory: Path
    plan: Plan
    killed: State
    halves: list[dict[str, tuple[int, int]]]
    second: Recorder
    third: Recorder
    fourth: Recorder
    after: list[dict[str, tuple[int, int]]]
    states: list[State]

    @property
    def cells(self) -> tuple[CellPlan, CellPlan]:
        (backproject, cryogan) = self.plan.cells
        return backproject, cryogan


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    root = tmp_path_factory.mktemp("suite")
    (root / "small.toml").write_text(SUITE)
    out = root / "out"
    request = Request(load_suite(str(root / "small.toml")))
    plan = make_plan(request, out)
    failing, killed = (cell_directory(out, cell) for cell in plan.cells)
    failing.mkdir(parents=True)
    (failing / "predicted.zarr").write_text("in the way")
    command = [sys.executable, "-m", "cryobench.cli", "suite", "run", str(root / "small.toml"), "--out", str(out)]
    with (root / "log").open("w") as log:
        process = subprocess.Popen([*command, "--workers", "1"], stdout=log, stderr=log)
    wait_for(
        lambda: read_state(killed).stage == "reconstruct half 2" or process.poll() is not None,
        "the second half to begin",
    )
    assert process.poll() is None, (root / "log").read_text()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not is_locked(killed), "the processes of the killed run to leave")
    wait_for(lambda: not is_locked(failing), "the processes of the killed run to leave")
    state = state_of(out, plan.cells[1])
    halves, after, states, recorders = [], [], [], []
    half = killed / "predicted.zarr" / "half1" / "volume"
    halves.append(contents(half))
    for number in range(3):
        if number == 2:
            (failing / "predicted.zarr").unlink()
        recorders.append(Recorder(request, out))
        run_suite(request, out, workers=1, watcher=recorders[-1], retry_failed=number == 2)
        halves.append(contents(half))
        after.append({**contents(killed), **{f"failing/{k}": v for k, v in contents(failing).items()}})
        states.append(state_of(out, plan.cells[0]))
    return Story(request, out, plan, state, halves, *recorders, after, states)


def test_a_killed_cell_waits_and_says_where_it_was_stopped(story: Story) -> None:
    assert story.killed.state == "waiting"
    assert str(story.killed.reason).startswith("stopped")


def test_it_goes_on_from_its_finished_half(story: Story) -> None:
    assert story.halves[0], "the first half was whole when the run was killed"
    assert story.halves[1] == story.halves[0]
    assert state_of(story.directory, story.cells[1]).state == "finished"


def test_a_failed_cell_keeps_its_reason_and_does_not_stop_the_other(story: Story) -> None:
    failed = title_of(story.cells[0])
    assert story.states[0].state == "failed"
    assert "found a file; move it away" in str(story.states[0].reason)
    assert (failed, "failed") in story.second.told
    assert (title_of(story.cells[1]), "finished") in story.second.told


def test_it_is_tried_again_only_when_asked(story: Story) -> None:
    assert story.after[1] == story.after[0], "nothing was written by a run with nothing to do"
    assert [state.state for state in story.states] == ["failed", "failed", "finished"]
    assert not (cell_directory(story.directory, story.cells[0]) / "traceback.txt").exists()


def test_finished_cells_are_never_touched(story: Story) -> None:
    for before, then in zip(story.after, story.after[1:], strict=False):
        own = {name: stamp for name, stamp in before.items() if not name.startswith("failing/")}
        assert own
        assert {name: stamp for name, stamp in then.items() if not name.startswith("failing/")} == own


def test_cells_run_on_dask_workers(story: Story) -> None:
    assert story.second.parents
    assert all("multiprocessing" in parent for parent in story.second.parents), story.second.parents
    assert not story.third.parents


def test_a_second_run_in_the_same_directory_is_refused(story: Story) -> None:
    (refusal,) = story.second.refusals
    assert f"is being run by process {os.getpid()} on " in refusal
    assert "--out" in refusal


def test_a_cell_is_a_run_directory_and_shares_its_dataset(story: Story) -> None:
    for cell in story.cells:
        place = cell_directory(story.directory, cell)
        assert (place / "report.html").is_file()
        for store in ("observed.zarr", "truth.zarr"):
            assert os.readlink(place / store) == f"../../datasets/{cell.dataset}/{store}"
    assert len(list((story.directory / "datasets").iterdir())) == 1


def test_the_tables_gather_them(story: Story) -> None:
    comparison = gather(story.directory)
    assert [(cell.method, cell.state) for cell in comparison.cells] == [
        ("backproject", "finished"),
        ("cryogan", "finished"),
    ]
    assert {cell.scenario for cell in comparison.cells} == {"0 dB"}
    for cell in comparison.cells:
        assert cell.published == {"truth 0.5": 50.0}
        assert cell.notes == ("a note",)
        assert cell.result is not None
        assert cell.result["method"] == cell.method
        assert cell.result["params"] == cell.params
    for name in ("comparison.csv", "comparison.md", "comparison.json", "suite.html"):
        assert (story.directory / name).stat().st_size > 100
    assert "--out" in str(comparison.command)


def test_status_tells_states_and_times(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    from cryobench.cli.suite import suite_status

    suite_status(str(story.directory))
    told = capsys.readouterr().out
    assert told.count("finished") == 3
    assert "2 finished; not running now" in told


def test_a_changed_parameter_is_a_new_cell(story: Story) -> None:
    changed = make_plan(Request(story.request.suite, params={"steps": 21}), story.directory)
    assert changed.cells[0].key == story.cells[0].key
    assert state_of(story.directory, changed.cells[1]) == State()
    assert changed.cells[1].dataset == story.cells[1].dataset


def test_a_filter_that_fits_no_cell_is_refused(story: Story) -> None:
    with pytest.raises(InputError, match=r"got 'relion'; there are: 0 dB · backproject · seed 0"):
        run_suite(story.request, story.directory, only="relion")
    before = contents(story.directory / "cells")
    plan = run_suite(story.request, story.directory, only="0 db * cryogan*")
    assert len(plan.cells) == 2
    assert contents(story.directory / "cells") == before
