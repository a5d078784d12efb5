"""Many results in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cryobench.cli.app import RUN, app
from cryobench.cli.options import AsCsv, AsJson, AsMarkdown, choose_form


@app.command("leaderboard", rich_help_panel=RUN)
def leaderboard_command(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="DIR", help="Directories to search for result.json files.", show_default=False),
    ],
    by: Annotated[
        Literal["truth_0.5", "truth_0.143"], typer.Option(help="What ranks. A half-map figure never does.")
    ] = "truth_0.5",
    csv: AsCsv = False,
    markdown: AsMarkdown = False,
    json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with figures.", show_default=False)
    ] = None,
) -> None:
    """Gather results and rank them within groups that may be compared: same scenario, truth, box, voxel size and symmetry.

    Runs, cells of suites and maps of other programs (see `cryobench evaluate`) are taken alike; results of another version's
    form are named and left out.
    """
    from cryobench.report.leaderboard import gather_leaderboard
    from cryobench.report.suite_page import write_suite_page

    show = choose_form(csv=csv, markdown=markdown, json=json)
    comparison = gather_leaderboard(directories, "truth 0.5" if by == "truth_0.5" else "truth 0.143")
    show(comparison)
    if html is not None:
        path = write_suite_page(comparison, html)
        typer.echo(f"page  {path}", err=csv or markdown or json)
