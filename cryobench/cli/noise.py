"""Noise of real micrographs: cut patches, fit a generator to them, see how like them it is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cryobench.cli.app import MORE, group
from cryobench.cli.options import Seed, console, print_rows

noise_app = group("noise", "Noise of real micrographs: extract patches, fit a generator, compare.", MORE)


class Model(StrEnum):
    """Kinds of generator."""

    radial = "radial"
    spectrum2d = "spectrum2d"
    covariance = "covariance"


class Contrast(StrEnum):
    """What protein looks like."""

    dark = "dark"
    bright = "bright"


Patches = Annotated[Path, typer.Argument(help="Noise store, or MRC stack of patches.", show_default=False)]
Indices = Annotated[
    Path | None, typer.Option(help="Text file of the patches to use, from 0.  [default: all]", show_default=False)
]
StackPixel = Annotated[
    float | None, typer.Option("--pixel-size", help="Å, where a stack's header does not say.", show_default=False)
]
Protein = Annotated[Contrast, typer.Option(help="Contrast of micrographs and stacks; stores have protein bright.")]


@noise_app.command("extract")
def noise_extract(
    micrographs: Annotated[list[Path], typer.Argument(help="MRC files, motion-corrected.", show_default=False)],
    boxes: Annotated[
        Path,
        typer.Option(
            help="Particles to keep away from: EMAN .box, RELION STAR, a CSV of boxes, or a directory of such files.",
            show_default=False,
        ),
    ],
    box: Annotated[int, typer.Option(min=16, help="Side of a patch, pixels (of --pixel-size).", show_default=False)],
    out: Annotated[Path, typer.Option(help="Noise store to write, such as noise.zarr.", show_default=False)],
    pixel_size: Annotated[
        float | None,
        typer.Option(
            help="Å; Fourier-rescale the micrographs to this.  [default: the micrographs' own]", show_default=False
        ),
    ] = None,
    micrograph_pixel_size: Annotated[
        float | None, typer.Option(help="Å, in place of what the headers say.", show_default=False)
    ] = None,
    protein: Protein = Contrast.dark,
    particle_diameter: Annotated[
        float | None,
        typer.Option(
            help="Å; side of the square kept free around each box's centre.  [default: the box; needed for STAR files]",
            show_default=False,
        ),
    ] = None,
    distance: Annotated[float, typer.Option(min=0, help="Å between a patch and the nearest such square.")] = 20.0,
    edge: Annotated[float, typer.Option(min=0, help="Å between a patch and the micrograph's edge.")] = 50.0,
    per_micrograph: Annotated[int, typer.Option(min=1, help="Patches of one micrograph, at most.")] = 16,
) -> None:
    """Cut particle-free patches from real micrographs into a noise store.

    Patches never come nearer to a particle than --distance, never share a pixel with one another, and are taken in the order of
    their variance between 10 Å and half the box, the quietest first; those that chance alone tells apart in random order, because
    noise that is quiet by chance is not like the rest. Pixels more than 8 robust deviations from their surroundings, dead rows,
    columns and blocks are defects: a patch with more than 0.1 % of them is refused, fewer are mended.
    """
    from cryobench.console import Listener
    from cryobench.noise.extract import extract_noise

    with Listener(console()) as listener:
        summary = extract_noise(
            micrographs,
            boxes,
            out,
            box=box,
            pixel_size=pixel_size,
            micrograph_pixel_size=micrograph_pixel_size,
            protein=protein.value,
            particle_diameter=particle_diameter,
            distance=distance,
            edge=edge,
            per_micrograph=per_micrograph,
            on_progress=lambda stage, done, total: listener(stage, done, total, {}),
        )
    console().print(summary, highlight=False)
    console().print(f"noise  {out}", soft_wrap=True)


@noise_app.command("fit")
def noise_fit(
    patches: Patches,
    out: Annotated[Path, typer.Option(help="Model to write: .npz, or .toml for a radial one.", show_default=False)],
    model: Annotated[Model, typer.Option(help="What of the patches is kept; see above.")] = Model.radial,
    indices: Indices = None,
    pixel_size: StackPixel = None,
    protein: Protein = Contrast.dark,
    note: Annotated[str | None, typer.Option(help="Kept with the model: where the data are from.")] = None,
) -> None:
    """Fit a generator of Gaussian noise to patches.

    **radial**: mean power by spatial frequency, random phases. **spectrum2d**: mean power of every frequency, smoothed.
    **covariance**: the covariance of pixels by their lag, drawn on a larger box so that opposite edges are strangers.
    Use it in a scenario with `--set noise.kind=fitted --set noise.path=MODEL`; a radial `.toml` also as `noise.spectrum`.
    """
    from cryobench.noise.fit import fit_file
    from cryobench.noise.model import write_model

    fitted = fit_file(
        patches, model.value, indices=indices, pixel_size=pixel_size, protein=protein.value, note=note, out=out
    )
    write_model(out, fitted)
    print_rows("", "", rows=[(key.replace("_", " "), str(value)) for key, value in fitted.provenance.items()])
    console().print(f"model  {out}", soft_wrap=True)


@noise_app.command("compare")
def noise_compare(
    patches: Patches,
    model: Annotated[
        str, typer.Argument(help="What `noise fit` wrote, or a shipped spectrum's name.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="HTML page to write, such as report.html.", show_default=False)
    ] = None,
    indices: Indices = None,
    pixel_size: StackPixel = None,
    protein: Protein = Contrast.dark,
    seed: Seed = 0,
) -> None:
    """Compare a model's noise with real patches: spectra, moments, lag correlations, each with its sampling error.

    `z` is the difference in standard errors; `held out` the same for the half of the patches that a second fit has not seen.
    """
    from cryobench.console import Listener
    from cryobench.noise.compare import compare_noise
    from cryobench.noise.model import find_model
    from cryobench.noise.patches import read_patches
    from cryobench.report.noise_page import verdict, write_noise_report

    real = read_patches(patches, indices=indices, pixel_size=pixel_size, protein=protein.value).independent()
    fitted = find_model(model)
    with Listener(console()) as listener:
        found = compare_noise(real, fitted, seed, lambda stage, done, total: listener(stage, done, total, {}))
    rows = [
        (
            row.name,
            f"{row.patches:.4g}",
            f"{row.patches_error:.2g}",
            f"{row.model:.4g}",
            f"{row.z:+.1f}",
            f"{row.held_out:+.1f}",
        )
        for row in found.rows
    ]
    print_rows("statistic", "patches", "± error", "model", "z", "held out", rows=rows)
    for line in verdict(found):
        console().print(line, highlight=False)
    if out is not None:
        console().print(f"report  {write_noise_report(out, found, real, fitted)}", soft_wrap=True)
