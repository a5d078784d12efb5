"""Figures of a comparison: small multiples on common axes, resolution over time, hallucination gaps, and cost."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from cryobench.conventions import THRESHOLDS
from cryobench.report.document import Drawing
from cryobench.report.figures import COLOURS, INK, LINE, MUTED, angstrom_ticks, page_axis, page_layout, page_legend
from cryobench.report.rows import Row
from cryobench.report.table import COMPARISONS, format_duration, format_found

PALETTE: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
"""One colour a method on the whole page (Okabe & Ito 2008)."""
SYMBOLS: Final = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "triangle-down": "▼"}
"""Of scenarios, where there are no more than these."""
CURVE_COLUMNS: Final = ("scenario", "method", "seed", "comparison", "spatial frequency (1/Å)", "FSC")
COURSE_COLUMNS: Final = ("scenario", "method", "seed", "figure", "seconds", "resolution (Å)")
TICKS: Final = (2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500)
"""Angstrom, on logarithmic axes."""


def colour_methods(rows: Sequence[Row]) -> dict[str, str]:
    """A colour for the name of each method."""
    names = dict.fromkeys(row.label for row in rows if row.kind == "method")
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


def draw_suite(rows: Sequence[Row]) -> list[Drawing]:
    """Every figure of a comparison's page, from the rows with a result."""
    finished = [row for row in rows if row.kind == "method" and row.finished]
    colours = colour_methods(finished)
    figures = [*_draw_curves(finished), *_draw_courses(finished, colours)]
    if gapped := [row for row in finished if row.gap is not None]:
        figures.append(_draw_gaps(gapped, colours))
    if priced := [row for row in finished if row.seconds and "truth 0.5" in row.figures]:
        figures.append(_draw_costs(priced, colours))
    return figures


def _results(row: Row) -> list[tuple[int | None, Mapping[str, Any]]]:
    return [(cell.seed, cell.result) for cell in row.finished if cell.result is not None]


def _of_seed(seed: int | None) -> str:
    return "" if seed is None else f", seed {seed}"


def _draw_curves(rows: Sequence[Row]) -> Iterator[Drawing]:
    """The correlation curves of each scenario and method, all on the axes that the finest box needs."""
    tops = [r["fsc"]["spatial_frequency"][-1] for row in rows for _, r in _results(row)]
    highest = float(max(tops, default=1.0))
    ticks = angstrom_ticks(highest, 6)
    for number, row in enumerate(rows):
        figure = go.Figure()
        columns: dict[str, list[Any]] = {name: [] for name in CURVE_COLUMNS}
        for seed, result in _results(row):
            frequency = np.asarray(result["fsc"]["spatial_frequency"], dtype=np.float64)[1:]
            blob = ((result.get("yardsticks") or {}).get("ellipsoid") or {}).get("truth")
            if blob is not None:
                figure.add_scatter(
                    x=frequency, y=blob[1:], mode="lines", line={"color": LINE, "width": 1.6}, hoverinfo="skip"
                )
            for key in ("half_map", "truth"):
                if (curve := result["fsc"].get(key)) is None:
                    continue
                dash = "solid" if row.is_counted(key) else "dot"
                figure.add_scatter(
                    x=frequency, y=curve[1:], mode="lines", name=COMPARISONS[key], customdata=1 / frequency,
                    line={"color": COLOURS[key], "width": 1.6, "dash": dash},
                    hovertemplate=f"{COMPARISONS[key]}{_of_seed(seed)}: %{{y:.3f}} at %{{customdata:.1f}} Å<extra></extra>",
                )  # fmt: skip
                lines = [(row.scenario, row.label, seed, key, *pair) for pair in zip(frequency, curve[1:], strict=True)]
                for name, column in zip(CURVE_COLUMNS, zip(*lines, strict=True), strict=True):
                    columns[name] += column
        for threshold in THRESHOLDS:
            figure.add_hline(y=threshold, line={"color": LINE, "width": 1, "dash": "dash"})
        figure.layout = page_layout(
            margin={"l": 4, "r": 6, "t": 6, "b": 4},
            showlegend=False,
            shapes=figure.layout.shapes,
            xaxis=page_axis(
                "", range=[0, highest * 1.01], tickvals=[1 / t for t in ticks], ticktext=[f"{t:g} Å" for t in ticks]
            ),
            yaxis=page_axis("FSC", range=[-0.15, 1.03], tickvals=[0, 0.143, 0.5, 1]),
        )
        title = f"FSC curves of {row.label} on {row.scenario}"
        yield Drawing(
            f"fsc-{number}", title, figure, "height: 11rem", row.label, f"curves of {row.scenario}", columns=columns
        )


def _draw_courses(rows: Sequence[Row], colours: Mapping[str, str]) -> Iterator[Drawing]:
    """Resolution over the seconds of a run, methods of one scenario together, all scenarios on the same axes.

    Truth at 0.5 where there is a truth, and the half-maps at 0.143, dotted, only where none is known.
    """
    courses: dict[str, list[tuple[Row, int | None, str, list[float], list[float | None]]]] = {}
    for row in rows:
        for seed, result in _results(row):
            points = (result.get("over_time") or {}).get("half_map") or []
            shown = "truth 0.5" if any(point.get("truth") for point in points) else "half_map 0.143"
            comparison, threshold = shown.split()
            values = [point[comparison][threshold]["value"] for point in points]
            if any(value is not None for value in values):
                course = row, seed, shown, [float(point["seconds"]) for point in points], values
                courses.setdefault(row.scenario, []).append(course)
    every = [course for found in courses.values() for course in found]
    if not every:
        return
    lengths = [v for *_, values in every for v in values if v is not None]
    times = [s for *_, seconds, _ in every for s in seconds if s > 0]
    for number, (scenario, found) in enumerate(courses.items()):
        figure = go.Figure()
        columns: dict[str, list[Any]] = {name: [] for name in COURSE_COLUMNS}
        for row, seed, shown, seconds, values in found:
            said = f"{row.label}{_of_seed(seed)}: {shown.replace('_', '-')}"
            figure.add_scatter(
                x=seconds, y=values, mode="lines+markers", name=row.label, legendgroup=row.label,
                showlegend=not any(trace.name == row.label for trace in figure.data),
                line={"color": colours[row.label], "width": 2, "dash": "solid" if row.is_counted(shown) else "dot"},
                marker={"size": 5}, hovertemplate=f"{said} at %{{y:.1f}} Å after %{{x:.4g}} s<extra></extra>",
            )  # fmt: skip
            columns["scenario"] += [scenario] * len(seconds)
            columns["method"] += [row.label] * len(seconds)
            columns["seed"] += [seed] * len(seconds)
            columns["figure"] += [shown] * len(seconds)
            columns["seconds"] += seconds
            columns["resolution (Å)"] += values
        figure.layout = page_layout(
            margin={"l": 6, "r": 8, "t": 8, "b": 6},
            legend=page_legend(y=1.0),
            xaxis=_time_axis("seconds", times),
            yaxis=page_axis("", type="log", range=_log_range(lengths), **_length_ticks()),
        )
        title = f"Resolution over time on {scenario}"
        yield Drawing(f"course-{number}", title, figure, "height: 17rem", scenario, "over-time", columns=columns)


def _log_range(values: Sequence[float]) -> list[float]:
    low, high = np.log10(min(values)), np.log10(max(values))
    return [float(low - 0.06), float(max(high, low + 0.1) + 0.06)]


def _time_axis(title: str, seconds: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis with 1, 2 and 5 of every decade where there are few of these."""
    low, high = _log_range(seconds)
    return page_axis(title, type="log", range=[low, high], dtick="D2" if high - low < 2 else 1)


def _length_ticks() -> dict[str, Any]:
    return {"tickvals": list(TICKS), "ticktext": [f"{t} Å" for t in TICKS]}


def _places(rows: Sequence[Row]) -> tuple[list[float], dict[str, float]]:
    """Heights of rows, those of one scenario close together, and the middle of every scenario; downwards."""
    heights, middles, at = [], {}, 0.0
    for scenario in dict.fromkeys(row.scenario for row in rows):
        count = sum(row.scenario == scenario for row in rows)
        heights += [at + i for i in range(count)]
        middles[scenario] = at + (count - 1) / 2
        at += count + 0.8
    return heights, middles


def _scenario_axis(middles: Mapping[str, float], last: float) -> dict[str, Any]:
    words = ["<br>".join(textwrap.wrap(scenario, 20)) for scenario in middles]
    return page_axis(
        "", range=[last + 0.8, -0.8], tickvals=list(middles.values()), ticktext=words, ticks="", showgrid=False
    )


def _draw_gaps(rows: Sequence[Row], colours: Mapping[str, str]) -> Drawing:
    """The hallucination gap of every row with its interval: at zero the half-maps promise what the truth bears out."""
    figure = go.Figure()
    heights, middles = _places(rows)
    for name in dict.fromkeys(row.label for row in rows):
        colour = colours[name]
        own = [(row, height) for row, height in zip(rows, heights, strict=True) if row.label == name]
        ends = [row.gap_range or (row.gap, row.gap) for row, _ in own]
        gaps = [row.gap for row, _ in own]
        figure.add_scatter(
            x=gaps, y=[height for _, height in own], mode="markers", name=name,
            marker={"color": colour, "size": 9},
            error_x={
                "array": [(high or 0) - (gap or 0) for (_, high), gap in zip(ends, gaps, strict=True)],
                "arrayminus": [(gap or 0) - (low or 0) for (low, _), gap in zip(ends, gaps, strict=True)],
                "thickness": 1.5, "width": 3, "color": colour,
            },
            customdata=[row.scenario for row, _ in own],
            hovertemplate=f"{name} on %{{customdata}}: %{{x:+.3f}}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=0, line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.layout = page_layout(
        margin={"l": 6, "r": 10, "t": 8, "b": 6},
        legend=page_legend(),
        shapes=figure.layout.shapes,
        xaxis=page_axis("mean FSC promised beyond the truth's", nticks=6),
        yaxis=_scenario_axis(middles, heights[-1]),
    )
    columns: dict[str, list[Any]] = {
        "scenario": [row.scenario for row in rows],
        "method": [row.label for row in rows],
        "gap": [row.gap for row in rows],
        "low": [None if row.gap_range is None else row.gap_range[0] for row in rows],
        "high": [None if row.gap_range is None else row.gap_range[1] for row in rows],
    }
    shape = f"height: {8 + 1.3 * heights[-1]:.0f}rem"
    return Drawing("gaps", "Hallucination gaps", figure, shape, section="gaps", columns=columns)


def _draw_costs(rows: Sequence[Row], colours: Mapping[str, str]) -> Drawing:
    """Truth resolution at 0.5 against wall time: down and to the left is better."""
    figure = go.Figure()
    scenarios = list(dict.fromkeys(row.scenario for row in rows))
    few = len(scenarios) <= len(SYMBOLS)
    symbols = dict(zip(scenarios, SYMBOLS if few else ["circle"] * len(scenarios), strict=False))
    lengths = [row.figures["truth 0.5"].found["value"] for row in rows]
    worst = max((length for length in lengths if length is not None), default=100.0) * 1.3
    for name in dict.fromkeys(row.label for row in rows):
        own = [row for row in rows if row.label == name]
        founds = [row.figures["truth 0.5"].found for row in own]
        figure.add_scatter(
            x=[row.seconds for row in own], y=[found["value"] or worst for found in founds], mode="markers", name=name,
            marker={
                "color": colours[name], "size": 10, "line": {"color": "white", "width": 1},
                "symbol": [symbols[row.scenario] for row in own],
            },
            text=[
                f"{name} on {row.scenario}: truth 0.5 {format_found(found)} in {format_duration(row.seconds)}"
                for row, found in zip(own, founds, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    ticks = _length_ticks()
    if None in lengths:
        ticks["tickvals"], ticks["ticktext"] = [*ticks["tickvals"], worst], [*ticks["ticktext"], "not reached"]
    known = [length or worst for length in lengths]
    figure.layout = page_layout(
        margin={"l": 6, "r": 10, "t": 8, "b": 6},
        legend=page_legend(),
        xaxis=_time_axis("wall seconds", [row.seconds or 1 for row in rows]),
        yaxis=page_axis("truth at FSC 0.5", type="log", range=_log_range(known), **ticks),
    )
    columns: dict[str, list[Any]] = {
        "scenario": [row.scenario for row in rows],
        "method": [row.label for row in rows],
        "seconds": [row.seconds for row in rows],
        "truth 0.5 (Å)": lengths,
    }
    caption = ", ".join(f"{SYMBOLS[symbols[name]]} {name}" for name in scenarios) if few and len(scenarios) > 1 else ""
    return Drawing("cost-figure", "Resolution against cost", figure, "height: 22rem", caption, "cost", columns=columns)
