"""What a dask worker does: start the process of a cell or dataset, wait for it, and say how it ended. Imports nothing heavy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from cryobench.suite.states import LOG, State, read_state, write_state

CORES: Final = "CRYOBENCH_SUITE_CORES"
"""Environment variable of a local worker: the cores that are its own."""


def run_task(directory: str, dataset: State | None = None) -> State:
    """Run what is in ``directory`` to its end.

    Args:
        directory: of a cell or dataset.
        dataset: how a cell's dataset ended; a cell without one ends as its dataset did.

    Returns:
        How it ended.
    """
    place = Path(directory)
    if dataset is not None and dataset.state != "finished":
        reason = None if dataset.reason is None else f"its dataset: {dataset.reason}"
        ended = State(dataset.state, reason, seconds=read_state(place).seconds)
        write_state(place, ended)
        return ended
    cores = os.environ.get(CORES)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})  # of this thread, and so of what it starts
    with (place / LOG).open("wb") as log:
        # in a session of its own, so that Ctrl-C on the terminal comes to it by one way only: the end of this worker
        command = [sys.executable, "-m", "cryobench.suite.work", str(place)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            code = process.wait()
    state = read_state(place)
    if code == 0:
        return state
    if code in (130, -signal.SIGINT, -signal.SIGTERM):
        return State("waiting", "stopped", seconds=state.seconds)
    said = (place / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason = f"its process ended with exit code {code}"
    if code == -signal.SIGKILL:
        reason += "; this often means that memory ran out"
    ended = State("failed", f"{reason}. {said[-1]}" if said else reason, seconds=state.seconds)
    write_state(place, ended)
    return ended
