"""A comparison in the terminal: one table of all scenarios, and squares of scenarios where they make one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cryobench.report.comparison import Cell, Comparison, name_methods
from cryobench.report.rows import Figure, Row, find_best, gather_rows
from cryobench.report.table import (
    COMPARISONS,
    format_duration,
    format_found,
    format_length,
    format_range,
    list_remarks,
)

SHOWN: Final[dict[str, str]] = {
    "half_map 0.143": "half-map 0.143",
    "truth 0.143": "truth 0.143",
    "truth 0.5": "truth 0.5",
}
"""Figures with a column of their own, as the CryoGAN study has them, and what the column is called."""
WARNINGS_TOLD: Final = 6


@dataclass(frozen=True)
class Square:
    """A method on scenarios that make a square, such as the true prior by the assumed prior.

    Attributes:
        method: name.
        axes: what rows and columns are.
        rows: their labels.
        columns: their labels.
        entries: by row and column; those there are.
    """

    method: str
    axes: tuple[str, str]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    entries: Mapping[tuple[str, str], Row]


def gather_squares(comparison: Comparison, rows: Sequence[Row]) -> list[Square]:
    """Every method with results that have a place in the square of a comparison, as such; none where there is no square."""
    placed = [cell.place for cell in comparison.cells if cell.place is not None]
    if comparison.axes is None:
        return []
    down, across = (tuple(dict.fromkeys(place[i] for place in placed)) for i in (0, 1))
    entries: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows:
        if row.cells and (place := row.cells[0].place) is not None:
            entries.setdefault(row.name, {})[place] = row
    squares = []
    for found in entries.values():
        with_result = [row for row in found.values() if row.finished]
        if with_result:
            squares.append(Square(with_result[0].label, comparison.axes, down, across, found))
    return squares


def compare_in_terminal(comparison: Comparison) -> Group:
    """Everything of a comparison for the terminal, readable from 80 columns on."""
    rows = gather_rows(comparison)
    squares = [_draw_square(square) for square in gather_squares(comparison, rows)]
    return Group(*squares, _draw_rows(comparison, rows), list_remarks(explain(comparison, rows)))


def name_figure(figure: str) -> str:
    """A figure's name as a heading: ``"half-map 0.143"`` for ``"half_map 0.143"``."""
    comparison, threshold = figure.split()
    return f"{COMPARISONS[comparison]} {threshold}"


def name_row(row: Row) -> str:
    """A row in words: its rank where it has one, its name, and whether the method was given the true poses."""
    return row.label if row.rank is None else f"{row.rank}. {row.label}"


def format_ratio(figure: Figure, counted: bool = True) -> str:
    """Ours over published: ``"1.81×"``, ``"≤ 1.70×"`` where ours is above the threshold up to Nyquist; empty without either.

    In parentheses where ours does not count.
    """
    if figure.ratio is None:
        return ""
    limit = "≤ " if figure.found["state"] == "above_to_nyquist" else ""
    words = f"{limit}{figure.ratio:.2f}\N{MULTIPLICATION SIGN}"
    return words if counted else f"({words})"


def format_figure_range(figure: Figure) -> str:
    """The interval of a figure in words; empty where there is none."""
    if figure.coverage is None or figure.nyquist is None:
        return ""
    return format_range(figure.finest, figure.coarsest, figure.nyquist)


def describe_cells(row: Row) -> str:
    """How many seeds a row is of, and how those without a result ended: ``"2 of 3 seeds; 1 failed"``."""
    total, finished = len(row.cells), len(row.finished)
    if total == 0:
        return ""
    if all(cell.seed is None for cell in row.cells):
        return "a map from elsewhere"
    words = f"{total} seeds" if total > 1 else "1 seed"
    if finished < total:
        states = [cell.state for cell in row.cells if cell.result is None]
        ended = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        words = f"{finished} of {words}; {ended}" if total > 1 else states[0]
    return words


def explain(comparison: Comparison, rows: list[Row]) -> list[str]:
    """What must stand under the rows of a comparison, as sentences."""
    sentences = [*comparison.notes]
    figures = [figure for row in rows for figure in row.figures.values()]
    if reasons := dict.fromkeys(row.objection for row in rows if row.objection and "half_map 0.143" in row.figures):
        sentences.append(f"half-map figures in parentheses are not counted: {'; '.join(reasons)}")
    if comparison.ranked_by is not None:
        sentences.append(
            f"ranked by {comparison.ranked_by}; methods with oracle poses, and without a truth, have no rank"
        )
    if any(figure.is_beyond for figure in figures):
        limits = sorted({figure.nyquist for figure in figures if figure.is_beyond and figure.nyquist})
        told = " or ".join(format_length(limit) for limit in limits)
        sentences.append(f"* published figures finer than Nyquist here ({told}), which no map of this box can reach")
    if comparison.source is not None:
        sentences.append(f"published: {comparison.source}; ratios are ours over published")
    coverages = sorted({figure.coverage for figure in figures if figure.over_seeds and figure.coverage is not None})
    if coverages:
        told = ", ".join(f"{100 * coverage:.0f}" for coverage in coverages)
        sentences.append(
            "over seeds: median, and the exact percentile bootstrap interval of it (of up to six seeds their range), which holds "
            f"the true median in {told} % of repetitions"
        )
    levels = sorted({figure.coverage for figure in figures if figure.coverage is not None and not figure.over_seeds})
    if levels:
        told = ", ".join(f"{100 * level:.0f}" for level in levels)
        sentences.append(f"of one seed: {told} % interval from resampled Fourier coefficients of that run")
    measured = {row.scenario for row in rows if row.kind == "yardstick"}
    if lacking := dict.fromkeys(row.scenario for row in rows if row.finished and row.scenario not in measured):
        sentences.append(f"yardsticks were not measured: {'; '.join(lacking)}")
    if any(row.gap is not None for row in rows):
        sentences.append(
            "gap: hallucination gap, the mean FSC that the half-maps promise beyond the truth's; near 0 is sound"
        )
    sentences += _explain_cells(comparison.cells)
    return [*dict.fromkeys(sentences), *count_warnings(comparison)]


def _explain_cells(cells: Sequence[Cell]) -> list[str]:
    """Notes and reasons of cells, each said once, of whom it is true before it: all of a scenario, or single cells."""
    said: dict[str, list[Cell]] = {}
    for cell in cells:
        reason = [f"{cell.state}: {cell.reason}"] if cell.reason is not None and cell.result is None else []
        for sentence in dict.fromkeys([*cell.notes, *reason]):
            said.setdefault(sentence, []).append(cell)
    sentences = []
    for sentence, some in said.items():
        scenarios = dict.fromkeys(cell.scenario for cell in some)
        whole = len(some) > 1 and len(some) == sum(cell.scenario in scenarios for cell in cells)
        sentences.append(f"{'; '.join(scenarios if whole else map(name_cell, some))}: {sentence}")
    return sentences


def count_warnings(comparison: Comparison) -> list[str]:
    """What evaluation warned of most, each with the number of runs that it is true of."""
    finished = [cell for cell in comparison.cells if cell.result is not None]
    warned: dict[str, int] = {}
    for cell in finished:
        for warning in dict.fromkeys((cell.result or {}).get("warnings", [])):
            warned[warning] = warned.get(warning, 0) + 1
    frequent = sorted(warned.items(), key=lambda pair: -pair[1])
    told = [f"warning, {count} of {len(finished)} runs: {warning}" for warning, count in frequent[:WARNINGS_TOLD]]
    left = len(warned) - len(told)
    return [*told, f"{left} more warnings: see the runs' own tables"] if left else told


def name_cell(cell: Cell) -> str:
    """A cell in a sentence: ``"cryogan[fast] on -20 dB, seed 1"``."""
    seed = "" if cell.seed is None else f", seed {cell.seed}"
    return f"{next(iter(name_methods([cell])))} on {cell.scenario}{seed}"


def _draw_rows(comparison: Comparison, rows: list[Row]) -> Table:
    table = Table(
        title=Text(comparison.title),
        caption=Text(comparison.description),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", overflow="fold")
    for heading in SHOWN.values():
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    table.add_column("gap", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for scenario in dict.fromkeys(row.scenario for row in rows):
        section = [row for row in rows if row.scenario == scenario]
        best = {figure: find_best(section, figure) for figure in SHOWN}
        table.add_row(Text(scenario, style="bold"))
        for row in section:
            cells = [_figure_text(row, figure, row in best[figure]) for figure in SHOWN]
            if row.kind == "method" and not row.finished:
                cells[0] = Text(describe_cells(row), style="yellow")
            gap = "" if row.gap is None else f"{row.gap:+.3f}"
            table.add_row(_name_text(row), *cells, gap, "" if row.seconds is None else format_duration(row.seconds))
        table.add_section()
    return table


def _name_text(row: Row) -> Text:
    text = Text(f" {name_row(row)}", style="" if row.kind == "method" else "dim")
    if row.finished:
        text.append(f"\n {describe_cells(row)}", style="dim")
    return text


def _figure_text(row: Row, name: str, is_best: bool) -> Text:
    figure = row.figures.get(name)
    if figure is None:
        return Text()
    if row.kind == "published":
        return Text(format_found(figure.found) + (" *" if figure.is_beyond else ""), style="dim")
    words = format_found(figure.found)
    counted = row.is_counted(name)
    style = "bold" if is_best else "dim" if row.kind == "yardstick" or not counted else ""
    text = Text(words if counted else f"({words})", style=style)
    below = [part for part in (format_figure_range(figure), format_ratio(figure, counted)) if part]
    return text.append("".join(f"\n{part}" for part in below), style="dim")


def _draw_square(square: Square) -> Table:
    down, across = square.axes
    table = Table(
        title=Text(square.method),
        caption=Text(f"{down} in rows, {across} in columns; under ours, what was published and the ratio"),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    for column in square.columns:
        table.add_column(column, justify="right")
    for figure, heading in SHOWN.items():
        table.add_row(Text(heading, style="bold"))
        for label in square.rows:
            entries = [square.entries.get((label, column)) for column in square.columns]
            table.add_row(Text(f" {label}"), *(_square_text(row, figure) for row in entries))
        table.add_section()
    return table


def _square_text(row: Row | None, name: str) -> Text:
    figure = None if row is None else row.figures.get(name)
    if row is None or figure is None:
        return Text("" if row is None or row.finished else describe_cells(row), style="yellow")
    words, counted = format_found(figure.found), row.is_counted(name)
    text = Text(words if counted else f"({words})")
    if figure.published is not None:
        beyond = "*" if figure.is_beyond else ""
        text.append(f"\n{format_length(figure.published)}{beyond} {format_ratio(figure, counted)}", style="dim")
    return text
