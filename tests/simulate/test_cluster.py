"""Shards as tasks: the same bytes as in one process, though a worker is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from cryobench.dataset.check import check_dataset
from cryobench.errors import InputError
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate
from cryobench.simulate.cluster import connect

from_here = psutil.Process()


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def worker_processes() -> list[psutil.Process]:
    return [p for p in from_here.children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]


@pytest.mark.slow
def test_a_worker_is_killed_and_the_dataset_is_that_of_one_process(tmp_path: Path) -> None:
    scenario = adapt_scenario("tiny", particles=5 * 2048, settings=["noise.pool=16"])
    simulate(scenario, tmp_path / "one", seed=1)
    killed: list[int] = []

    def kill_one(stage: str, done: int, total: int) -> None:
        if stage == "simulate" and not killed:
            victim = worker_processes()[0].pid
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            assert done < total

    simulate(scenario, tmp_path / "many", seed=1, dask="local:2", on_progress=kill_one)
    assert killed
    assert not psutil.pid_exists(killed[0]) or psutil.Process(killed[0]).status() == psutil.STATUS_ZOMBIE
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert check_dataset(tmp_path / "many") == []
    assert not worker_processes(), "workers are to be stopped at the end"


@pytest.mark.parametrize(
    ("where", "message"),
    [("local:none", "local:N"), ("local:0", "N of 1 or more"), ("nonsense://there", "scheduler's address")],
)
def test_a_place_that_is_none_is_refused(where: str, message: str) -> None:
    with pytest.raises(InputError, match=message), connect(where):
        pass


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"cryobench\[dask\]"), connect("local:1"):
        pass
