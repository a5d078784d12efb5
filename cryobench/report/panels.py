"""Grey panels: slices, projections and images in a grid on one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from cryobench.conventions import origin
from cryobench.report.figures import INK, MUTED, page_layout

Panel = NDArray[np.float32]

_SCALE_BARS: Final = (5, 10, 20, 50, 100, 200, 500)


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


def tabulate_panels(
    rows: Mapping[str, Sequence[Panel]], columns: Sequence[str], pixel_size: float
) -> dict[str, list[Any]]:
    """The pixels as columns: one row for each pixel of each panel, one column of values for each row of panels.

    Args:
        rows: square panels by what their values are, with the unit; every one has as many as there are columns.
        columns: names of the panels of a row.
        pixel_size: angstrom.
    """
    box = len(next(iter(rows.values()))[0])
    at = ((np.arange(box) - origin(box)) * pixel_size).tolist()
    return {
        "panel": [name for name in columns for _ in range(box * box)],
        "up (Å)": [y for _ in columns for y in at for _ in at],
        "across (Å)": [x for _ in columns for _ in at for x in at],
        **{name: np.concatenate([np.ravel(p) for p in panels]).tolist() for name, panels in rows.items()},
    }


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
    positions = (np.arange(box) - origin(box)) * pixel_size
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
