"""Real particles into a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from cryobench.cli.app import MORE, group
from cryobench.cli.options import Box, Seed, Symmetry, console

import_app = group("import", "Real particles into a store.", MORE)

Out = Annotated[Path, typer.Option(help="Run directory that gets observed.zarr.", show_default=False)]
Radius = Annotated[
    float | None,
    typer.Option(help="Å; noise is measured outside it.  [default: 0.8 of half the box]", show_default=False),
]
Shift = Annotated[
    float,
    typer.Option(help="Å; half-width of the (triangular) shifts to assume, 0 for none."),
]
Invert = Annotated[bool, typer.Option("--invert", help="Images have protein dark.")]
Stacks = Annotated[Path | None, typer.Option(help="Directory of the image stacks.", show_default=False)]
NoisePatches = Annotated[int, typer.Option(min=16, help="Noise images to make for each half.")]
AmplitudeContrast = Annotated[
    float | None, typer.Option(help="To take where the file states none.", show_default=False)
]


def _show(run: Callable[[Callable[[str, int, int], None]], Path]) -> None:
    """Run an import with its progress shown, and say where the store is and what the import left out or assumed."""
    from cryobench.console import Listener
    from cryobench.dataset.store import open_store

    with Listener(console()) as listener:
        path = run(lambda stage, done, total: listener(stage, done, total, {}))
    for note in open_store(path, "observed").attrs["notes"]:
        console().print(f"note     {note}", soft_wrap=True, highlight=False)
    console().print(f"dataset  {path}", soft_wrap=True)


@import_app.command("relion")
def import_relion_command(
    star: Annotated[Path, typer.Argument(help="Particle STAR file of RELION 3.0, 3.1 or later.", show_default=False)],
    out: Out,
    symmetry: Symmetry = "C1",
    box: Box = None,
    radius: Radius = None,
    shift: Shift = 28.0,
    invert: Invert = False,
    stacks: Stacks = None,
    amplitude_contrast: AmplitudeContrast = None,
    noise_patches: NoisePatches = 512,
    seed: Seed = 0,
) -> None:
    """RELION particles into an observed.zarr, with the noise spectrum measured outside the particle.

    Optics groups of different pixel sizes are taken together where their images have one field of view; else each has to be
    imported by itself. Beam tilt and other aberrations that images here do not model are noted.
    """
    from cryobench.ingest.options import ImportOptions
    from cryobench.ingest.relion import import_relion

    options = ImportOptions(symmetry, box, radius, seed, noise_patches, shift)
    _show(
        lambda on_progress: import_relion(
            star,
            out,
            options,
            invert=invert,
            amplitude_contrast=amplitude_contrast,
            stack_directory=stacks,
            on_progress=on_progress,
        )
    )


@import_app.command("cryosparc")
def import_cryosparc_command(
    file: Annotated[Path, typer.Argument(help="Particle .cs file with the fields blob and ctf.", show_default=False)],
    out: Out,
    symmetry: Symmetry = "C1",
    box: Box = None,
    radius: Radius = None,
    shift: Shift = 28.0,
    invert: Invert = False,
    stacks: Stacks = None,
    noise_patches: NoisePatches = 512,
    seed: Seed = 0,
) -> None:
    """cryoSPARC particles into an observed.zarr, with the noise spectrum measured outside the particle.

    Image stacks are looked for beside the .cs file and in every directory above it, one of which is the project.
    """
    from cryobench.ingest.cryosparc import import_cryosparc
    from cryobench.ingest.options import ImportOptions

    options = ImportOptions(symmetry, box, radius, seed, noise_patches, shift)
    _show(
        lambda on_progress: import_cryosparc(
            file, out, options, invert=invert, stack_directory=stacks, on_progress=on_progress
        )
    )


@import_app.command("micrographs")
def import_micrographs_command(
    micrographs: Annotated[
        list[Path], typer.Argument(help="MRC files of micrographs, or directories of them.", show_default=False)
    ],
    boxes: Annotated[
        Path,
        typer.Option(
            help="EMAN .box file, RELION coordinate or particle STAR, CSV (micrograph,x,y,w,h), or a directory of one such "
            "file for each micrograph.",
            show_default=False,
        ),
    ],
    ctf: Annotated[
        Path,
        typer.Option(
            help="RELION's micrographs_ctf.star, CTFFIND4 text output or lines of it joined, or a directory of such.",
            show_default=False,
        ),
    ],
    out: Out,
    extract: Annotated[
        int | None,
        typer.Option(
            help="Side of the cut on the micrograph, pixels.  [default: that of the boxes, else --box]",
            show_default=False,
        ),
    ] = None,
    box: Box = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(help="Å, of the micrographs.  [default: that of the CTF table or the header]", show_default=False),
    ] = None,
    protein: Annotated[
        Literal["dark", "bright"], typer.Option(help="Contrast of the micrographs; dark ones are inverted.")
    ] = "dark",
    symmetry: Symmetry = "C1",
    radius: Radius = None,
    shift: Shift = 28.0,
    no_ramp: Annotated[
        bool, typer.Option("--no-ramp", help="Take off the mean of each image's background, not a plane fitted to it.")
    ] = False,
    no_normalise: Annotated[
        bool, typer.Option("--no-normalise", help="Leave backgrounds as they are, not at mean 0 and deviation 1.")
    ] = False,
    voltage: Annotated[
        float | None, typer.Option(help="kV, where the CTF table states none.", show_default=False)
    ] = None,
    cs: Annotated[float | None, typer.Option(help="Spherical aberration, mm, likewise.", show_default=False)] = None,
    amplitude_contrast: Annotated[float | None, typer.Option(help="Likewise.", show_default=False)] = None,
    ctf_limit: Annotated[
        float | None,
        typer.Option(help="Å; leave micrographs out whose CTF was fitted no better.", show_default=False),
    ] = None,
    skip_no_ctf: Annotated[
        bool, typer.Option("--skip-no-ctf", help="Leave micrographs out that have boxes and no CTF.")
    ] = False,
    noise: Annotated[
        Path | None,
        typer.Option(
            help="Noise store (see `noise extract`) whose patches the methods get.  [default: noise is made of the "
            "spectrum measured beside the particles]",
            show_default=False,
        ),
    ] = None,
    noise_patches: NoisePatches = 512,
    seed: Seed = 0,
) -> None:
    """Particles cut from micrographs into an observed.zarr, each with the CTF of its micrograph.

    Boxes and CTFs are matched to micrographs by name, whatever the directory and the ending. A box is cut at the nearest whole
    pixel and never resampled; what is left of its centre is stored as the particle's given shift. Boxes beyond the edge are
    left out. Everything left out is counted and said.
    """
    from cryobench.ingest.matching import MicrographOptions
    from cryobench.ingest.micrographs import import_micrographs
    from cryobench.ingest.options import ImportOptions

    options = ImportOptions(symmetry, box, radius, seed, noise_patches, shift)
    cutting = MicrographOptions(
        extract=extract,
        pixel_size=pixel_size,
        protein=protein,
        normalise=not no_normalise,
        remove_ramp=not no_ramp,
        voltage=voltage,
        spherical_aberration=cs,
        amplitude_contrast=amplitude_contrast,
        max_ctf_resolution=ctf_limit,
        skip_without_ctf=skip_no_ctf,
    )
    _show(
        lambda on_progress: import_micrographs(
            micrographs, boxes, ctf, out, options, cutting, noise=noise, on_progress=on_progress
        )
    )
