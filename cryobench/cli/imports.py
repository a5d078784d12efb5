"""Real particles into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryobench.cli.app import MORE, group
from cryobench.cli.options import Box, Seed, Symmetry, console

import_app = group("import", "Real particles into a store.", MORE)


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
    from cryobench.ingest.relion import import_relion

    with Listener(console()) as listener:
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
    console().print(f"dataset  {path}", soft_wrap=True)
