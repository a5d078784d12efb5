"""The cells of a suite's directory: their names, places and states."""

from __future__ import annotations

from pathlib import Path

from cryobench.report.table import method_label
from cryobench.suite.plan import CellPlan
from cryobench.suite.states import State, is_locked, read_state, stopped_at


def title_of(cell: CellPlan) -> str:
    """A cell in words: row, method with its preset, seed."""
    return f"{cell.label} · {method_label(cell.method, cell.params)} · seed {cell.seed}"


def cell_directory(directory: Path, cell: CellPlan) -> Path:
    """The run directory of a cell."""
    return directory / "cells" / cell.key


def state_of(directory: Path, cell: CellPlan) -> State:
    """How far a cell is. What was declined while planning has no directory; what was killed waits to go on."""
    if cell.declined is not None:
        return State("declined", cell.declined)
    place = cell_directory(directory, cell)
    state = read_state(place)
    if state.state == "finished" and not (place / "result.json").is_file():
        return State()
    if state.state == "running" and not is_locked(place):
        return State("waiting", stopped_at(state.stage), seconds=state.seconds)
    return state


def is_running(place: Path) -> bool:
    """Whether a process is at work on the cell or dataset in ``place``."""
    return read_state(place).state == "running" and is_locked(place)
