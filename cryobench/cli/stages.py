"""The whole path, and each stage of it alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryobench.cli.app import RUN, STAGES, app
from cryobench.cli.options import (
    Box,
    Budget,
    CtfTable,
    Dask,
    Device,
    Directory,
    Export,
    GaussianFilter,
    Half1,
    Half2,
    Jobs,
    MapName,
    MapOut,
    MapSymmetry,
    Mask,
    MaskRadius,
    MethodName,
    Noise,
    NoiseIndices,
    NoYardsticks,
    Overwrite,
    Parameters,
    Particles,
    Precision,
    Resample,
    ScenarioName,
    Seed,
    Settings,
    SnrDb,
    Specimen,
    Truth,
    Whole,
    Workers,
    console,
    parameters,
    seconds,
    tell_exported,
)

if TYPE_CHECKING:
    from cryobench.pipeline import Method
    from cryobench.scenario.spec import Scenario


def _scenario(
    name: str,
    specimen: str | None,
    box: int | None,
    particles: int | None,
    snr: float | None,
    ctf_table: Path | None,
    noise: Path | None,
    noise_indices: Path | None,
    dtype: str | None,
    settings: list[str] | None,
) -> Scenario:
    from cryobench.scenario.files import adapt_scenario

    return adapt_scenario(
        name,
        specimen=specimen,
        box=box,
        particles=particles,
        snr_db=snr,
        ctf_table=ctf_table,
        noise=noise,
        noise_indices=noise_indices,
        dtype=dtype,
        settings=settings or (),
    )


def _method(
    name: str, params: list[str] | None, device: str | None, budget: str | None, overwrite: bool, workers: int | None
) -> Method:
    from cryobench.pipeline import Method

    return Method(name, parameters(params), device, seconds(budget), overwrite, workers)


def _conclude(result: dict[str, Any], directory: Path) -> None:
    from cryobench.report.table import headline

    console().print(headline(result))
    console().print(f"result  {directory / 'result.json'}", soft_wrap=True)
    console().print(f"report  {directory / 'report.html'}", soft_wrap=True)


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
    dtype: Precision = None,
    setting: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Run directory.  [default: runs/...]", show_default=False)] = None,
    seed: Seed = 0,
    device: Device = None,
    param: Parameters = None,
    budget: Budget = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    dask: Dask = None,
) -> None:
    """Simulate, reconstruct both half-sets, evaluate and report. A run that was stopped goes on where it was."""
    from cryobench.console import Listener
    from cryobench.pipeline import run
    from cryobench.scenario.files import scenario_slug

    chosen = _scenario(scenario, specimen, box, particles, snr, ctf_table, noise, noise_indices, dtype, setting)
    solver = _method(method, param, device, budget, overwrite, workers)
    directory = out or Path("runs") / f"{method}-{scenario_slug(chosen)}-seed{seed}"
    with Listener(console()) as listener:
        result = run(chosen, solver, directory, seed=seed, dask=dask, listener=listener)
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
    dtype: Precision = None,
    setting: Settings = None,
    seed: Seed = 0,
    jobs: Jobs = None,
    dask: Dask = None,
) -> None:
    """Write a scenario's dataset and its truth; completes one that was begun.

    What is there already is checked, and what is missing or damaged is made anew.
    """
    from cryobench.console import Listener
    from cryobench.simulate import simulate

    chosen = _scenario(scenario, specimen, box, particles, snr, ctf_table, noise, noise_indices, dtype, setting)
    with Listener(console()) as listener:
        simulate(
            chosen,
            out,
            seed=seed,
            jobs=jobs,
            dask=dask,
            on_progress=lambda stage, done, total: listener(stage, done, total, {}),
        )
    console().print(f"dataset  {out}", soft_wrap=True)


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
    whole: Whole = False,
) -> None:
    """Reconstruct both half-sets of a dataset into predicted.zarr, or all its images as one set."""
    from cryobench.console import Listener
    from cryobench.pipeline import solve, solve_whole

    chosen = _method(method, param, device, budget, overwrite, workers)
    with Listener(console()) as listener:
        path = (solve_whole if whole else solve)(directory, chosen, seed=seed, listener=listener)
    console().print(f"reconstruction  {path}", soft_wrap=True)


@app.command("evaluate", rich_help_panel=STAGES)
def evaluate_command(
    path: Annotated[Path, typer.Argument(help="A run directory, or an MRC map of any program.", show_default=False)],
    truth: Truth = None,
    half1: Half1 = None,
    half2: Half2 = None,
    symmetry: MapSymmetry = None,
    name: MapName = None,
    out: MapOut = None,
    mask: Mask = None,
    mask_radius: MaskRadius = None,
    gaussian_filter: GaussianFilter = 0.0,
    no_yardsticks: NoYardsticks = False,
    resample: Resample = False,
) -> None:
    """Measure the resolution of a run, or of a bare map from any program.

    Writes result.json, the maps in one frame (half1, half2, mean, truth .mrc), and the correlation curves: fsc.csv, and fsc/*.xml
    for EMDB and ChimeraX, and report.html.

    A run:  cryobench evaluate runs/demo

    A map:  cryobench evaluate map.mrc --half1 half1.mrc --half2 half2.mrc --truth pdb:5A1A --symmetry D2
    """
    from cryobench.console import Listener
    from cryobench.evaluate.options import Options
    from cryobench.pipeline import BareMap, assess

    options = Options(mask or "auto", mask_radius, gaussian_filter, not no_yardsticks, resample=resample)
    with Listener(console()) as listener:
        result, directory = assess(
            path, BareMap(half1, half2, symmetry, name, out), truth=truth, options=options, listener=listener
        )
    _conclude(result, directory)


@app.command("report", rich_help_panel=STAGES)
def report_command(
    directory: Annotated[
        Path, typer.Argument(help="Run directory, or that of an evaluated map; holds result.json.", show_default=False)
    ],
    export: Export = False,
) -> None:
    """Write report.html anew from what the directory holds."""
    from cryobench.report.page import write_report

    console().print(f"report  {write_report(directory)}", soft_wrap=True)
    if export:
        from cryobench.report.export import export_figures

        tell_exported(export_figures(directory), directory / "figures")
