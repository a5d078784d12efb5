"""The page of a suite or a leaderboard: one self-contained HTML file that opens from disk without a network."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryobench.report.comparison import Cell, Comparison, name_methods
from cryobench.report.comparison_tables import (
    SHOWN,
    describe_cells,
    explain,
    format_figure_range,
    format_ratio,
    gather_squares,
    name_figure,
    name_row,
)
from cryobench.report.document import render
from cryobench.report.reading import flatten
from cryobench.report.rows import FIGURES, Row, find_best, gather_rows
from cryobench.report.suite_figures import draw_suite
from cryobench.report.table import format_duration, format_found, format_length, format_plainly, format_size

BEHIND = 1e6
"""Added to what a half-map figure that does not count is sorted by: it stands behind all that count."""


@dataclass(frozen=True)
class Shown:
    """A table's cell: what it says, what stands small under it, what it is sorted by, and how it looks."""

    text: str
    below: tuple[str, ...] = ()
    order: float | None = None
    style: str = ""


def write_suite_page(comparison: Comparison, path: Path) -> Path:
    """Write the page of a comparison: tables, a leaderboard that sorts, figures, failures, provenance.

    Args:
        comparison: what to tell.
        path: of the page; runs below it are linked by their relative place.

    Returns:
        The path.
    """
    rows = gather_rows(comparison)
    html = render(
        "suite.html.jinja",
        title=comparison.title,
        drawings=draw_suite(rows),
        comparison=comparison,
        counts=list(_count(comparison)),
        headings=SHOWN,
        sections=[
            (scenario, [_headline_row(row, rows) for row in rows if row.scenario == scenario])
            for scenario in dict.fromkeys(row.scenario for row in rows)
        ],
        squares=[
            (
                square,
                [
                    (
                        heading,
                        [
                            (label, [_square_cell(square.entries.get((label, c)), figure) for c in square.columns])
                            for label in square.rows
                        ],
                    )
                    for figure, heading in SHOWN.items()
                ],
            )
            for square in gather_squares(comparison, rows)
        ],
        remarks=explain(comparison, rows),
        leaders=[_leader(row) for row in rows if row.kind == "method" and row.finished],
        leader_headings=[name_figure(figure) for figure in FIGURES[::-1]],
        cells=[_list_cell(cell, path) for cell in comparison.cells],
        provenance=list(_gather_provenance(comparison)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")
    return path


def _count(comparison: Comparison) -> Iterator[tuple[str, str]]:
    states = [cell.state for cell in comparison.cells]
    yield "Scenarios", str(len({cell.scenario for cell in comparison.cells}))
    yield "Runs finished", f"{states.count('finished')} of {len(states)}"
    for state in ("failed", "declined", "waiting"):
        if state in states:
            yield state.capitalize(), str(states.count(state))
    seconds = sum(((cell.result or {}).get("cost") or {}).get("total_wall_seconds", 0.0) for cell in comparison.cells)
    yield "Wall time, all runs", format_duration(seconds)


def _headline_row(row: Row, rows: list[Row]) -> dict[str, Any]:
    """A row of the tables of results, its figures as cells."""
    section = [other for other in rows if other.scenario == row.scenario]
    cells = [_show(row, figure, row in find_best(section, figure)) for figure in SHOWN]
    if row.kind == "method" and not row.finished:
        cells[0] = Shown(describe_cells(row), style="ended")
    return {
        "name": name_row(row),
        "kind": row.kind,
        "seeds": describe_cells(row) if row.finished else "",
        "cells": cells,
        "gap": _show_gap(row),
        "time": "" if row.seconds is None else format_duration(row.seconds),
    }


def _show(row: Row, name: str, is_best: bool = False) -> Shown:
    figure = row.figures.get(name)
    if figure is None:
        return Shown("")
    words, value, counted = format_found(figure.found), figure.found["value"], row.is_counted(name)
    if row.kind == "published":
        return Shown(words + (" *" if figure.is_beyond else ""))
    below = tuple(part for part in (format_figure_range(figure), format_ratio(figure, counted)) if part)
    order = (math.inf if value is None else value) + (0 if counted else BEHIND)
    return Shown(
        words if counted else f"({words})", below, order, "best" if is_best else "" if counted else "uncounted"
    )


def _show_gap(row: Row) -> Shown:
    if row.gap is None:
        return Shown("")
    within = () if row.gap_range is None else (f"{row.gap_range[0]:+.3f} to {row.gap_range[1]:+.3f}",)
    return Shown(f"{row.gap:+.3f}", within, row.gap)


def _square_cell(row: Row | None, name: str) -> Shown:
    figure = None if row is None else row.figures.get(name)
    if row is None or figure is None:
        return Shown("" if row is None or row.finished else describe_cells(row), style="ended")
    shown = _show(row, name)
    below: tuple[str, ...] = ()
    if figure.published is not None:
        mark = " *" if figure.is_beyond else ""
        below = (format_length(figure.published) + mark, format_ratio(figure, row.is_counted(name)))
    return Shown(shown.text, tuple(part for part in below if part), style=shown.style)


def _leader(row: Row) -> dict[str, Any]:
    return {
        "scenario": row.scenario,
        "name": row.label,
        "cells": [
            *(_show(row, figure) for figure in FIGURES[::-1]),
            Shown("" if row.gap is None else f"{row.gap:+.3f}", order=row.gap),
            Shown("" if row.seconds is None else format_duration(row.seconds), order=row.seconds),
            Shown("" if row.memory is None else format_size(row.memory), order=row.memory),
        ],
    }


def _list_cell(cell: Cell, page: Path) -> dict[str, Any]:
    report = None if cell.directory is None else cell.directory / "report.html"
    link = None
    if report is not None and report.is_file():
        link = quote(Path(os.path.relpath(report, page.parent)).as_posix())
    return {
        "scenario": cell.scenario,
        "method": next(iter(name_methods([cell]))),
        "seed": "" if cell.seed is None else cell.seed,
        "state": cell.state,
        "reason": cell.reason or "",
        "link": link,
        "notes": [*cell.notes, *(cell.result or {}).get("warnings", [])],
    }


def _gather_provenance(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """What the runs were made with: every value that a key has, and in how many runs where there are several."""
    found: dict[str, dict[str, int]] = {}
    for cell in comparison.cells:
        for key, value in flatten((cell.result or {}).get("provenance") or {}):
            values, said = found.setdefault(key, {}), format_plainly(value)
            values[said] = values.get(said, 0) + 1
    for key, values in sorted(found.items()):
        yield key, "; ".join(v if len(values) == 1 else f"{v} ({n} runs)" for v, n in values.items())
