"""States, locks, what is left, and how a process of a cell ends."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cryobench.errors import InputError, StoreError
from cryobench.suite.left import estimate_seconds_left
from cryobench.suite.request import Request, make_plan
from cryobench.suite.run import run_suite
from cryobench.suite.spec import Suite
from cryobench.suite.states import State, is_locked, locked, read_state, write_state
from cryobench.suite.task import run_task


def parsed() -> Suite:
    table = {
        "name": "small",
        "description": "small",
        "sizes": {"desk": {"box": 16, "particles": 192, "budget": "100s"}},
        "methods": [{"name": "backproject"}, {"name": "cryogan"}],
        "rows": [{"label": "0 dB", "scenario": "tiny"}],
    }
    return Suite.model_validate(table)


def test_a_process_that_is_killed_is_a_failed_cell(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dataset.json")  # which it reads, and waits for ever
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run_task, str(tmp_path))
        deadline = time.monotonic() + 200
        while read_state(tmp_path).state != "running":
            assert time.monotonic() < deadline, "it never began"
            time.sleep(0.02)
        os.kill(int((tmp_path / ".lock").read_text().split()[1]), signal.SIGKILL)
        ended = future.result()
    assert ended.reason == "its process ended with exit code -9; this often means that memory ran out"
    assert read_state(tmp_path) == ended


def test_a_cell_ends_as_its_dataset_did(tmp_path: Path) -> None:
    write_state(tmp_path, State("waiting", "stopped", seconds=7.0))
    declined = run_task(str(tmp_path), State("declined", "no data"))
    assert declined == State("declined", "its dataset: no data", seconds=7.0)
    assert read_state(tmp_path) == declined


def test_no_dask_place_is_refused(tmp_path: Path) -> None:
    suite = parsed()
    with pytest.raises(InputError, match="local:N"):
        run_suite(Request(suite), tmp_path, dask="local:none")


def test_locks_exclude_and_are_released(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with locked(tmp_path, 0.0, "the suite in"):
        assert is_locked(tmp_path)
        with pytest.raises(StoreError, match="is being run by process"), locked(tmp_path, 0.2, "the suite in"):
            pass
    assert not is_locked(tmp_path)


def test_who_looks_is_not_taken_for_a_worker(tmp_path: Path) -> None:
    with locked(tmp_path, 0.0, "the suite in"):
        pass
    with (tmp_path / ".lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not is_locked(tmp_path)


def test_a_damaged_state_is_waiting(tmp_path: Path) -> None:
    write_state(tmp_path, State("finished", seconds=3.0))
    assert read_state(tmp_path) == State("finished", seconds=3.0)
    (tmp_path / "state.json").write_text('{"state": "fini')
    assert read_state(tmp_path) == State()


def test_what_is_left_is_judged_by_what_is_done() -> None:
    cells = make_plan(Request(parsed(), seeds=(0, 1, 2)), Path()).cells
    of = {(cell.method, cell.seed): cell for cell in cells}
    done = [(of["cryogan", 0], State("finished", seconds=30.0)), (of["cryogan", 1], State("failed", seconds=5.0))]
    assert estimate_seconds_left(done) == 0
    assert estimate_seconds_left([*done, (of["cryogan", 2], State())]) == 30
    assert estimate_seconds_left([*done, (of["cryogan", 2], State("running", seconds=10.0))]) == 20
    assert estimate_seconds_left([*done, (of["backproject", 2], State())]) == 100
    assert (
        estimate_seconds_left([(of["cryogan", 0], State("finished", seconds=130.0)), (of["backproject", 2], State())])
        == 130
    )
    assert estimate_seconds_left([(of["backproject", 0], State()), (of["backproject", 1], State())]) == 200
