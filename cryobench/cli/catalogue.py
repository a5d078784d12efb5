"""What there is: scenarios, methods, specimens, this machine; and a method of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryobench.cli.app import LOOK, MORE, app, group
from cryobench.cli.options import Settings, console, print_rows

scenario_app = group("scenario", "Imaging conditions: list, show, check, compare.", LOOK)
method_app = group("method", "Reconstruction methods: list, show.", LOOK)
specimen_app = group("specimen", "What can be imaged: list, show.", LOOK)
plugin_app = group("plugin", "Write a method of your own.", MORE)


Name = Annotated[str, typer.Argument(help="A scenario's name or a TOML file.", show_default=False)]


@scenario_app.command("list")
def scenario_list() -> None:
    """Scenarios that ship with cryobench."""
    from cryobench.scenario.files import load_scenario, scenario_files

    print_rows("scenario", "", rows=[(name, load_scenario(name).description) for name in scenario_files()])


@scenario_app.command("show")
def scenario_show(name: Name, setting: Settings = None) -> None:
    """A scenario with every setting, defaults included."""
    from cryobench.scenario.files import adapt_scenario

    console().print_json(adapt_scenario(name, settings=setting or ()).model_dump_json())


@scenario_app.command("check")
def scenario_check(name: Name, setting: Settings = None) -> None:
    """Which assumptions of the CryoGAN paper's Theorem 1 a scenario keeps, and which it does not, with the numbers.

    If they all hold, what CryoGAN recovers in the limit of infinite data is the density up to a rotation and a reflection
    (Gupta, McCann, Donati and Unser, IEEE Transactions on Computational Imaging, 2021).
    """
    from cryobench.scenario.check import check_scenario, describe_conditions
    from cryobench.scenario.files import adapt_scenario

    scenario = adapt_scenario(name, settings=setting or ())
    findings = check_scenario(scenario)
    colours = {"holds": "green", "fails": "red", "not checked": "yellow"}
    told = [(f.assumption, f"[{colours[f.verdict]}]{f.verdict}", f.numbers) for f in findings]
    print_rows("assumption of Theorem 1", "", "in this scenario", rows=told)
    kept = sum(f.verdict == "holds" for f in findings)
    then = ": with unlimited data, recovered up to a rotation and a reflection" if kept == len(findings) else ""
    console().print(f"\n{kept} of {len(findings)} hold{then}\n")
    print_rows("", "", rows=describe_conditions(scenario))


@scenario_app.command("compare")
def scenario_compare(
    a: Name,
    b: Name,
    symmetry: Annotated[
        str | None, typer.Option(help="Point group.  [default: that of A's specimen]", show_default=False)
    ] = None,
) -> None:
    """How far the pose priors of two scenarios are apart modulo symmetry, from 0 (the same) to 1, and their shifts.

    The distance is the normalised energy distance of rotation matrices; uniform poses and a single view direction give the scale.
    """
    from cryobench.scenario.compare import compare_scenarios
    from cryobench.scenario.files import load_scenario

    print_rows("", "", rows=compare_scenarios(load_scenario(a), load_scenario(b), symmetry))


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
    from cryobench.specimens.catalogue import list_specimens

    print_rows("specimen", "symmetry", "from", "", rows=list_specimens())


@specimen_app.command("show")
def specimen_show(
    name: Annotated[
        str,
        typer.Argument(
            help="A name, pdb:ID, emdb:ID or a path, perhaps with options: pdb:5A1A,resolution=4,b_factors=yes; "
            "several make an ensemble: '0.3 * a.cif + 0.7 * b.cif', or a .toml file that lists them.",
            show_default=False,
        ),
    ],
) -> None:
    """What a specimen is, where it comes from, how it becomes density, and the options it has."""
    from cryobench.specimens.catalogue import describe_options, find

    specimen = find(name)
    about = [("name", specimen.name), ("symmetry", specimen.symmetry), ("about", specimen.description)]
    print_rows("", "", rows=[*about, *specimen.facts()])
    if options := describe_options(name):
        print_rows("option", "default", "", rows=options)
        console().print("\nOptions follow the name after commas: NAME,option=value,option=value", soft_wrap=True)


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
