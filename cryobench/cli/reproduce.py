"""A result computed again, and what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryobench.cli.app import RUN, app
from cryobench.cli.options import console


@app.command("reproduce", rich_help_panel=RUN)
def reproduce_command(
    result: Annotated[
        Path, typer.Argument(help="A result.json, or the run directory that holds one.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of the second run.  [default: runs/reproduce-...]", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Directory of the dataset; needed where it was imported.", show_default=False),
    ] = None,
    truth: Annotated[
        str | None, typer.Option(help="The file that the result was compared with, if any.", show_default=False)
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="The mask file of the evaluation, if any.", show_default=False)
    ] = None,
) -> None:
    """Run a result again from what it says of itself, and say what differs.

    Scenario, seeds, method, parameters, budget and options are read from result.json. Exit code: 0 if every number is the same or
    resolutions and hallucination gap lie within the intervals of the first result, 3 if not, 2 if it could not be run.
    """
    from cryobench.console import Listener
    from cryobench.report.reproduction import reproduction_table
    from cryobench.reproduce import reproduce

    with Listener(console()) as listener:
        found, directory = reproduce(result, out, data=data, truth=truth, mask=mask, listener=listener)
    console().print(reproduction_table(found))
    console().print(f"comparison  {directory / 'reproduction.json'}", soft_wrap=True)
    if found["verdict"] == "different":
        raise typer.Exit(3)
