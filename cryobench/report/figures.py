"""How the figures of every page look: colours, axes, legends, and curves over spatial frequency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from cryobench.report.table import format_length

COLOURS: Final[dict[str, str]] = {
    "half_map": "#1b2a3a",
    "truth": "#0072b2",
    "truth_half1": "#009e73",
    "truth_half2": "#d55e00",
}
"""One colour a comparison on the whole page, and told apart by colour-blind readers (Okabe & Ito 2008)."""
HALF_COLOURS: Final = {1: COLOURS["truth_half1"], 2: COLOURS["truth_half2"]}
ACCENT: Final = "#cc79a7"

INK, MUTED, GRID, LINE = "#1b2a3a", "#5b6875", "#e6eaee", "#b8c1ca"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_ROUND = (500, 200, 100, 50, 40, 30, 25, 20, 15, 12, 10, 9, 8, 7, 6, 5, 4.5, 4, 3.5, 3, 2.5, 2, 1.8, 1.6, 1.4, 1.2, 1)
"""Angstrom that read well on an axis; the page picks from the same ones when a reader zooms."""


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
        "linecolor": LINE,
        "ticks": "outside",
        "tickcolor": LINE,
        "ticklen": 4,
        "tickfont": {"size": 11, "color": MUTED},
        "zeroline": False,
        "automargin": True,
    }
    return base | extra


def page_legend(**extra: Any) -> dict[str, Any]:
    """A legend in lines above the figure."""
    base = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}}
    return base | extra


def frequency_ticks(highest: float, most: int = 7) -> list[float]:
    """Round spatial frequencies up to ``highest``, evenly spaced, at most ``most`` of them."""
    magnitude = 10.0 ** math.floor(math.log10(highest / most))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if highest / (m * magnitude) <= most)
    return [round(step * (i + 1), 12) for i in range(int(highest / step + 1e-9))]


def decade_ticks(values: Sequence[float]) -> list[float]:
    """Of 1, 2 and 5 times powers of ten those within the values, for a logarithmic axis over less than some decades."""
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**decade for decade in decades for digit in (1, 2, 5) if low <= digit * 10.0**decade <= high]


def angstrom_ticks(highest: float, most: int = 9) -> list[float]:
    """Round resolutions in angstrom for an axis of spatial frequencies up to ``highest``, none too near to another."""
    chosen: list[float] = []
    for length in _ROUND:
        if 1 / length <= highest * 1.001 and 1 / length - (1 / chosen[-1] if chosen else 0) >= highest / most:
            chosen.append(float(length))
    return chosen


def frequency_figure(frequency: NDArray[np.float64], value: str, **extra: Any) -> go.Figure:
    """An empty figure over spatial frequency (1/angstrom, below) and resolution (angstrom, above, and in the hover).

    Args:
        frequency: of the shells that will be drawn, ascending, none of them 0.
        value: what the vertical axis shows.
        extra: of the vertical axis.
    """
    highest = float(frequency[-1])
    ticks = angstrom_ticks(highest)
    # an axis without a curve is not drawn, and a curve that cannot be seen tells the resolution under the pointer
    figure = go.Figure()
    figure.add_scatter(
        x=frequency, y=np.zeros(len(frequency)), customdata=1 / frequency, hovertemplate="<b>%{customdata:.2f} Å</b>",
        name="resolution", mode="lines", line={"width": 0, "color": "rgba(0,0,0,0)"}, showlegend=False,
    )  # fmt: skip
    figure.add_scatter(x=[None], y=[None], xaxis="x2", showlegend=False, hoverinfo="skip")
    figure.layout = page_layout(
        margin={"l": 10, "r": 16, "t": 40, "b": 10},
        hovermode="x unified",
        legend=page_legend(y=1, yref="container", yanchor="top"),
        modebar={"orientation": "v", "bgcolor": "rgba(255, 255, 255, 0.8)"},
        meta={"angstroms": list(_ROUND)},
        xaxis=page_axis(
            "spatial frequency (1/Å)",
            range=[0, highest * 1.01],
            nticks=8,
            unifiedhovertitle={"text": "%{x:.4f} 1/Å"},
        ),
        xaxis2=page_axis(
            "",
            overlaying="x",
            matches="x",
            side="top",
            showgrid=False,
            tickvals=[1 / length for length in ticks],
            ticktext=[f"{length:g} Å" for length in ticks],
        ),
        yaxis=page_axis(value, **extra),
    )
    return figure


def add_curve(
    figure: go.Figure,
    frequency: NDArray[np.float64],
    curve: Sequence[float | None],
    name: str,
    colour: str,
    *,
    width: float = 2.0,
    dash: str = "solid",
    shown: bool = True,
    decimals: str = ".3f",
    band: tuple[Sequence[float], Sequence[float]] | None = None,
) -> None:
    """A curve over the frequencies, and the band that it lies in.

    Args:
        figure: of :func:`frequency_figure`.
        frequency: 1/angstrom.
        curve: value by frequency; None leaves a gap.
        name: in the legend and the hover.
        colour: of the line, ``#rrggbb``.
        width: of the line.
        dash: of the line.
        shown: False leaves it to the reader to switch it on in the legend.
        decimals: of the hover.
        band: lower and upper edge.
    """
    visible = True if shown else "legendonly"
    if band is not None:
        low, high = (np.asarray(edge, dtype=np.float64) for edge in band)
        figure.add_scatter(
            x=np.concatenate([frequency, frequency[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself",
            fillcolor=see_through(colour, 0.14), line={"width": 0}, name=name, legendgroup=name, showlegend=False,
            hoverinfo="skip", mode="lines", visible=visible,
        )  # fmt: skip
    figure.add_scatter(
        x=frequency, y=list(curve), name=name, legendgroup=name, mode="lines", visible=visible,
        line={"color": colour, "width": width, "dash": dash}, hovertemplate=f"%{{y:{decimals}}}",
    )  # fmt: skip


def see_through(colour: str, opacity: float) -> str:
    """A colour ``#rrggbb`` as CSS with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def add_level(figure: go.Figure, y: float, text: str, position: str = "top left") -> None:
    """A dashed horizontal line with its name."""
    note = {"text": text, "font": {"size": 11, "color": MUTED}}
    line = {"color": MUTED, "width": 1, "dash": "dash"}
    figure.add_hline(y=y, line=line, annotation=note, annotation_position=position)
    if figure.layout.yaxis.type == "log":  # where a shape is placed by its value, but a note by its logarithm
        figure.layout.annotations[-1].y = math.log10(y)


def nyquist_text(nyquist: float) -> str:
    """``"Nyquist 14.7 Å"``."""
    return f"Nyquist {format_length(nyquist)}"
