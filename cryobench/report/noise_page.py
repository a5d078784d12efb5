"""The report of a noise model: one self-contained HTML page that opens from disk without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryobench.errors import InputError
from cryobench.noise.compare import Comparison
from cryobench.noise.model import GaussianModel
from cryobench.noise.patches import Patches
from cryobench.physics.fourier import fourier_crop_images
from cryobench.report import noise_figures
from cryobench.report.document import Drawing, render
from cryobench.report.images import LARGEST_BOX_SHOWN
from cryobench.report.panels import image_panels

FAR: Final = 3.0


def verdict(comparison: Comparison) -> list[str]:
    """What the comparison says, in sentences: how many statistics differ by more than chance, and which most."""
    said = []
    for held_out in (False, True):
        far, count, expected = comparison.beyond(FAR, held_out)
        if count == 0:
            continue
        which = (
            f"the {comparison.held_out} patches held out of a second fit"
            if held_out
            else f"all {comparison.patches} patches"
        )
        said.append(
            f"Against {which}: {far} of {count} statistics differ by more than {FAR:g} standard errors; chance alone would give "
            f"{expected:.1f}."
        )
    worst = sorted(comparison.rows, key=lambda row: -abs(row.z))[:3]
    listed = ", ".join(f"{row.name} ({row.z:+.1f})" for row in worst if abs(row.z) > FAR)
    said.append(f"Furthest off: {listed}." if listed else "No statistic is further off than that.")
    if comparison.kind != "covariance" and any(r.name.startswith("edges") and abs(r.z) > FAR for r in comparison.rows):
        said.append(
            "Images of a spectrum are periodic: pixels at opposite edges are neighbours there, and strangers in a patch. "
            "`cryobench noise fit --model covariance` makes a model whose images are not."
        )
    return said


def write_noise_report(path: str | Path, comparison: Comparison, patches: Patches, model: GaussianModel) -> Path:
    """Write the page of a comparison.

    Args:
        path: of the page, ending in .html.
        comparison: of the patches with the model.
        patches: the real ones.
        model: whose images they were compared with.

    Returns:
        The path.

    Raises:
        InputError: if the name does not end in .html.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise InputError(f"expected a name ending in .html for the report, got {path}")
    tall = f"height: {max(30, 1.05 * len(comparison.rows)):.0f}rem"
    # smaller pictures keep the page small
    side = min(patches.box, LARGEST_BOX_SHOWN)
    real, drawn = (fourier_crop_images(images, side) for images in comparison.examples)
    columns, pixel_size = len(real), patches.pixel_size * patches.box / side
    shape = f"aspect-ratio: {columns} / 1"
    drawings = [
        Drawing("radial", "Radial spectra", noise_figures.radial_spectra(comparison, patches.pixel_size), "height: 24rem",
                "Mean power in shells of the patches and of the model's images"),
        Drawing("plane", "Two-dimensional spectra", noise_figures.plane_spectra(comparison, patches.pixel_size),
                "aspect-ratio: 2.15 / 1", "Power over the mean of its ring, smoothed: 1 where noise is isotropic"),
        Drawing("lags", "Correlations by lag", noise_figures.lag_correlations(comparison.rows), "height: 26rem",
                "Mean product of pixels by lag, with two standard errors; pixels at opposite edges last"),
        Drawing("pixels", "Histograms of pixels", noise_figures.pixel_histograms(comparison.histograms), "height: 20rem",
                "Values of all pixels, in standard deviations"),
        Drawing("patches", "Real patches", image_panels(list(real.numpy()), pixel_size, columns), shape, "Real patches"),
        Drawing("drawn", "Images of the model", image_panels(list(drawn.numpy()), pixel_size, columns), shape,
                "Images drawn from the model"),
        Drawing("deviates", "Differences", noise_figures.deviates(comparison), tall,
                "Every statistic's difference in its standard errors; beyond the dashed lines lie 0.3 % of them by chance"),
    ]  # fmt: skip
    html = render(
        "noise.html.jinja",
        title=f"Noise · {patches.source.name}",
        drawings=drawings,
        comparison=comparison,
        patches=patches,
        model=model,
        verdict=verdict(comparison),
    )
    path.write_text(html, encoding="utf-8")
    return path
