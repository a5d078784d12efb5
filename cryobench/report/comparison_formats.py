"""A comparison as CSV, Markdown and JSON, for spreadsheets, notes and programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from cryobench.report.comparison import Comparison
from cryobench.report.comparison_tables import (
    describe_cells,
    explain,
    format_figure_range,
    format_ratio,
    name_figure,
    name_row,
)
from cryobench.report.rows import FIGURES, Figure, Row, gather_rows
from cryobench.report.table import format_duration, format_found


def as_json(comparison: Comparison) -> str:
    """All rows with their numbers, states and remarks."""
    rows = gather_rows(comparison)
    told = {
        "name": comparison.name,
        "description": comparison.description,
        "size": comparison.size,
        "published": comparison.source,
        "command": comparison.command,
        "remarks": explain(comparison, rows),
        "rows": [_describe(row) for row in rows],
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def as_csv(comparison: Comparison) -> str:
    """One line for each row; lengths in angstrom, times in seconds, states beside the numbers; empty where there is none."""
    rows = [_flatten(_describe(row)) for row in gather_rows(comparison)]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = sorted(names, key=lambda name: next((i for i, f in enumerate(FIGURES, 1) if name.startswith(f)), 0))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(comparison: Comparison) -> str:
    """A table of all rows with every figure, and the remarks under it."""
    rows = gather_rows(comparison)
    headings = ["scenario", "method", "seeds", *(name_figure(figure) for figure in FIGURES), "gap", "time"]
    lines = [f"## {comparison.title}", "", comparison.description, "", _line(headings)]
    lines.append(_line(["---"] * 3 + ["---:"] * (len(FIGURES) + 2)))
    for row in rows:
        gap = "" if row.gap is None else f"{row.gap:+.3f}"
        figures = [_words(row, figure) for figure in FIGURES]
        time = "" if row.seconds is None else format_duration(row.seconds)
        lines.append(_line([row.scenario, name_row(row), describe_cells(row), *figures, gap, time]))
    return "\n".join([*lines, "", *(f"- {_escape(remark)}" for remark in explain(comparison, rows))]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escape(cell) for cell in cells)} |"


def _escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in ("\\", "|", "*", "_", "<", "["):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _words(row: Row, name: str) -> str:
    """A figure in one line: ``"15.6 Å [14.9–16.2] 1.81×"``, in parentheses where it does not count."""
    figure = row.figures.get(name)
    if figure is None:
        return ""
    found = format_found(figure.found)
    if row.kind == "published":
        return found + (" *" if figure.is_beyond else "")
    within = f"[{format_figure_range(figure)}]" if figure.coverage is not None else ""
    counted = row.is_counted(name)
    shown = found if counted else f"({found})"
    return " ".join(part for part in (shown, within, format_ratio(figure, counted)) if part)


def _describe(row: Row) -> dict[str, Any]:
    results = [cell.result for cell in row.finished if cell.result is not None]
    nyquist = next((figure.nyquist for figure in row.figures.values()), None)
    told: dict[str, Any] = {"scenario": row.scenario, "kind": row.kind, "name": row.name, "nyquist": nyquist}
    if row.kind == "method":
        told |= {
            "rank": row.rank,
            "told_poses": row.told_poses,
            "seeds": [cell.seed for cell in row.cells],
            "states": [cell.state for cell in row.cells],
            "reasons": [cell.reason for cell in row.cells if cell.reason is not None],
            "params": dict(row.cells[0].params),
            "half_maps_counted": None if not results else row.objection is None,
            "objection": row.objection,
            "hallucination_gap": row.gap,
            "hallucination_gap_range": None if row.gap_range is None else list(row.gap_range),
            "wall_seconds": row.seconds,
            "peak_memory_bytes": row.memory,
            "directories": [str(cell.directory) for cell in row.cells if cell.directory is not None],
        }
    figures = {name: _describe_figure(figure) for name, figure in row.figures.items()}
    if row.kind == "published":
        figures = {name: {"value": found["value"], "state": found["state"]} for name, found in figures.items()}
    return told | {"figures": figures}


def _describe_figure(figure: Figure) -> dict[str, Any]:
    return {
        "value": figure.found["value"],
        "state": figure.found["state"],
        "finest": figure.finest,
        "coarsest": figure.coarsest,
        "coverage": figure.coverage,
        "interval_over": None if figure.coverage is None else "seeds" if figure.over_seeds else "coefficients",
        "published": figure.published,
        "ratio": figure.ratio,
    }


def _flatten(told: dict[str, Any]) -> dict[str, Any]:
    """One level of names; lists of simple values in one field, what is nested deeper as JSON."""
    flat: dict[str, Any] = {}
    for name, value in told.items():
        if name == "figures":
            flat |= {f"{figure} {key}": v for figure, found in value.items() for key, v in found.items()}
        elif isinstance(value, dict):
            flat[name] = json.dumps(value, sort_keys=True, default=str)
        elif isinstance(value, list):
            flat[name] = "; ".join(str(item) for item in value)
        else:
            flat[name] = value
    return flat
