"""The report's figures: pure functions from arrays to plotly figures, sized by the page they stand on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from cryobench.conventions import THRESHOLDS
from cryobench.report.table import COMPARISONS, THRESHOLD_KEYS, format_length

Panel = NDArray[np.float32]

COLOURS: Final[dict[str, str]] = {
    "half_map": "#1b2a3a",
    "truth": "#0072b2",
    "truth_half1": "#009e73",
    "truth_half2": "#d55e00",
}
"""One colour a comparison on the whole page, and told apart by colour-blind readers (Okabe & Ito 2008)."""
HALF_COLOURS: Final = {1: COLOURS["truth_half1"], 2: COLOURS["truth_half2"]}

INK, MUTED, GRID = "#1b2a3a", "#5b6875", "#e6eaee"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_SCALE_BARS = (5, 10, 20, 50, 100, 200, 500)


def page_layout(**extra: Any) -> go.Layout:
    """What every figure of a page shares: fonts, hover labels, no dragging."""
    font = {"family": _FONT, "size": 12, "color": INK}
    base: dict[str, Any] = {"template": "none", "autosize": True, "font": font, "dragmode": False}
    base["hoverlabel"] = {"bgcolor": "white", "bordercolor": GRID, "font": font}
    return go.Layout(**base | extra)


def page_axis(title: str, **extra: Any) -> dict[str, Any]:
    """An axis with outside ticks and a muted title."""
    base = {
        "title": {"text": title, "font": {"size": 12, "color": MUTED}, "standoff": 8},
        "gridcolor": GRID,
        "linecolor": "#b8c1ca",
        "ticks": "outside",
        "tickcolor": "#b8c1ca",
        "ticklen": 4,
        "tickfont": {"size": 11, "color": MUTED},
        "zeroline": False,
        "automargin": True,
    }
    return base | extra


def page_legend() -> dict[str, Any]:
    """A legend in one line above the figure."""
    return {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}}


def fsc_curves(fsc: Mapping[str, Any], resolution: Mapping[str, Any]) -> go.Figure:
    """Fourier shell correlations over spatial frequency, with both thresholds and the crossings marked.

    Shell 0 has no resolution and is left out.

    Args:
        fsc: ``spatial_frequency`` (1/angstrom) and a curve or None for every comparison, as in ``result.json``.
        resolution: ``{value, state}`` by comparison and threshold.
    """
    frequency = np.asarray(fsc["spatial_frequency"], dtype=np.float64)[1:]
    figure = go.Figure()
    lowest = 0.0
    for key, name in COMPARISONS.items():
        if fsc.get(key) is None:
            continue
        curve = np.asarray(fsc[key], dtype=np.float64)[1:]
        lowest = min(lowest, float(curve.min()))
        style = {"color": COLOURS[key], "width": 1.5 if "half" in key and key != "half_map" else 2.5}
        figure.add_scatter(
            x=frequency,
            y=curve,
            name=name,
            mode="lines",
            line=style,
            customdata=1 / frequency,
            hovertemplate="%{y:.3f} at %{customdata:.1f} Å",
        )
        crossings = [
            (1 / found["value"], threshold)
            for threshold, text in zip(THRESHOLDS, THRESHOLD_KEYS, strict=True)
            if (found := resolution[key][text])["state"] == "crossed"
        ]
        if crossings:
            x, y = zip(*crossings, strict=True)
            marker = {"size": 9, "color": "white", "line": {"color": COLOURS[key], "width": 2}}
            figure.add_scatter(x=x, y=y, mode="markers", marker=marker, showlegend=False, hoverinfo="skip")
    for threshold, text in zip(THRESHOLDS, THRESHOLD_KEYS, strict=True):
        figure.add_hline(
            y=threshold,
            line={"color": MUTED, "width": 1, "dash": "dash"},
            annotation={"text": text, "font": {"size": 11, "color": MUTED}},
            annotation_position="top left",
        )
    ticks = frequency_ticks(float(frequency[-1]))
    labels = [f"{format_length(1 / tick)}<br>{tick:.3g}" for tick in ticks]
    figure.layout = page_layout(
        margin={"l": 10, "r": 16, "t": 40, "b": 10},
        hovermode="x unified",
        legend=page_legend(),
        shapes=figure.layout.shapes,
        annotations=figure.layout.annotations,
        xaxis=page_axis(
            "resolution (Å) over spatial frequency (1/Å)",
            range=[0, float(frequency[-1]) * 1.01],
            tickvals=ticks,
            ticktext=labels,
            unifiedhovertitle={"text": "%{x:.4f} 1/Å"},
        ),
        yaxis=page_axis("Fourier shell correlation", range=[lowest - 0.03, 1.03], dtick=0.2, tick0=0),
    )
    return figure


def frequency_ticks(highest: float, most: int = 7) -> list[float]:
    """Round spatial frequencies up to ``highest``, evenly spaced, at most ``most`` of them."""
    magnitude = 10.0 ** math.floor(math.log10(highest / most))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if highest / (m * magnitude) <= most)
    return [round(step * (i + 1), 12) for i in range(int(highest / step + 1e-9))]


def map_panels(
    rows: Mapping[str, Sequence[Panel]], columns: Sequence[str], voxel_size: float, limits: tuple[float, float]
) -> go.Figure:
    """Grey panels, one row for each map and one column for each direction, all on one grey scale.

    Args:
        rows: square panels of each map by its name; every map has as many as there are columns.
        columns: their headings.
        voxel_size: angstrom.
        limits: density shown black and white.
    """
    figure = _grid([panel for panels in rows.values() for panel in panels], len(columns), voxel_size, limits, columns)
    for i, name in enumerate(rows):
        middle = 1 - (i + 0.5) / len(rows)
        label = {"size": 12, "color": INK}
        figure.add_annotation(
            text=name, textangle=-90, x=0, xshift=-6, y=middle, xref="paper", yref="paper",
            xanchor="right", yanchor="middle", showarrow=False, font=label,
        )  # fmt: skip
    figure.update_layout(margin={"l": 24, "r": 2, "t": 24, "b": 2})
    return figure


def image_panels(images: Sequence[Panel], pixel_size: float, columns: int = 3) -> go.Figure:
    """Images in a grid on one grey scale, black to white from -3 to 3 (in standard deviations, if standardised so).

    Args:
        images: square, of one size.
        pixel_size: angstrom.
        columns: of the grid.
    """
    figure = _grid(images, columns, pixel_size, (-3.0, 3.0), None)
    figure.update_layout(margin={"l": 2, "r": 2, "t": 2, "b": 2})
    return figure


def _grid(
    panels: Sequence[Panel],
    columns: int,
    pixel_size: float,
    limits: tuple[float, float],
    headings: Sequence[str] | None,
) -> go.Figure:
    count = math.ceil(len(panels) / columns)
    figure = make_subplots(count, columns, horizontal_spacing=0.012, vertical_spacing=0.012, column_titles=headings)
    box = panels[0].shape[-1]
    positions = (np.arange(box) - box // 2) * pixel_size
    for i, panel in enumerate(panels):
        figure.add_heatmap(
            z=np.asarray(panel, dtype=np.float32),
            x0=positions[0],
            y0=positions[0],
            dx=pixel_size,
            dy=pixel_size,
            coloraxis="coloraxis",
            hovertemplate="%{x:.0f}, %{y:.0f} Å<br>%{z:.3g}<extra></extra>",
            row=i // columns + 1,
            col=i % columns + 1,
        )
    edge = [positions[0] - pixel_size / 2, positions[-1] + pixel_size / 2]
    hidden = {"visible": False, "fixedrange": True, "range": edge, "constrain": "domain"}
    figure.update_xaxes(**hidden)
    figure.update_yaxes(**hidden)
    for axis in figure.select_yaxes():
        axis.scaleanchor = axis.anchor  # square pixels
    figure.update_layout(
        page_layout(coloraxis={"colorscale": "gray", "cmin": limits[0], "cmax": limits[1], "showscale": False})
    )
    figure.update_annotations(font={"size": 12, "color": MUTED}, yshift=2)
    _add_scale_bar(figure, edge)
    return figure


def _add_scale_bar(figure: go.Figure, edge: Sequence[float]) -> None:
    """A white bar of a round length in the lower left panel's corner."""
    side = edge[1] - edge[0]
    length = max((bar for bar in _SCALE_BARS if bar <= 0.35 * side), default=_SCALE_BARS[0])
    axis = list(figure.select_yaxes(col=1))[-1]
    refs = {"xref": axis.anchor, "yref": axis.anchor.replace("x", "y")}
    x, y = edge[0] + 0.06 * side, edge[0] + 0.07 * side
    figure.add_shape(type="line", x0=x, x1=x + length, y0=y, y1=y, line={"color": "white", "width": 3}, **refs)
    figure.add_annotation(
        text=f"{length} Å", x=x, y=y, xanchor="left", yanchor="bottom", showarrow=False, xshift=-2,
        font={"size": 10, "color": "white"}, bgcolor="rgba(0, 0, 0, 0.6)", borderpad=1, **refs,
    )  # fmt: skip


def history_curve(curves: Mapping[int, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> go.Figure:
    """One logged quantity over the seconds of the reconstruction.

    Args:
        curves: seconds and values of each half.
    """
    figure = go.Figure()
    for half, (seconds, values) in curves.items():
        line = {"color": HALF_COLOURS[half], "width": 1.5}
        template = "%{y:.4g} after %{x:.4g} s"
        figure.add_scatter(x=seconds, y=values, name=f"half {half}", mode="lines", line=line, hovertemplate=template)
    figure.layout = page_layout(
        margin={"l": 8, "r": 8, "t": 6, "b": 8},
        showlegend=False,
        xaxis=page_axis("seconds", rangemode="tozero", nticks=6),
        yaxis=page_axis("", nticks=5),
    )
    return figure


def resolution_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float | None]]], nyquist: float
) -> go.Figure:
    """Resolution of the snapshots at one threshold over the seconds of the reconstruction; gaps where it was not reached.

    Args:
        curves: seconds and resolutions in angstrom by comparison.
        nyquist: angstrom; drawn as the limit.
    """
    figure = go.Figure()
    for key, (seconds, values) in curves.items():
        figure.add_scatter(
            x=list(seconds),
            y=list(values),
            name=COMPARISONS[key],
            mode="lines+markers",
            line={"color": COLOURS[key], "width": 2},
            marker={"size": 5},
            hovertemplate="%{y:.1f} Å after %{x:.4g} s",
        )
    figure.add_hline(
        y=nyquist,
        line={"color": MUTED, "width": 1, "dash": "dash"},
        annotation={"text": f"Nyquist {format_length(nyquist)}", "font": {"size": 11, "color": MUTED}},
        annotation_position="bottom left",
    )
    highest = max((v for _, values in curves.values() for v in values if v is not None), default=2 * nyquist)
    figure.layout = page_layout(
        margin={"l": 8, "r": 8, "t": 40, "b": 8},
        legend=page_legend(),
        shapes=figure.layout.shapes,
        annotations=figure.layout.annotations,
        xaxis=page_axis("seconds", rangemode="tozero", nticks=6),
        yaxis=page_axis("resolution (Å)", range=[0.8 * nyquist, 1.08 * max(highest, 1.2 * nyquist)], nticks=6),
    )
    return figure
