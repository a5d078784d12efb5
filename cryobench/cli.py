"""The command line: parse, call one stage, print. No logic, and nothing heavy imported before it is needed."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryobench.errors import CryobenchError, InputError

if TYPE_CHECKING:
    from cryobench.pipeline import Method
    from cryobench.scenario.spec import Scenario

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Simulate single-particle cryo-EM datasets, reconstruct them, and measure the result against a hidden truth.",
    epilog="Start with: cryobench run --method cryogan --scenario snr-20",
)


def _group(name: str, about: str, panel: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=about)
    app.add_typer(group, name=name, rich_help_panel=panel)
    return group


RUN, STAGES, LOOK, MORE = "The whole path", "Each stage alone", "What there is", "Your own data and methods"
scenario_app = _group("scenario", "Imaging conditions: list, show.", LOOK)
method_app = _group("method", "Reconstruction methods: list, show.", LOOK)
specimen_app = _group("specimen", "What can be imaged: list, show.", LOOK)
dataset_app = _group("dataset", "Stores: info.", LOOK)
import_app = _group("import", "Real particles into a store.", MORE)
plugin_app = _group("plugin", "Write a method of your own.", MORE)

Directory = Annotated[Path, typer.Argument(help="Run directory, which holds observed.zarr.", show_default=False)]
MethodName = Annotated[
    str, typer.Option("--method", "-m", help="A method's name; see `method list`.", show_default=False)
]
ScenarioName = Annotated[
    str,
    typer.Option(
        "--scenario", "-s", help="A scenario's name (see `scenario list`) or a TOML file.", show_default=False
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of every draw.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 ...  [default: the best that is here]", show_default=False)
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param", "-p", metavar="KEY=VALUE", help="A parameter of the method; repeatable.", show_default=False
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(help="Longest time for each half, such as 90s, 10m or 2h.", metavar="TIME", show_default=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another result in the same directory.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, max=2, help="2: halves side by side, 1: in turn.  [default: 2 on a CPU]", show_default=False),
]
Specimen = Annotated[
    str | None, typer.Option(help="In place of the scenario's: a name, pdb:ID, emdb:ID or a path.", show_default=False)
]
Box = Annotated[int | None, typer.Option(help="Working box, pixels.", show_default=False)]
Particles = Annotated[int | None, typer.Option("--particles", "-n", help="How many images in all.", show_default=False)]
SnrDb = Annotated[
    float | None, typer.Option("--snr", help="In dB, at the native pixel; inf for no noise.", show_default=False)
]
CtfTable = Annotated[
    Path | None, typer.Option(help="CTFFIND4 results to take the micrographs' CTFs from.", show_default=False)
]
Noise = Annotated[Path | None, typer.Option(help="MRC stack of real background patches.", show_default=False)]
NoiseIndices = Annotated[
    Path | None, typer.Option(help="Text file of the patches of --noise to use, from 0.", show_default=False)
]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Worker threads of the simulation.  [default: all cores]", show_default=False)
]
Truth = Annotated[
    str | None, typer.Option(help="For imported data: a specimen or map to compare with.", show_default=False)
]
Symmetry = Annotated[str, typer.Option(help="Point group to assume, such as C1 or D2.")]


def _console() -> Any:
    from rich.console import Console

    return Console()


def _seconds(budget: str | None) -> float:
    if budget is None:
        return math.inf
    number, unit = (budget[:-1], budget[-1]) if budget[-1:].isalpha() else (budget, "s")
    try:
        value = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except (ValueError, KeyError):
        value = math.nan
    if not value > 0:
        raise InputError(f"expected a time such as 90s, 10m or 2h, got {budget!r}")
    return value


def _parameters(pairs: list[str] | None) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InputError(f"expected -p KEY=VALUE, got {pair!r}")
        try:
            params[key] = json.loads(text)
        except json.JSONDecodeError:
            params[key] = text
    return params


def _scenario(
    name: str,
    specimen: str | None,
    box: int | None,
    particles: int | None,
    snr: float | None,
    ctf_table: Path | None,
    noise: Path | None,
    noise_indices: Path | None,
) -> Scenario:
    from cryobench.scenario.spec import adapt_scenario

    return adapt_scenario(
        name,
        specimen=specimen,
        box=box,
        particles=particles,
        snr_db=snr,
        ctf_table=ctf_table,
        noise=noise,
        noise_indices=noise_indices,
    )


def _method(
    name: str, params: list[str] | None, device: str | None, budget: str | None, overwrite: bool, workers: int | None
) -> Method:
    from cryobench.pipeline import Method

    return Method(name, _parameters(params), device, _seconds(budget), overwrite, workers)


def _conclude(result: dict[str, Any], directory: Path) -> None:
    from cryobench.report.table import headline

    console = _console()
    console.print(headline(result))
    console.print(f"result  {directory / 'result.json'}", soft_wrap=True)
    console.print(f"report  {directory / 'report.html'}", soft_wrap=True)


@app.command("run", rich_help_panel=RUN)
def run_command(
    method: MethodName,
    scenario: ScenarioName,
    specimen: Specimen = None,
    box: Box = None,
    particles: Particles = None,
    snr: SnrDb = None,
    ctf_table: CtfTable = None,
    noise: Noise = None,
    noise_indices: NoiseIndices = None,
    out: Annotated[Path | None, typer.Option(help="Run directory.  [default: runs/...]", show_default=False)] = None,
    seed: Seed = 0,
    device: Device = None,
    param: Parameters = None,
    budget: Budget = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
) -> None:
    """Simulate, reconstruct both half-sets, evaluate and report. A run that was stopped goes on where it was."""
    from cryobench.console import Listener
    from cryobench.pipeline import run

    chosen = _scenario(scenario, specimen, box, particles, snr, ctf_table, noise, noise_indices)
    solver = _method(method, param, device, budget, overwrite, workers)
    directory = out or Path("runs") / f"{method}-{chosen.slug}-seed{seed}"
    with Listener(_console()) as listener:
        result = run(chosen, solver, directory, seed=seed, listener=listener)
    _conclude(result, directory)


@app.command("simulate", rich_help_panel=STAGES)
def simulate_command(
    scenario: ScenarioName,
    out: Annotated[Path, typer.Option(help="Directory that gets observed.zarr and truth.zarr.", show_default=False)],
    specimen: Specimen = None,
    box: Box = None,
    particles: Particles = None,
    snr: SnrDb = None,
    ctf_table: CtfTable = None,
    noise: Noise = None,
    noise_indices: NoiseIndices = None,
    seed: Seed = 0,
    jobs: Jobs = None,
) -> None:
    """Write a scenario's dataset and its truth; completes one that was begun."""
    from cryobench.console import Listener
    from cryobench.simulate import simulate

    chosen = _scenario(scenario, specimen, box, particles, snr, ctf_table, noise, noise_indices)
    with Listener(_console()) as listener:
        simulate(
            chosen, out, seed=seed, jobs=jobs, on_progress=lambda stage, done, total: listener(stage, done, total, {})
        )
    _console().print(f"dataset  {out}", soft_wrap=True)


@app.command("reconstruct", rich_help_panel=STAGES)
def reconstruct_command(
    directory: Directory,
    method: MethodName,
    seed: Seed = 0,
    device: Device = None,
    param: Parameters = None,
    budget: Budget = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
) -> None:
    """Reconstruct both half-sets of a dataset into predicted.zarr."""
    from cryobench.console import Listener
    from cryobench.pipeline import solve

    with Listener(_console()) as listener:
        path = solve(
            directory, _method(method, param, device, budget, overwrite, workers), seed=seed, listener=listener
        )
    _console().print(f"reconstruction  {path}", soft_wrap=True)


@app.command("evaluate", rich_help_panel=STAGES)
def evaluate_command(directory: Directory, truth: Truth = None) -> None:
    """Measure the reconstruction's resolution: result.json, the half-maps and their mean."""
    from cryobench.console import Listener
    from cryobench.pipeline import judge

    with Listener(_console()) as listener:
        result = judge(directory, truth=truth, listener=listener)
    _conclude(result, directory)


@app.command("report", rich_help_panel=STAGES)
def report_command(directory: Directory) -> None:
    """Write report.html anew from what the run directory holds."""
    from cryobench.report.page import write_report

    _console().print(f"report  {write_report(directory)}", soft_wrap=True)


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
    _console().print(table)


def _print_rows(*headings: str, rows: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    _console().print(table)


@scenario_app.command("list")
def scenario_list() -> None:
    """Scenarios that ship with cryobench."""
    from cryobench.scenario.spec import load_scenario, scenario_files

    _print_rows("scenario", "", rows=[(name, load_scenario(name).description) for name in scenario_files()])


@scenario_app.command("show")
def scenario_show(
    name: Annotated[str, typer.Argument(help="A scenario's name or a TOML file.", show_default=False)],
) -> None:
    """A scenario with every setting, defaults included."""
    from cryobench.scenario.spec import load_scenario

    _console().print_json(load_scenario(name).model_dump_json())


@method_app.command("list")
def method_list() -> None:
    """Methods that are installed."""
    from cryobench.reconstruct.registry import describe_methods

    _print_rows("method", "", "from", rows=describe_methods())


@method_app.command("show")
def method_show(name: Annotated[str, typer.Argument(help="A method's name.", show_default=False)]) -> None:
    """A method's needs and parameters."""
    from cryobench.reconstruct.registry import describe_parameters, load_method

    method = load_method(name)
    needs = method.needs
    console = _console()
    console.print(f"[bold]{method.name}[/]  {method.summary}")
    console.print(
        f"needs  gpu: {needs.gpu}; known poses: {'yes' if needs.poses else 'no'}; programs: {', '.join(needs.programs) or 'none'}"
    )
    _print_rows("parameter", "type", "default", "", rows=describe_parameters(method))


@specimen_app.command("list")
def specimen_list() -> None:
    """Specimens of the catalogue; `pdb:ID`, `emdb:ID` and paths work as well."""
    from cryobench.specimens.catalogue import names

    _print_rows("specimen", "", rows=list(names().items()))


@specimen_app.command("show")
def specimen_show(
    name: Annotated[str, typer.Argument(help="A name, pdb:ID, emdb:ID or a path.", show_default=False)],
) -> None:
    """What a specimen is, its symmetry, and where it comes from."""
    from cryobench.specimens.catalogue import find

    specimen = find(name)
    _print_rows(
        "", "", rows=[("name", specimen.name), ("symmetry", specimen.symmetry), ("about", specimen.description)]
    )


@dataset_app.command("info")
def dataset_info(path: Annotated[Path, typer.Argument(help="A run directory or a store.", show_default=False)]) -> None:
    """What a dataset holds: sizes, voxel, priors, noise; with its truth beside it, SNR and specimen too."""
    from cryobench.dataset.store import describe_dataset

    _print_rows("", "", rows=describe_dataset(path))


@import_app.command("relion")
def import_relion_command(
    star: Annotated[Path, typer.Argument(help="Particle STAR file of RELION 3.0, 3.1 or later.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Run directory that gets observed.zarr.", show_default=False)],
    symmetry: Symmetry = "C1",
    box: Box = None,
    radius: Annotated[
        float | None,
        typer.Option(help="Å; noise is measured outside it.  [default: 0.8 of half the box]", show_default=False),
    ] = None,
    shift: Annotated[
        float | None, typer.Option(help="Å; half-width of the shifts to assume.", show_default=False)
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Images have protein dark.")] = False,
    stacks: Annotated[Path | None, typer.Option(help="Directory of the image stacks.", show_default=False)] = None,
    amplitude_contrast: Annotated[
        float | None, typer.Option(help="To take where the file states none.", show_default=False)
    ] = None,
    noise_patches: Annotated[int, typer.Option(min=16, help="Noise images to make for each half.")] = 512,
    seed: Seed = 0,
) -> None:
    """RELION particles into an observed.zarr, with the noise spectrum measured outside the particle."""
    from cryobench.console import Listener
    from cryobench.ingest import import_relion

    with Listener(_console()) as listener:
        path = import_relion(
            star,
            out,
            symmetry=symmetry,
            box=box,
            particle_radius=radius,
            shift_half_width=shift,
            invert=invert,
            stack_directory=stacks,
            amplitude_contrast=amplitude_contrast,
            noise_patches=noise_patches,
            seed=seed,
            on_progress=lambda stage, done, total: listener(stage, done, total, {}),
        )
    _console().print(f"dataset  {path}", soft_wrap=True)


@plugin_app.command("new")
def plugin_new(
    name: Annotated[str, typer.Argument(help="Of the method, such as my-method.", show_default=False)],
    into: Annotated[Path, typer.Option(help="Directory to make the distribution in.")] = Path(),
) -> None:
    """Write a small complete distribution with a method, its conformance tests and a README."""
    from cryobench.reconstruct.scaffold import write_plugin

    _console().print(f"plugin  {write_plugin(name, into)}", soft_wrap=True)


def _print_version(asked: bool) -> None:
    if asked:
        from cryobench import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Set what holds for every command."""
    if debug:
        os.environ["CRYOBENCH_DEBUG"] = "1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every error of the input is one line and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in arguments:
        arguments = ["--debug", *(a for a in arguments if a != "--debug")]
    debug = "--debug" in arguments or bool(os.environ.get("CRYOBENCH_DEBUG"))
    try:
        app(args=arguments, prog_name="cryobench", standalone_mode=True)
    except CryobenchError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except Exception as error:
        if debug:
            raise
        typer.echo(f"internal error: {type(error).__name__}: {error} (--debug shows where)", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
