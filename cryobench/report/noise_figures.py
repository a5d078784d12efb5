"""Figures of real noise beside a generator's: pure functions from a comparison to plotly figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots
from scipy import ndimage, stats

from cryobench.noise.compare import Comparison, Row
from cryobench.noise.fit import radii
from cryobench.report.figures import INK, MUTED, frequency_ticks, page_axis, page_layout, page_legend
from cryobench.report.table import format_length

REAL, DRAWN, HELD_OUT = "#1b2a3a", "#d55e00", "#0072b2"
"""Patches, model, and the model fitted to half of them (Okabe & Ito 2008)."""
LARGEST_BOX_SHOWN: Final = 128
"""Coefficients a side, at most, of spectra that are shown."""
SMOOTHING: Final = 2.0
"""Coefficients, one standard deviation: of the two-dimensional spectra that are shown."""


def radial_spectra(comparison: Comparison, pixel_size: float) -> go.Figure:
    """Mean power by spatial frequency of patches, with two standard errors about it, and of the model's images."""
    box = comparison.spectra[0].shape[0]
    radius, weight = radii(box)
    shell = np.rint(radius).astype(int).ravel()
    members = np.bincount(shell, weight.ravel())[1 : box // 2 + 1]
    real, drawn = (np.bincount(shell, (p * weight).ravel())[1 : box // 2 + 1] / members for p in comparison.spectra)
    frequency = np.arange(1, box // 2 + 1) / (box * pixel_size)
    error = 2 * real * np.sqrt(2 / (members * comparison.patches))
    figure = go.Figure()
    band = {
        "x": np.concatenate([frequency, frequency[::-1]]),
        "y": np.concatenate([real + error, (real - error)[::-1]]),
    }
    figure.add_scatter(**band, fill="toself", fillcolor="rgba(27, 42, 58, 0.15)", line={"width": 0}, name="± 2 errors",
                       hoverinfo="skip")  # fmt: skip
    for name, values, colour, width in (("patches", real, REAL, 2), ("model", drawn, DRAWN, 1.5)):
        figure.add_scatter(x=frequency, y=values, name=name, mode="lines", line={"color": colour, "width": width},
                           customdata=1 / frequency, hovertemplate="%{y:.3f} at %{customdata:.3g} Å")  # fmt: skip
    ticks = frequency_ticks(float(frequency[-1]))
    figure.layout = page_layout(
        margin={"l": 10, "r": 16, "t": 40, "b": 10},
        legend=page_legend(),
        xaxis=page_axis(
            "resolution (Å) over spatial frequency (1/Å)",
            tickvals=ticks,
            ticktext=[f"{format_length(1 / tick)}<br>{tick:.3g}" for tick in ticks],
        ),
        yaxis=page_axis("power, relative to the variance", rangemode="tozero"),
    )
    return figure


def plane_spectra(comparison: Comparison, pixel_size: float) -> go.Figure:
    """Power over the mean of its ring, smoothed, of patches and of the model's images: what is not radial."""
    box = comparison.spectra[0].shape[0]
    figure = make_subplots(1, 2, column_titles=["patches", "model"], horizontal_spacing=0.03)
    radius, _ = radii(box)
    shell = np.rint(radius).astype(int)
    for column, power in enumerate(comparison.spectra, 1):
        ring = np.bincount(shell.ravel(), power.ravel()) / np.bincount(shell.ravel())
        ratio = power / ring[shell]
        ratio[0, 0] = 1
        full = np.empty((box, box))
        full[:, : box // 2 + 1] = ratio
        full[:, box // 2 + 1 :] = ratio[(-np.arange(box)) % box][:, 1 : (box + 1) // 2][:, ::-1]
        shown = ndimage.gaussian_filter(np.fft.fftshift(full), SMOOTHING, mode="wrap")
        every = -(-box // LARGEST_BOX_SHOWN)
        shown, step = shown[::every, ::every], every / (box * pixel_size)
        figure.add_heatmap(z=shown.astype(np.float32), x0=-0.5 / pixel_size, y0=-0.5 / pixel_size, dx=step, dy=step,
                           coloraxis="coloraxis", row=1, col=column,
                           hovertemplate="%{x:.3f}, %{y:.3f} 1/Å<br>%{z:.2f}<extra></extra>")  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    for axis in figure.select_yaxes():
        axis.scaleanchor = axis.anchor
    scale = {"colorscale": "RdBu_r", "cmin": 0.7, "cmax": 1.3, "colorbar": {"thickness": 12, "len": 0.9}}
    figure.update_layout(page_layout(margin={"l": 4, "r": 4, "t": 28, "b": 4}, coloraxis=scale))
    figure.update_annotations(font={"size": 12, "color": MUTED})
    return figure


def lag_correlations(rows: Sequence[Row]) -> go.Figure:
    """Mean product of pixels by the lag between them, with two standard errors."""
    figure = go.Figure()
    chosen = [row for row in rows if row.name.startswith(("lag", "edges"))]
    names = [row.name.removeprefix("lag ") for row in chosen]
    for name, colour, values, errors in (
        ("patches", REAL, [r.patches for r in chosen], [2 * r.patches_error for r in chosen]),
        ("model", DRAWN, [r.model for r in chosen], [2 * r.model_error for r in chosen]),
    ):
        figure.add_scatter(x=names, y=values, error_y={"array": errors, "thickness": 1, "width": 2}, mode="markers", name=name,
                           marker={"color": colour, "size": 6}, hovertemplate="%{y:.4f}")  # fmt: skip
    figure.layout = page_layout(
        margin={"l": 10, "r": 16, "t": 40, "b": 10},
        legend=page_legend(),
        xaxis=page_axis("", tickangle=-60),
        yaxis=page_axis("correlation"),
        hovermode="x unified",
    )
    return figure


def pixel_histograms(histograms: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]) -> go.Figure:
    """Density of the pixels' values, and the normal one."""
    centres, real, drawn = histograms
    figure = go.Figure()
    figure.add_scatter(x=centres, y=stats.norm.pdf(centres), name="normal", line={"color": MUTED, "dash": "dot"})
    for name, values, colour in (("patches", real, REAL), ("model", drawn, DRAWN)):
        figure.add_scatter(
            x=centres, y=np.where(values > 0, values, np.nan), name=name, line={"color": colour, "width": 1.5}
        )
    figure.layout = page_layout(
        margin={"l": 10, "r": 16, "t": 40, "b": 10},
        legend=page_legend(),
        xaxis=page_axis("pixel, standard deviations"),
        yaxis=page_axis("density", type="log", range=[-7, 0], exponentformat="power", dtick=1),
    )
    return figure


def deviates(comparison: Comparison) -> go.Figure:
    """Every statistic's difference in standard errors, of all patches and of those held out."""
    figure = go.Figure()
    names = [row.name for row in comparison.rows]
    found = {"all patches": (DRAWN, [r.z for r in comparison.rows])}
    if comparison.held_out:
        found["held out"] = (HELD_OUT, [r.held_out for r in comparison.rows])
    for name, (colour, values) in found.items():
        figure.add_scatter(x=values, y=names, mode="markers", name=name, marker={"color": colour, "size": 6},
                           hovertemplate="%{y}: %{x:+.1f}")  # fmt: skip
    for x in (-3, 3):
        figure.add_vline(x=x, line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.layout = page_layout(
        margin={"l": 10, "r": 16, "t": 40, "b": 10},
        legend=page_legend(),
        shapes=figure.layout.shapes,
        xaxis=page_axis("patches less model, standard errors", zeroline=True, zerolinecolor=INK),
        yaxis=page_axis("", autorange="reversed", dtick=1, tickfont={"size": 9, "color": MUTED}),
    )
    return figure
