"""Figures of the images: examples, mean spectra and pixel values of what was observed, simulated by the method, and noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import plotly.graph_objects as go
import torch
import xarray as xr
from scipy import stats

from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.noise import radial_power
from cryobench.report.correlations import shell_columns
from cryobench.report.document import Drawing
from cryobench.report.figures import (
    COLOURS,
    INK,
    MUTED,
    add_curve,
    decade_ticks,
    frequency_figure,
    page_axis,
    page_layout,
    page_legend,
)
from cryobench.report.panels import image_panels, tabulate_panels
from cryobench.types import Images

LARGEST_BOX_SHOWN: Final = 128
"""Larger maps and images are Fourier-cropped before they are drawn, which keeps the page small."""
MOST_MEASURED: Final = 512
"""Images of each kind, evenly chosen, that spectra and histograms are taken from."""
_EXAMPLES: Final = 6
_BINS: Final = 61
_NAMES: Final = {"observed": "observed particles", "simulated": "simulated by the method", "noise": "noise patches"}
_SHADES: Final = {"observed": INK, "simulated": COLOURS["truth_half2"], "noise": COLOURS["truth"]}


def draw_images(observed: xr.Dataset, halves: Mapping[int, xr.Dataset]) -> Iterator[Drawing]:
    """Examples of each kind of image, and the statistics of all kinds beside one another."""
    pixel_size = float(observed.attrs["voxel_size"])
    simulated = [half["example_images"] for half in halves.values() if "example_images" in half]
    chosen = {"observed": observed["images"]}
    if simulated:
        chosen["simulated"] = xr.concat(simulated, "example")
    chosen["noise"] = observed["noise_patches"]
    kinds = {name: _read(images) for name, images in chosen.items() if len(images) > 0}
    for name, images in kinds.items():
        yield _draw_examples(name, images, pixel_size)
    yield _draw_spectra(kinds, pixel_size)
    yield _draw_histograms(kinds)


def _read(images: xr.DataArray) -> Images:
    index = np.unique(np.linspace(0, len(images) - 1, MOST_MEASURED).round().astype(int))
    return torch.as_tensor(np.asarray(images[index].values, dtype=np.float32))


def _draw_examples(name: str, images: Images, pixel_size: float) -> Drawing:
    index = np.unique(np.linspace(0, len(images) - 1, _EXAMPLES).round().astype(int))
    values = torch.stack([(image - image.mean()) / image.std().clamp(min=1e-12) for image in images[index]])
    box = min(values.shape[-1], LARGEST_BOX_SHOWN)
    scale = pixel_size * values.shape[-1] / box
    panels = list(fourier_crop_images(values, box).numpy())
    title, shape = _NAMES[name].capitalize(), f"aspect-ratio: 3 / {-(-len(index) // 3)}"
    columns = tabulate_panels({"value (standard deviations)": panels}, [f"image {i}" for i in index.tolist()], scale)
    return Drawing(f"images-{name}", title, image_panels(panels, scale), shape, title, "images", False, columns)


def _draw_spectra(kinds: Mapping[str, Images], pixel_size: float) -> Drawing:
    """Mean power by spatial frequency."""
    box = next(iter(kinds.values())).shape[-1]
    shells = np.arange(box // 2 + 1)
    frequency = shells / (box * pixel_size)
    columns = shell_columns({"shell": shells.tolist(), "spatial_frequency": frequency.tolist()})
    figure = frequency_figure(frequency[1:], "power of a pixel", type="log")
    powers = []
    for name, images in kinds.items():
        power = radial_power(images.double())[1:].tolist()
        powers.append([value for value in power if value > 0])
        add_curve(
            figure,
            frequency[1:],
            power,
            _NAMES[name],
            _SHADES[name],
            width=2 if name == "observed" else 1.5,
            decimals=".4g",
        )
        columns[f"{_NAMES[name]}, power (variance of white noise)"] = power
    ticks = decade_ticks([value for power in powers for value in power])
    figure.update_yaxes(tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    counts = ", ".join(f"{len(images)} {_NAMES[name]}" for name, images in kinds.items())
    caption = f"Mean power in shells of {counts}; white noise would be level at its variance"
    return Drawing(
        "spectra", "Radial power of the images", figure, "height: 24rem", caption, "statistics", True, columns
    )


def _draw_histograms(kinds: Mapping[str, Images]) -> Drawing:
    """Density of the pixels' values in standard deviations of their own kind, and the normal one."""
    edges = np.linspace(-6, 6, _BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    columns: dict[str, list[float | None]] = {"value (standard deviations)": centres.tolist()}
    figure, said = go.Figure(), []
    normal = stats.norm.pdf(centres)
    figure.add_scatter(x=centres, y=normal, name="normal", mode="lines", line={"color": MUTED, "dash": "dot"})
    columns["normal density"] = normal.tolist()
    for name, images in kinds.items():
        values = images.double().numpy().ravel()
        mean, deviation = values.mean(), max(float(values.std()), 1e-30)
        counts = np.histogram((values - mean) / deviation, edges)[0]
        density = counts / (len(values) * (edges[1] - edges[0]))
        line = {"color": _SHADES[name], "width": 2 if name == "observed" else 1.5}
        shown = [float(d) if d > 0 else None for d in density]
        figure.add_scatter(x=centres, y=shown, name=_NAMES[name], mode="lines", line=line, hovertemplate="%{y:.3g}")
        columns[f"{_NAMES[name]} density"] = density.tolist()
        said.append(f"{_NAMES[name]} {mean:.3g} ± {deviation:.3g}")
    figure.layout = page_layout(
        margin={"l": 10, "r": 16, "t": 40, "b": 10},
        legend=page_legend(y=1, yref="container", yanchor="top"),
        hovermode="x unified",
        xaxis=page_axis("pixel value (standard deviations)", unifiedhovertitle={"text": "%{x:.2f}"}),
        yaxis=page_axis("density", type="log", range=[-7, 0.5], exponentformat="power", dtick=1),
    )
    caption = f"Mean and standard deviation of the pixels: {'; '.join(said)}"
    return Drawing(
        "pixels", "Histogram of pixel values", figure, "height: 24rem", caption, "statistics", False, columns
    )
