"""Progress for people: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

PLAIN_INTERVAL: Final = 5.0
"""Seconds between lines where there is no terminal."""
SCALARS_SHOWN: Final = 4
"""A method's first few; the history keeps them all."""


LEFT: Final = "seconds_left"
"""What a method calls the time that it knows is left, which is shown in place of an estimate."""


def _scalars(scalars: Mapping[str, float]) -> str:
    shown = itertools.islice(((name, value) for name, value in scalars.items() if name != LEFT), SCALARS_SHOWN)
    return "  ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in shown)


def _duration(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def say_stopped() -> None:
    """What whoever interrupts a command wants to know."""
    message = "stopped; what was written is kept, and the same command goes on from it"
    Console(stderr=True).print(message, highlight=False)


@final
class Listener:
    """Listens to the pipeline and shows stage, step, time left and current scalars; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Progress(
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("[dim]{task.fields[scalars]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._last = 0.0

    def __enter__(self) -> Listener:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()
        if kind is KeyboardInterrupt:
            say_stopped()

    def __call__(self, stage: str, step: int, total: int, scalars: Mapping[str, float]) -> None:
        """Show that ``stage`` is at ``step`` of ``total``."""
        now = time.monotonic()
        new = stage not in self._began
        if new:
            self._began[stage] = (now, step)
        start, first = self._began[stage]
        # a method knows best, as its steps may come to cost more; else at the pace so far
        left = scalars.get(LEFT, (now - start) * (total - step) / (step - first) if step > first else None)
        # of the first step, which takes what all others need, nothing can be told
        told = f"left {_duration(left)}" if left is not None and step < total and not new else ""
        if self._console.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._live.add_task(stage, total=total, scalars="", left="")
            self._live.update(self._tasks[stage], completed=step, total=total, scalars=_scalars(scalars), left=told)
            return
        if new or step >= total or now - self._last >= PLAIN_INTERVAL:
            self._last = now
            parts = [f"{stage:<20} {step}/{total}", _duration(now - start), told, _scalars(scalars)]
            self._console.print("  ".join(part for part in parts if part), highlight=False, soft_wrap=True)
