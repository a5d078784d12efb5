"""What there is: scenarios, methods, specimens, this machine; and a method of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryobench.cli.app import LOOK, MORE, app, group
from cryobench.cli.options import console, print_rows

scenario_app = group("scenario", "Imaging conditions: list, show.", LOOK)
method_app = group("method", "Reconstruction methods: list, show.", LOOK)
specimen_app = group("specimen", "What can be imaged: list, show.", LOOK)
plugin_app = group("plugin", "Write a method of your own.", MORE)


@scenario_app.command("list")
def scenario_list() -> None:
    """Scenarios that ship with cryobench."""
    from cryobench.scenario.files import load_scenario, scenario_files

    print_rows("scenario", "", rows=[(name, load_scenario(name).description) for name in scenario_files()])


@scenario_app.command("show")
def scenario_show(
    name: Annotated[str, typer.Argument(help="A scenario's name or a TOML file.", show_default=False)],
) -> None:
    """A scenario with every setting, defaults included."""
    from cryobench.scenario.files import load_scenario

    console().print_json(load_scenario(name).model_dump_json())


@method_app.command("list")
def method_list() -> None:
    """Methods that are installed."""
    from cryobench.reconstruct.registry import describe_methods

    print_rows("method", "", "from", rows=describe_methods())


@method_app.command("show")
def method_show(name: Annotated[str, typer.Argument(help="A method's name.", show_default=False)]) -> None:
    """A method's needs and parameters."""
    from cryobench.reconstruct.registry import describe_parameters, load_method

    method = load_method(name)
    needs = method.needs
    out = console()
    out.print(f"[bold]{method.name}[/]  {method.summary}")
    out.print(
        f"needs  gpu: {needs.gpu}; known poses: {'yes' if needs.poses else 'no'}; programs: {', '.join(needs.programs) or 'none'}"
    )
    print_rows("parameter", "type", "default", "", rows=describe_parameters(method))


@specimen_app.command("list")
def specimen_list() -> None:
    """Specimens of the catalogue; `pdb:ID`, `emdb:ID` and paths work as well."""
    from cryobench.specimens.catalogue import names

    print_rows("specimen", "", rows=list(names().items()))


@specimen_app.command("show")
def specimen_show(
    name: Annotated[str, typer.Argument(help="A name, pdb:ID, emdb:ID or a path.", show_default=False)],
) -> None:
    """What a specimen is, its symmetry, and where it comes from."""
    from cryobench.specimens.catalogue import find

    specimen = find(name)
    print_rows("", "", rows=[("name", specimen.name), ("symmetry", specimen.symmetry), ("about", specimen.description)])


@app.command("doctor", rich_help_panel=MORE)
def doctor_command() -> None:
    """What this machine has, what is missing, and what that limits."""
    from rich.table import Table

    from cryobench.doctor import examine

    table = Table(box=None, pad_edge=False)
    for heading in ("", "found", "so"):
        table.add_column(heading, overflow="fold")
    for finding in examine():
        table.add_row(finding.what, finding.found, f"[yellow]{finding.limits}" if finding.limits else "")
    console().print(table)


@plugin_app.command("new")
def plugin_new(
    name: Annotated[str, typer.Argument(help="Of the method, such as my-method.", show_default=False)],
    into: Annotated[Path, typer.Option(help="Directory to make the distribution in.")] = Path(),
) -> None:
    """Write a small complete distribution with a method, its conformance tests and a README."""
    from cryobench.reconstruct.scaffold import write_plugin

    console().print(f"plugin  {write_plugin(name, into)}", soft_wrap=True)
