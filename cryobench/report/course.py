"""Figures of the way to a result: resolution of its snapshots over seconds or images, their curves, and what a method logged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from numpy.typing import NDArray
from plotly.colors import sample_colorscale

from cryobench.conventions import THRESHOLDS
from cryobench.report.correlations import shell_columns
from cryobench.report.document import Drawing
from cryobench.report.figures import (
    COLOURS,
    HALF_COLOURS,
    MUTED,
    add_level,
    frequency_figure,
    nyquist_text,
    page_axis,
    page_layout,
    page_legend,
)
from cryobench.report.table import COMPARISONS, THRESHOLD_KEYS, format_duration

Result = Mapping[str, Any]
_SOURCES: Final = (
    ("half_map", "half_map", "half_map"),
    ("truth", "half_map", "truth"),
    ("truth_half1", "half1", "truth"),
    ("truth_half2", "half2", "truth"),
)
"""Comparison, whose snapshots, and which of their comparisons."""
_POINTS: Final = 500
_TIME: Final = "Viridis"


def draw_course(result: Result) -> Iterator[Drawing]:
    """Resolution of the snapshots at each threshold, and their correlation curves."""
    over_time = result.get("over_time") or {}
    for threshold in THRESHOLD_KEYS:
        curves = {}
        for comparison, key, inner in _SOURCES:
            points = [p for p in over_time.get(key) or [] if p.get(inner)]
            if points:
                curves[comparison] = [(p["seconds"], p["images_seen"], p[inner][threshold]["value"]) for p in points]
        if curves:
            yield _draw_resolution(curves, threshold, 2 * result["voxel_size"])
    for key in ("truth", "half_map"):
        snapshots = [p for p in over_time.get("half_map") or [] if p.get(f"{key}_fsc")]
        if snapshots:
            yield _draw_snapshots(result["fsc"], snapshots, key)


Points = Sequence[tuple[float, int, float | None]]


def _draw_resolution(curves: Mapping[str, Points], threshold: str, nyquist: float) -> Drawing:
    """Resolution over seconds, or images at the press of a button; gaps where the threshold was not reached."""
    figure = go.Figure()
    columns: dict[str, list[Any]] = {name: [] for name in ("comparison", "seconds", "images seen", "resolution (Å)")}
    for key, points in curves.items():
        seconds, images, values = (list(column) for column in zip(*points, strict=True))
        figure.add_scatter(
            x=seconds, y=values, name=COMPARISONS[key], mode="lines+markers", marker={"size": 5},
            line={"color": COLOURS[key], "width": 2 if key in ("half_map", "truth") else 1.2},
            customdata=np.stack([seconds, images], -1),
            hovertemplate="%{y:.1f} Å after %{customdata[0]:.4g} s, %{customdata[1]:,} images",
        )  # fmt: skip
        for name, column in zip(columns, ([COMPARISONS[key]] * len(points), seconds, images, values), strict=True):
            columns[name] += column
    buttons = [
        {"label": name, "method": "update", "args": [{"x": xs}, {"xaxis.title.text": name}]}
        for i, name in enumerate(("seconds", "images seen"))
        if (xs := [[point[i] for point in points] for points in curves.values()])
    ]
    highest = max((v for points in curves.values() for *_, v in points if v is not None), default=2 * nyquist)
    figure.layout = page_layout(
        margin={"l": 8, "r": 8, "t": 40, "b": 8},
        legend=page_legend(y=1, yref="container", yanchor="top"),
        updatemenus=[{
            "type": "buttons", "direction": "right", "buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02,
            "yanchor": "bottom", "pad": {"r": 0, "t": 0, "b": 2}, "font": {"size": 10}, "bordercolor": "#dfe4e9",
        }],
        xaxis=page_axis("seconds", rangemode="tozero", nticks=6),
        yaxis=page_axis("resolution (Å)", range=[0, 1.08 * max(highest, 1.2 * nyquist)], nticks=6),
    )  # fmt: skip
    add_level(figure, nyquist, nyquist_text(nyquist), "bottom left")
    name, title = f"over-time-{threshold.replace('.', '-')}", f"Resolution at FSC {threshold} over time"
    return Drawing(name, title, figure, "height: 23rem", f"FSC {threshold}", "over-time", False, columns)


def _draw_snapshots(fsc: Mapping[str, Any], snapshots: Sequence[Mapping[str, Any]], key: str) -> Drawing:
    """The correlation curves of all snapshots, dark to light as time goes."""
    columns = shell_columns(fsc)
    frequency = np.asarray(columns["spatial frequency (1/Å)"])
    figure = frequency_figure(frequency, "Fourier shell correlation", range=[-0.2, 1.03], dtick=0.2, tick0=0)
    last = max(float(snapshots[-1]["seconds"]), 1e-9)
    for point in snapshots:
        colour = sample_colorscale(_TIME, [0.95 * min(point["seconds"] / last, 1.0)])[0]
        said = format_duration(point["seconds"])
        figure.add_scatter(
            x=frequency, y=point[f"{key}_fsc"][1:], mode="lines", line={"color": colour, "width": 1.5}, name=said,
            hovertemplate="%{y:.3f}", showlegend=False,
        )  # fmt: skip
        columns[f"FSC after {point['seconds']:.6g} s, {point['images_seen']} images"] = point[f"{key}_fsc"][1:]
    scale = {
        "title": {"text": "seconds", "font": {"size": 11, "color": MUTED}, "side": "right"},
        "thickness": 10,
        "outlinewidth": 0,
    }
    scale |= {"tickfont": {"size": 11, "color": MUTED}, "len": 0.9}
    figure.add_scatter(
        x=[None, None], y=[None, None], mode="markers", showlegend=False, hoverinfo="skip",
        marker={"color": [0, last], "cmin": 0, "cmax": last / 0.95, "colorscale": _TIME, "colorbar": scale, "showscale": True},
    )  # fmt: skip
    for threshold, text in zip(THRESHOLDS, THRESHOLD_KEYS, strict=True):
        add_level(figure, threshold, text)
    what = "mean map with the truth" if key == "truth" else "half-maps with each other"
    title = f"Correlation of all snapshots, {COMPARISONS[key]}"
    caption = f"All snapshots: {what}"
    return Drawing(
        f"snapshots-{key.replace('_', '-')}", title, figure, "height: 23rem", caption, "over-time", True, columns
    )


def draw_history(halves: Mapping[int, xr.Dataset]) -> Iterator[Drawing]:
    """One small figure for each quantity that either half logged."""
    logged = {str(name) for half in halves.values() for name in half.data_vars if half[name].dims == ("record",)}
    for i, name in enumerate(sorted(logged - {"history_step", "history_seconds"})):
        curves = {
            number: _thin(half["history_seconds"].values, half[name].values)
            for number, half in halves.items()
            if name in half and np.isfinite(half[name].values).any()
        }
        if curves:
            title = name.removeprefix("history_").replace("_", " ")
            columns = {
                "half": [number for number, (seconds, _) in curves.items() for _ in seconds],
                "seconds": np.concatenate([seconds for seconds, _ in curves.values()]).tolist(),
                title: np.concatenate([values for _, values in curves.values()]).tolist(),
            }
            yield Drawing(
                f"history-{i}", title, history_curve(curves), "height: 13rem", title, "history", False, columns
            )


def _thin(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over equal blocks of records where there are more than can be told apart on a page."""
    block = -(-len(x) // _POINTS)
    edges = np.arange(0, len(x), block)
    counts = np.diff(np.append(edges, len(x)))
    means = [np.add.reduceat(np.asarray(v, dtype=np.float64), edges) / counts for v in (x, y)]
    return means[0], means[1]


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
