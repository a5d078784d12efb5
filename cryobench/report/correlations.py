"""Figures of one result's curves by shell: correlation, under a mask, hallucination gap, signal to noise, directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from cryobench.conventions import THRESHOLDS
from cryobench.report.document import Drawing
from cryobench.report.figures import (
    ACCENT,
    COLOURS,
    INK,
    MUTED,
    add_curve,
    add_level,
    frequency_figure,
    see_through,
)
from cryobench.report.table import COMPARISONS, THRESHOLD_KEYS

Result = Mapping[str, Any]
_CHIEF: Final = ("half_map", "truth")
_TALL = "height: 31rem"
_MIDDLE = "height: 24rem"


def draw_correlations(result: Result) -> Iterator[Drawing]:
    """Every figure of curves by shell that the result has the numbers for."""
    yield _draw_fsc(result)
    if any(result.get("masked", {}).get(name) for name in _CHIEF):
        yield _draw_masked(result)
    if result.get("hallucination"):
        yield _draw_gap(result)
    if any((result.get("ssnr") or {}).get(name) for name in _CHIEF):
        yield _draw_ssnr(result)
    for name in _CHIEF:
        if ((result.get("directional") or {}).get(name) or {}).get("curves"):
            yield _draw_directions(result, name)


def shell_columns(fsc: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Shell, spatial frequency and resolution of every shell but 0, which has none."""
    frequency = _frequency(fsc)
    return {
        "shell": list(fsc["shell"][1:]),
        "spatial frequency (1/Å)": frequency.tolist(),
        "resolution (Å)": (1 / frequency).tolist(),
    }


def _frequency(fsc: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.asarray(fsc["spatial_frequency"], dtype=np.float64)[1:]


def _draw_fsc(result: Result) -> Drawing:
    """The correlation curves with their intervals and crossings, and the yardsticks that they are to be read against."""
    fsc, intervals = result["fsc"], result.get("intervals") or {}
    columns, frequency = shell_columns(fsc), _frequency(fsc)
    drawn = {key: fsc[key][1:] for key in COMPARISONS if fsc.get(key) is not None}
    yardsticks = _yardstick_curves(result)
    figure = frequency_figure(frequency, "Fourier shell correlation", dtick=0.2, tick0=0)
    for key, curve in drawn.items():
        band = (intervals.get(key) or {}).get("curve")
        edges = (band["low"][1:], band["high"][1:]) if band else None
        width = 2.5 if key in _CHIEF else 1.2
        add_curve(figure, frequency, curve, COMPARISONS[key], COLOURS[key], width=width, band=edges)
        columns[f"{COMPARISONS[key]} FSC"] = curve
        if edges:
            columns |= {f"{COMPARISONS[key]} FSC, low": edges[0], f"{COMPARISONS[key]} FSC, high": edges[1]}
        _mark_crossings(figure, key, result["resolution"][key], intervals.get(key) or {})
    for name, (curve, style) in yardsticks.items():
        add_curve(figure, frequency, curve, name, **style)
        columns[f"{name} FSC"] = curve
    for threshold, text in zip(THRESHOLDS, THRESHOLD_KEYS, strict=True):
        add_level(figure, threshold, text)
    lowest = min([0.0, *(value for curve in drawn.values() for value in curve)])
    lowest = min(lowest, max(-0.2, min([0.0, *(value for curve, _ in yardsticks.values() for value in curve)])))
    figure.update_yaxes(range=[lowest - 0.03, 1.03])
    level = intervals.get("level")
    said = (
        f"Bars{' and bands' if any('FSC, low' in name for name in columns) else ''}: {100 * level:.0f} % bootstrap intervals. "
        if level
        else ""
    )
    caption = f"{said}Click a name in the legend to switch its curve; drag to zoom, double click to see all again."
    return Drawing("fsc", "Fourier shell correlation curves", figure, _TALL, caption, "resolution", True, columns)


def _mark_crossings(figure: go.Figure, key: str, resolution: Mapping[str, Any], intervals: Mapping[str, Any]) -> None:
    """Dots where a curve first falls through a threshold, and bars as far as the interval of its resolution reaches."""
    pairs = [
        (t, text) for t, text in zip(THRESHOLDS, THRESHOLD_KEYS, strict=True) if resolution[text]["state"] == "crossed"
    ]
    found = [(1 / resolution[text]["value"], t, intervals.get(text) or {}) for t, text in pairs]
    if not found:
        return
    at, thresholds, reach = zip(*found, strict=True)
    further = [1 / r["finest"] - x if r.get("finest") else 0.0 for x, r in zip(at, reach, strict=True)]
    shorter = [
        x - (1 / r["coarsest"] if r.get("coarsest") else 0.0) if r else 0.0 for x, r in zip(at, reach, strict=True)
    ]
    bars = {
        "type": "data",
        "array": further,
        "arrayminus": shorter,
        "thickness": 1.5,
        "width": 4,
        "color": COLOURS[key],
    }
    figure.add_scatter(
        x=at, y=thresholds, mode="markers", marker={"color": COLOURS[key], "size": 8, "line": {"color": "white", "width": 1.5}},
        error_x=bars if any(further) or any(shorter) else None, legendgroup=COMPARISONS[key], showlegend=False, hoverinfo="skip",
    )  # fmt: skip


def _yardstick_curves(result: Result) -> dict[str, tuple[list[float], dict[str, Any]]]:
    """What the curves are to be read against: name, values from shell 1, style."""
    found: dict[str, tuple[list[float], dict[str, Any]]] = {}
    yardsticks = result.get("yardsticks") or {}
    gap, ellipsoid, noise = result.get("hallucination"), yardsticks.get("ellipsoid"), yardsticks.get("noise_halves")
    oracle = yardsticks.get("oracle_poses") or {}
    if gap:
        found["promised by half-maps"] = gap["expected"][1:], {"colour": ACCENT, "width": 1.5, "dash": "dot"}
    if ellipsoid:
        found["ellipsoid vs truth"] = ellipsoid["truth"][1:], {"colour": "#8a6d1d", "width": 1.5, "dash": "dash"}
    if noise:
        style = {"colour": MUTED, "width": 1.5, "dash": "dash"}
        found["two noise halves"] = noise["half_map"][1:], style
        found["noise halves, highest"] = noise["half_map_highest"][1:], style | {"dash": "dot", "shown": False}
    for key, name in (("half_map", "oracle poses, half-map"), ("truth", "oracle poses vs truth")):
        if oracle.get(key):
            found[name] = (
                oracle[key][1:],
                {"colour": COLOURS[key], "width": 1.5, "dash": "longdashdot", "shown": key == "truth"},
            )
    return found


def _draw_masked(result: Result) -> Drawing:
    """Curves under the mask, with the phases randomised, and corrected, beside those without a mask."""
    frequency, columns = _frequency(result["fsc"]), shell_columns(result["fsc"])
    figure = frequency_figure(frequency, "Fourier shell correlation", range=[-0.1, 1.03], dtick=0.2, tick0=0)
    dashes = {"masked": "dash", "randomised": "dot", "corrected": "solid"}
    for key in _CHIEF:
        found = result["masked"].get(key)
        if not found:
            continue
        for name, dash in dashes.items():
            said, curve = f"{COMPARISONS[key]}, {name}", found[name][1:]
            add_curve(figure, frequency, curve, said, COLOURS[key], dash=dash, width=2 if name == "corrected" else 1.5)
            columns[f"{said} FSC"] = curve
        said, curve = f"{COMPARISONS[key]}, no mask", result["fsc"][key][1:]
        add_curve(figure, frequency, curve, said, COLOURS[key], width=1, dash="longdash", shown=False)
        columns[f"{said} FSC"] = curve
    for threshold, text in zip(THRESHOLDS, THRESHOLD_KEYS, strict=True):
        add_level(figure, threshold, text)
    caption = (
        "Masked, the same after the phases were randomised (what the mask alone makes correlate), and corrected for it."
    )
    return Drawing(
        "fsc-masked", "Fourier shell correlation under a mask", figure, _TALL, caption, "masked", True, columns
    )


def _draw_gap(result: Result) -> Drawing:
    """The hallucination gap by shell: what the half-maps promise less what the truth bears out."""
    found, frequency = result["hallucination"], _frequency(result["fsc"])
    gap, counted = found["gap"][1:], int(found["last_shell"])
    figure = frequency_figure(frequency, "promised less measured FSC", zeroline=True, zerolinecolor=INK)
    figure.add_bar(
        x=frequency, y=gap, name="gap", hovertemplate="%{y:+.3f}", showlegend=False,
        marker={"color": [ACCENT if shell < counted else see_through(MUTED, 0.35) for shell in range(len(gap))]},
    )  # fmt: skip
    if found["mean_gap"] is not None:
        end = frequency[counted - 1] + frequency[0] / 2
        figure.add_shape(
            type="line",
            x0=frequency[0] / 2,
            x1=end,
            y0=found["mean_gap"],
            y1=found["mean_gap"],
            line={"color": INK, "width": 2},
        )
        said = f"mean {found['mean_gap']:+.3f} over {counted} shells"
        place = {"xref": "paper", "yref": "paper", "x": 1, "y": 0.99, "xanchor": "right", "yanchor": "top"}
        figure.add_annotation(text=said, showarrow=False, font={"size": 12, "color": INK}, **place)
    lowest, highest = min([-0.05, *gap]), max([0.1, *gap])
    figure.update_yaxes(range=[1.15 * lowest, 1.3 * highest])
    figure.update_layout(showlegend=False, bargap=0.1, xaxis={"range": [0, frequency[-1] + frequency[0] / 2]})
    columns = shell_columns(result["fsc"]) | {
        "promised FSC with the truth": found["expected"][1:],
        "measured FSC with the truth": result["fsc"]["truth"][1:],
        "hallucination gap": gap,
        "counted in the mean": [shell < counted for shell in range(len(gap))],
    }
    caption = (
        "Hallucination gap by shell. Coloured: the shells before the half-maps first fall below 0.143, over which the mean is "
        "taken. Above 0 the halves agree on what is not there."
    )
    return Drawing("gap", "Hallucination gap by shell", figure, _MIDDLE, caption, "gap", True, columns)


def _draw_ssnr(result: Result) -> Drawing:
    """Signal-to-noise ratio by shell, on a logarithmic scale."""
    frequency, columns = _frequency(result["fsc"]), shell_columns(result["fsc"])
    figure = frequency_figure(frequency, "spectral signal-to-noise ratio", type="log", exponentformat="power", dtick=1)
    shown: list[float] = []
    for key in _CHIEF:
        curve = (result["ssnr"].get(key) or [None])[1:]
        if curve:
            columns[f"{COMPARISONS[key]} SSNR"] = curve
            positive = [value if value is not None and value > 0 else None for value in curve]
            shown += [value for value in positive if value is not None]
            add_curve(figure, frequency, positive, COMPARISONS[key], COLOURS[key], decimals=".3g")
    low, high = np.log10([max(min(shown, default=1), 1e-2), min(max(shown, default=1), 1e5)])
    figure.update_yaxes(range=[low - 0.2, high + 0.2])
    add_level(figure, 1.0, "signal = noise", "bottom right")
    caption = "Signal-to-noise ratio of the mean map, from the half-maps alone and from the truth. Gaps: shells without signal."
    return Drawing("ssnr", "Spectral signal-to-noise ratio", figure, _MIDDLE, caption, "gap", True, columns)


def _draw_directions(result: Result, key: str) -> Drawing:
    """Correlation in the best, the median and the worst cone of directions, beside the whole shell's."""
    frequency, columns = _frequency(result["fsc"]), shell_columns(result["fsc"])
    curves = result["directional"][key]["curves"]
    figure = frequency_figure(frequency, "Fourier shell correlation", range=[-0.1, 1.03], dtick=0.2, tick0=0)
    colours = {"best": "#009e73", "median": COLOURS[key], "worst": "#d55e00"}
    for name, colour in colours.items():
        add_curve(figure, frequency, curves[name][1:], f"{name} cone", colour)
        columns[f"{name} cone FSC"] = curves[name][1:]
    add_curve(figure, frequency, result["fsc"][key][1:], "whole shell", MUTED, width=1.2, dash="dash")
    columns["whole shell FSC"] = result["fsc"][key][1:]
    for threshold, text in zip(THRESHOLDS, THRESHOLD_KEYS, strict=True):
        add_level(figure, threshold, text)
    sphericity = result["directional"][key][THRESHOLD_KEYS[0]]["sphericity"]
    said = "" if sphericity is None else f", sphericity {sphericity:.2f} at {THRESHOLD_KEYS[0]}"
    title = f"Directional FSC, {COMPARISONS[key]}"
    return Drawing(
        f"directional-{key.replace('_', '-')}", title, figure, _MIDDLE, title + said, "directions", True, columns
    )
