"""What a suite is at, for people: live on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cryobench.console import say_stopped

if TYPE_CHECKING:
    from cryobench.suite.states import State

PLAIN_INTERVAL: Final = 30.0
"""Seconds between lines where there is no terminal."""
COLOURS: Final = {"finished": "green", "failed": "red", "declined": "yellow", "running": "cyan", "waiting": "dim"}


def first_line(text: str, longest: int = 160) -> str:
    """The beginning of a reason, for a line of its own."""
    line = text.strip().split("\n")[0].removesuffix(":")
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def told(state: State) -> str:
    """What a state is at, or why it ended so."""
    if state.state == "running":
        return f"{state.stage or 'starting'}{f' {state.step}/{state.total}' if state.total > 1 else ''}"
    return first_line(state.reason or "")


@final
class Board:
    """Watches a suite; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._said = 0.0

    def __enter__(self) -> Board:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
        if kind is KeyboardInterrupt:
            say_stopped()

    def ended(self, title: str, state: State, directory: Path) -> None:
        """Say how a cell ended."""
        from cryobench.report.table import format_duration

        took = f" in {format_duration(state.seconds)}" if state.seconds else ""
        reason = f": {first_line(state.reason)}" if state.reason else ""
        where = f"  ({directory})" if state.state == "failed" else ""
        line = f"[{COLOURS[state.state]}]{state.state:<9}[/] {escape(title)}{took}"
        self._console.print(line, highlight=False, soft_wrap=True, end="")
        self._console.print(f"{reason}{where}", highlight=False, soft_wrap=True, markup=False)

    def running(self, now: Sequence[tuple[str, State]], done: int, total: int) -> None:
        """Show what is being worked on."""
        from cryobench.report.table import format_duration

        if self._console.is_terminal:
            table = Table(box=None, pad_edge=False, show_header=False)
            for title, state in now:
                table.add_row(escape(title), escape(told(state)), format_duration(state.seconds))
            table.add_row(f"[dim]{done} of {total} cells done")
            self._live.update(table, refresh=True)
            return
        if now and time.monotonic() - self._said >= PLAIN_INTERVAL:
            self._said = time.monotonic()
            for title, state in now:
                line = f"running   {title}: {told(state)}  {format_duration(state.seconds)}"
                self._console.print(line, highlight=False, soft_wrap=True, markup=False)
