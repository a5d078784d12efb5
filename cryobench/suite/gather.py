"""The cells of a suite's directory as a comparison, and its tables on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryobench.errors import StoreError
from cryobench.interop.atomic import written_whole
from cryobench.report.comparison import Cell, Comparison
from cryobench.report.comparison_formats import as_csv, as_json, as_markdown
from cryobench.report.reading import read_result
from cryobench.report.suite_page import write_suite_page
from cryobench.suite.cells import cell_directory, state_of
from cryobench.suite.plan import CellPlan, Plan, read_plan

PAGE: Final = "suite.html"


def read_run(directory: Path) -> Plan:
    """The plan of a directory that a suite was run in.

    Raises:
        StoreError: if there is none.
    """
    plan = read_plan(directory)
    if plan is None:
        raise StoreError(
            f"expected a suite's directory at {directory}, found no plan.json there; `cryobench suite run` makes one"
        )
    return plan


def gather(directory: Path) -> Comparison:
    """All cells of a suite's directory, whether they came to an end or not.

    Raises:
        StoreError: if no suite was run there, or its plan is damaged.
        InputError: if a result is damaged.
    """
    plan = read_run(directory)
    return Comparison(
        name=plan.suite,
        description=plan.description,
        size=plan.size,
        source=plan.source,
        cells=tuple(_gather_cell(cell, directory) for cell in plan.cells),
        notes=tuple(plan.notes),
        axes=plan.axes,
        command=plan.command,
    )


def _gather_cell(cell: CellPlan, directory: Path) -> Cell:
    place = cell_directory(directory, cell)
    state = state_of(directory, cell)
    return Cell(
        scenario=cell.label,
        method=cell.method,
        params=cell.params,
        seed=cell.seed,
        state="waiting" if state.state == "running" else state.state,
        reason=state.reason,
        result=read_result(place / "result.json") if state.state == "finished" else None,
        published=cell.published,
        notes=tuple(cell.notes),
        directory=place if place.is_dir() else None,
        place=cell.place,
    )


def write_tables(directory: Path) -> Comparison:
    """Gather a suite's cells and write their tables beside them: ``suite.html`` and ``comparison`` as CSV, Markdown and JSON.

    Raises:
        StoreError: if no suite was run there, its plan is damaged, or the disc is full.
        InputError: if a result is damaged.
    """
    comparison = gather(directory)
    for ending, text in (("csv", as_csv(comparison)), ("md", as_markdown(comparison)), ("json", as_json(comparison))):
        with written_whole(directory / f"comparison.{ending}") as partial:
            partial.write_text(text, encoding="utf-8")
    with written_whole(directory / PAGE) as partial:
        write_suite_page(comparison, partial)
    return comparison
