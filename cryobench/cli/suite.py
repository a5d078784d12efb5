"""Scenarios x methods x parameters x seeds: a whole table by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryobench.cli.app import RUN, group
from cryobench.cli.options import (
    AsCsv,
    AsJson,
    AsMarkdown,
    Budget,
    Export,
    Parameters,
    choose_form,
    console,
    parameters,
    print_rows,
    seconds,
    tell_exported,
)

suite_app = group("suite", "Scenarios x methods x seeds as one table: list, show, run, status, table, report.", RUN)

Name = Annotated[str, typer.Argument(help="A suite's name (see `suite list`) or a TOML file.", show_default=False)]
Size = Annotated[str, typer.Option(help="desk: minutes on a CPU; paper: native box, for a GPU.")]
Box = Annotated[
    int | None, typer.Option(help="Of the images, pixels.  [default: that of the size]", show_default=False)
]
Particles = Annotated[
    int | None,
    typer.Option("--particles", "-n", help="How many images in all.  [default: those of the size]", show_default=False),
]
Out = Annotated[Path | None, typer.Option(help="Directory.  [default: runs/suites/NAME-SIZE...]", show_default=False)]
Place = Annotated[str, typer.Argument(help="A suite's name, or the directory that it was run in.", show_default=False)]


@suite_app.command("list")
def suite_list() -> None:
    """Suites that ship with cryobench."""
    from cryobench.suite.spec import load_suite, suite_files

    suites = [load_suite(name) for name in suite_files()]
    rows = [
        (s.name, str(len(s.rows)), ", ".join(dict.fromkeys(m.name for m in s.methods)), s.description) for s in suites
    ]
    print_rows("suite", "rows", "methods", "", rows=rows)


@suite_app.command("show")
def suite_show(name: Name) -> None:
    """A suite's rows with the published values, its methods and its sizes."""
    from rich.markup import escape

    from cryobench.report.table import method_label
    from cryobench.suite.spec import load_suite

    suite = load_suite(name)
    out = console()
    out.print(f"[bold]{suite.name}[/]  {suite.description}", highlight=False)
    figures = ("half_map 0.143", "truth 0.5", "truth 0.143")
    rows = [
        (
            escape(row.label),
            row.scenario or f"data {row.data.name if row.data else ''}",
            *(f"{row.published[f]:g} Å" if f in row.published else "" for f in figures),
        )
        for row in suite.rows
    ]
    out.print()
    print_rows("row", "scenario", *(f"published {f.replace('_', '-')}" for f in figures), rows=rows)
    methods = [
        (
            escape(method_label(m.name, m.params)),
            ", ".join(m.sizes or suite.sizes),
            escape(", ".join(f"{key}={value}" for key, value in m.params.items())),
        )
        for m in suite.methods
    ]
    out.print()
    print_rows("method", "at size", "parameters", rows=methods)
    sizes = [
        (name, f"{s.box} px" if isinstance(s.box, int) else s.box, f"{s.particles:,}", s.budget or "none")
        for name, s in suite.sizes.items()
    ]
    out.print()
    print_rows("size", "box", "images", "budget a half", rows=sizes)
    specimens = ", else ".join(choice.name for choice in suite.specimens)
    about = [("specimen: ", specimens), ("published: ", suite.source)]
    for note in [*(what + text for what, text in about if text), *suite.notes]:
        out.print(f"\n{note}", highlight=False, markup=False)


@suite_app.command("run")
def suite_run(
    name: Name,
    size: Size = "desk",
    box: Box = None,
    particles: Particles = None,
    budget: Budget = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method", "-m", help="Only this one, such as cryogan or cryogan[fast]; repeatable.", show_default=False
        ),
    ] = None,
    param: Parameters = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0, help="Of dataset and method; repeatable.  [default: those of the suite]", show_default=False
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda.  [default: the best that is here]", show_default=False)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Imported particles of a row; repeatable.", show_default=False),
    ] = None,
    out: Out = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="local:N cells at once here, tcp://HOST:PORT, or a scheduler file.  [default: a cell to a GPU, and to every 2 "
            "cores]",
            show_default=False,
        ),
    ] = None,
    cells: Annotated[
        str | None,
        typer.Option(
            metavar="FILTER", help="Only cells with this in 'row · method · seed'; may have *.", show_default=False
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=2, help="Halves of a cell at once.  [default: 2 on a CPU]", show_default=False),
    ] = None,
) -> None:
    """Run every cell of a suite that is not finished; the same command goes on where it was stopped or killed.

    Finished cells are never computed again: a cell's address is a hash of all that decides it. Failed ones keep their reason.
    The tables are written anew whenever a cell ends.
    """
    from cryobench.cli.board import Board
    from cryobench.suite.cells import state_of
    from cryobench.suite.gather import PAGE, gather
    from cryobench.suite.request import Request
    from cryobench.suite.run import run_suite
    from cryobench.suite.spec import load_suite

    request = Request(
        suite=load_suite(name),
        size=size,
        box=box,
        particles=particles,
        budget=None if budget is None else seconds(budget),
        methods=method or (),
        params=parameters(param),
        seeds=seed or (),
        device=device,
        data=_directories(data or []),
        named=name,
    )
    directory = out or request.directory()
    console().print(f"suite     {directory}", soft_wrap=True, highlight=False)
    with Board(console()) as board:
        plan = run_suite(
            request, directory, dask=dask, retry_failed=retry_failed, only=cells, workers=workers, watcher=board
        )
    choose_form(csv=False, markdown=False, json=False)(gather(directory))
    console().print(f"table   {directory / 'comparison.csv'}, .md, .json", soft_wrap=True, highlight=False)
    console().print(f"report  {directory / PAGE}", soft_wrap=True)
    if any(state_of(directory, cell).state == "failed" for cell in plan.cells):
        raise typer.Exit(1)


@suite_app.command("status")
def suite_status(place: Place, size: Size = "desk", box: Box = None, out: Out = None) -> None:
    """Every cell of a suite's directory: how far it is, how long it took, what is left. Computes nothing."""
    from rich.markup import escape

    from cryobench.cli.board import COLOURS, told
    from cryobench.report.table import format_duration
    from cryobench.suite.cells import state_of, title_of
    from cryobench.suite.gather import read_run
    from cryobench.suite.left import estimate_seconds_left
    from cryobench.suite.states import is_locked

    directory = _find_run(place, size, box, out)
    plan = read_run(directory)
    states = [(cell, state_of(directory, cell)) for cell in plan.cells]
    rows = [
        (
            escape(title_of(cell)),
            f"[{COLOURS[state.state]}]{state.state}[/]",
            format_duration(state.seconds) if state.seconds else "",
            escape(told(state)),
        )
        for cell, state in states
    ]
    print_rows("cell", "", "took", "", rows=rows)
    counts = {name: sum(state.state == name for _, state in states) for name in COLOURS}
    told_counts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    running = "running now" if is_locked(directory) else "not running now"
    seconds_left = estimate_seconds_left(states)
    left = f"; about {format_duration(seconds_left)} left" if seconds_left else ""
    console().print(f"\n{told_counts}; {running}{left}", highlight=False)


@suite_app.command("table")
def suite_table(
    place: Place,
    size: Size = "desk",
    box: Box = None,
    out: Out = None,
    csv: AsCsv = False,
    markdown: AsMarkdown = False,
    json: AsJson = False,
) -> None:
    """The suite's table, published values beside ours; its CSV, Markdown and JSON are in its directory besides."""
    from cryobench.suite.gather import gather

    show = choose_form(csv=csv, markdown=markdown, json=json)
    show(gather(_find_run(place, size, box, out)))


@suite_app.command("report")
def suite_report(place: Place, size: Size = "desk", box: Box = None, out: Out = None, export: Export = False) -> None:
    """Write the suite's page and tables anew from what its cells hold."""
    from cryobench.suite.gather import PAGE, write_tables

    directory = _find_run(place, size, box, out)
    comparison = write_tables(directory)
    console().print(f"report  {directory / PAGE}", soft_wrap=True)
    if export:
        from cryobench.report.export import export_drawings
        from cryobench.report.rows import gather_rows
        from cryobench.report.suite_figures import draw_suite

        folder = directory / "figures"
        tell_exported(export_drawings(draw_suite(gather_rows(comparison)), folder), folder)


def _find_run(place: str, size: str, box: int | None, out: Path | None) -> Path:
    """The directory meant: the one named, or where the suite of that name is run by default."""
    from cryobench.suite.request import Request
    from cryobench.suite.spec import load_suite

    if out is not None:
        return out
    if (Path(place) / "plan.json").is_file():
        return Path(place)
    return Request(load_suite(place), size, box).directory()


def _directories(pairs: list[str]) -> dict[str, Path]:
    """``NAME=DIR`` pairs."""
    from cryobench.errors import InputError

    found = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not name or not path:
            raise InputError(f"expected --data NAME=DIR, got {pair!r}")
        found[name] = Path(path)
    return found
