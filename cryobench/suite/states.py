"""How far a cell or a dataset is: ``state.json`` in its directory, written whole. Imports nothing heavy."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final, Literal

from cryobench.errors import StoreError
from cryobench.interop.atomic import written_whole

STATE: Final = "state.json"
TRACEBACK: Final = "traceback.txt"
LOG: Final = "log.txt"
LOCK: Final = ".lock"
PATIENCE: Final = 60.0
"""Seconds to wait for a process of a killed run to leave."""

Progress = Literal["waiting", "running", "finished", "failed", "declined"]


@dataclass(frozen=True)
class State:
    """How far something is.

    Attributes:
        state: ``"running"`` also where whoever ran it was killed; see :func:`is_locked`.
        reason: why it failed or declined.
        stage: what it is at, such as ``"reconstruct half 1"``.
        step: of the stage.
        total: of the stage's steps.
        seconds: that it took, all attempts together.
    """

    state: Progress = "waiting"
    reason: str | None = None
    stage: str | None = None
    step: int = 0
    total: int = 0
    seconds: float = 0.0


def read_state(directory: Path) -> State:
    """The state of what is in ``directory``; waiting where there is none, or a damaged one."""
    try:
        table = json.loads((directory / STATE).read_text(encoding="utf-8"))
        return State(**{field.name: table[field.name] for field in fields(State)})
    except (OSError, ValueError, KeyError, TypeError):
        return State()


def write_state(directory: Path, state: State) -> None:
    """Keep a state, whole or not at all."""
    with written_whole(directory / STATE) as partial:
        partial.write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")


def stopped_at(stage: str | None) -> str:
    """Why something waits that was begun."""
    return f"stopped at {stage}" if stage else "stopped"


@contextmanager
def locked(directory: Path, patience: float, what: str) -> Iterator[None]:
    """Keep every other process out of ``directory``.

    Args:
        directory: that is written to.
        patience: seconds to wait for another process to leave.
        what: it is, for the message.

    Raises:
        StoreError: if another process is still at it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with (directory / LOCK).open("a+", encoding="utf-8") as file:
        while not _try_lock(file.fileno(), fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                file.seek(0)
                who = file.read().strip() or "another process"
                raise StoreError(
                    f"{what} {directory} is being run by {who}; wait for it, stop it, or choose another directory with --out"
                )
            time.sleep(0.1)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def is_locked(directory: Path) -> bool:
    """Whether a process is at work in ``directory``."""
    try:
        with (directory / LOCK).open() as file:
            # shared: two who look do not take each other for a worker, and NFS grants no other to a file open for reading
            return not _try_lock(file.fileno(), fcntl.LOCK_SH)
    except OSError:
        return False


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Clock:
    """Writes how far its directory's work is, now and then, and how long it took with what it took before."""

    def __init__(self, directory: Path, interval: float = 1.0) -> None:
        self._directory, self._interval = directory, interval
        self._before = read_state(directory).seconds
        self._began = self._last = time.monotonic()
        self._stage = ""
        write_state(directory, State("running", seconds=self._before))

    def __call__(self, stage: str, step: int, total: int, _scalars: object) -> None:
        """Told of progress, as a listener of the pipeline."""
        now = time.monotonic()
        if stage != self._stage or now - self._last >= self._interval:
            self._stage, self._last = stage, now
            write_state(self._directory, State("running", None, stage, step, total, self._seconds()))

    def interrupt(self) -> None:
        """Keep that it was stopped, and at what."""
        self.stop("waiting", stopped_at(self._stage))

    def stop(self, state: Progress, reason: str | None = None) -> None:
        """Keep how it ended."""
        write_state(self._directory, replace(State(state, reason), seconds=self._seconds()))

    def _seconds(self) -> float:
        return round(self._before + time.monotonic() - self._began, 1)
