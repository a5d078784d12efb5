"""How much of a suite is left, judged by what is done."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from cryobench.suite.plan import CellPlan
from cryobench.suite.states import State


def estimate_seconds_left(cells: Sequence[tuple[CellPlan, State]]) -> float | None:
    """Seconds of work left, one cell after the other, over as many as run now; None where nothing says how long a cell takes.

    A cell is taken to need the mean of the finished ones of its method and budget, else its budget or the mean of all finished
    ones, whichever is more.
    """
    left = [(cell, state) for cell, state in cells if state.state in ("waiting", "running")]
    known = [_expected(cell, cells) for cell, _ in left]
    total = 0.0
    for expected, (_, state) in zip(known, left, strict=True):
        if expected is None:
            return None
        total += max(0.0, expected - state.seconds)
    return total / max(1, sum(state.state == "running" for _, state in left))


def _expected(cell: CellPlan, cells: Sequence[tuple[CellPlan, State]]) -> float | None:
    done = [(other, state.seconds) for other, state in cells if state.state == "finished"]
    alike = [seconds for other, seconds in done if (other.method, other.budget) == (cell.method, cell.budget)]
    if alike:
        return mean(alike)
    return max([cell.budget or 0.0, mean(seconds for _, seconds in done)]) if done else cell.budget
