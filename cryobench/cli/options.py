"""Options that commands share, and how they print."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cryobench.errors import InputError

if TYPE_CHECKING:
    from cryobench.report.comparison import Comparison

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
Whole = Annotated[
    bool,
    typer.Option(
        "--whole",
        help="All images as one set, into whole.zarr and whole.mrc: no half-map resolution goes with it; evaluate takes the map.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, max=2, help="2: halves side by side, 1: in turn.  [default: 2 on a CPU]", show_default=False),
]
Specimen = Annotated[
    str | None,
    typer.Option(
        help="In place of the scenario's, as `specimen show` takes it: pdb:5A1A,resolution=4.", show_default=False
    ),
]
Box = Annotated[int | None, typer.Option(help="Working box, pixels.", show_default=False)]
Particles = Annotated[int | None, typer.Option("--particles", "-n", help="How many images in all.", show_default=False)]
SnrDb = Annotated[
    float | None, typer.Option("--snr", help="In dB, at the native pixel; inf for no noise.", show_default=False)
]
CtfTable = Annotated[
    Path | None, typer.Option(help="Micrographs' CTFs: CTFFIND4 text, STAR, .cs or npz.", show_default=False)
]
Noise = Annotated[
    Path | None, typer.Option(help="Noise store, or MRC stack of real background patches.", show_default=False)
]
NoiseIndices = Annotated[
    Path | None, typer.Option(help="Text file of the patches of --noise to use, from 0.", show_default=False)
]
Precision = Annotated[
    Literal["float32", "float16"] | None,
    typer.Option(
        "--dtype",
        help="What images are stored as; float16 halves the store and rounds by 1 in 4,800 of the rms.  [default: the "
        "scenario's, float32]",
        show_default=False,
    ),
]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Worker threads of the simulation.  [default: all cores]", show_default=False)
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="Simulate on dask workers: local:N processes here, tcp://HOST:PORT, or a scheduler file.",
        show_default=False,
    ),
]
Truth = Annotated[
    str | None,
    typer.Option(
        help="What to compare with: a map, a specimen such as pdb:5A1A, or a truth.zarr. A simulated run has its own.",
        show_default=False,
    ),
]
Half1 = Annotated[Path | None, typer.Option(help="For a map: its first half-map.", show_default=False)]
Half2 = Annotated[Path | None, typer.Option(help="For a map: its second half-map.", show_default=False)]
MapSymmetry = Annotated[
    str | None,
    typer.Option("--symmetry", help="For a map: its point group, main axis on z.  [default: C1]", show_default=False),
]
MapName = Annotated[
    str | None,
    typer.Option("--name", help="For a map: what tables call it.  [default: the file's name]", show_default=False),
]
MapOut = Annotated[
    Path | None,
    typer.Option("--out", help="For a map: directory of the result.  [default: runs/evaluate-...]", show_default=False),
]
Mask = Annotated[
    str | None,
    typer.Option(
        help="Soft mask of the masked curves: `specimen` (drawn from the truth), `sphere`, or a map in the frame of the "
        "truth.  [default: specimen where there is a truth, else sphere]",
        show_default=False,
    ),
]
MaskRadius = Annotated[
    float | None,
    typer.Option(min=0, help="Of the mask `sphere`, Å.  [default: the largest that fits]", show_default=False),
]
GaussianFilter = Annotated[
    float,
    typer.Option(min=0, metavar="VOXELS", help="Blur maps and truth by a Gaussian of this deviation before comparing."),
]
NoYardsticks = Annotated[
    bool,
    typer.Option("--no-yardsticks", help="Leave out what an ellipsoid, pure noise and the true poses would score."),
]
Resample = Annotated[
    bool, typer.Option("--resample", help="Put a truth or mask of another box or voxel size onto the maps' grid.")
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Symmetry = Annotated[str, typer.Option(help="Point group to assume, such as C1 or D2.")]


Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting of the scenario, such as shift.kind=none; see `scenario show`. Repeatable.",
        show_default=False,
    ),
]


Export = Annotated[
    bool, typer.Option("--export", help="Also write every figure as figures/NAME.csv and NAME.png, for papers.")
]


def console() -> Any:
    """Where everything is printed."""
    from rich.console import Console

    return Console()


def seconds(budget: str | None) -> float:
    """A time such as 90s, 10m or 2h in seconds; without end if none is given."""
    if budget is None:
        return math.inf
    from cryobench.suite.times import parse_seconds

    return parse_seconds(budget)


def parameters(pairs: list[str] | None) -> dict[str, Any]:
    """``KEY=VALUE`` pairs, the values JSON or else text."""
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


def choose_form(*, csv: bool, markdown: bool, json: bool) -> Callable[[Comparison], None]:
    """What prints a comparison in the one form that was asked for, or else as a table."""
    from cryobench.report.comparison_formats import as_csv, as_json, as_markdown
    from cryobench.report.comparison_tables import compare_in_terminal

    if csv + markdown + json > 1:
        raise InputError("expected one of --csv, --markdown and --json, got several")
    if not (csv or markdown or json):
        return lambda comparison: console().print(compare_in_terminal(comparison))
    form = as_csv if csv else as_markdown if markdown else as_json
    return lambda comparison: typer.echo(form(comparison), nl=False)


def print_rows(*headings: str, rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table without lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def tell_exported(exported: Any, folder: Path) -> None:
    """Say how many figures were written, and why there are no pictures where there are none."""
    console().print(f"figures  {len(exported.files)} files in {folder}", soft_wrap=True)
    if exported.missing is not None:
        console().print(f"no PNG files: {exported.missing}", soft_wrap=True, markup=False)
