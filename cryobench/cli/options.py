"""Options that commands share, and how they print."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cryobench.errors import InputError

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
    str | None, typer.Option(help="For imported data: a specimen or map to compare with.", show_default=False)
]
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


def console() -> Any:
    """Where everything is printed."""
    from rich.console import Console

    return Console()


def seconds(budget: str | None) -> float:
    """A time such as 90s, 10m or 2h in seconds; without end if none is given."""
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


def print_rows(*headings: str, rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table without lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)
