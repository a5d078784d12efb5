from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryobench.report import figures

NAMES = ("half_map", "truth", "truth_half1", "truth_half2")


def curves(*, truth: bool = True) -> tuple[dict[str, object], dict[str, object]]:
    """Straight FSC curves from 1 to 0, whose crossings are known."""
    frequency = [i / 160 for i in range(11)]
    line = [1 - i / 10 for i in range(11)]
    crossed = {t: {"value": 16 / (1 - float(t)), "state": "crossed"} for t in ("0.143", "0.5")}
    kept = NAMES if truth else NAMES[:1]
    fsc = {"shell": list(range(11)), "spatial_frequency": frequency} | {n: line if n in kept else None for n in NAMES}
    return fsc, {n: crossed if n in kept else None for n in NAMES}


def test_fsc_curves_begin_at_shell_one_and_carry_angstroms() -> None:
    figure = figures.fsc_curves(*curves())
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [trace.name for trace in lines] == ["half-map", "truth", "half 1 vs truth", "half 2 vs truth"]
    for trace in lines:
        assert len(trace.x) == 10
        np.testing.assert_allclose(np.asarray(trace.x) * trace.customdata, 1.0)


def test_fsc_crossings_lie_on_curve_and_threshold() -> None:
    figure = figures.fsc_curves(*curves())
    markers = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(markers) == 4
    for trace in markers:
        np.testing.assert_allclose(trace.y, [0.143, 0.5])
        np.testing.assert_allclose(1 - 16 * np.asarray(trace.x), trace.y)


def test_fsc_shows_both_thresholds_and_only_curves_that_exist() -> None:
    figure = figures.fsc_curves(*curves(truth=False))
    assert [trace.name for trace in figure.data if trace.mode == "lines"] == ["half-map"]
    assert [shape.y0 for shape in figure.layout.shapes] == [0.143, 0.5]
    assert [note.text for note in figure.layout.annotations] == ["0.143", "0.5"]


def test_fsc_below_zero_stays_in_sight() -> None:
    fsc, resolution = curves()
    fsc["half_map"] = [1.0] + [-0.4] * 10
    assert figures.fsc_curves(fsc, resolution).layout.yaxis.range[0] < -0.4


def test_fsc_axis_reads_in_angstroms() -> None:
    axis = figures.fsc_curves(*curves()).layout.xaxis
    for tick, label in zip(axis.tickvals, axis.ticktext, strict=True):
        angstroms, frequency = label.split("<br>")
        assert float(angstroms.split()[0]) == pytest.approx(1 / tick, rel=5e-3)
        assert float(frequency) == pytest.approx(tick)


@given(st.floats(1e-3, 1.0))
def test_ticks_are_few_even_and_within_the_axis(highest: float) -> None:
    ticks = figures.frequency_ticks(highest)
    assert 2 <= len(ticks) <= 7
    assert ticks[-1] <= highest * (1 + 1e-9)
    np.testing.assert_allclose(np.diff(ticks), ticks[0])


def test_map_panels_keep_values_order_and_scale() -> None:
    rng = np.random.default_rng(0)
    rows = {name: [rng.normal(size=(8, 8)).astype(np.float32) for _ in range(3)] for name in ("truth", "mean")}
    figure = figures.map_panels(rows, ["xy", "xz", "yz"], 2.5, (-1.0, 2.0))
    panels = [panel for row in rows.values() for panel in row]
    for trace, panel in zip(figure.data, panels, strict=True):
        np.testing.assert_array_equal(trace.z, panel)
        assert trace.coloraxis == "coloraxis"
        assert (trace.x0, trace.dx) == (-10.0, 2.5)  # voxel 4 is the origin
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-1.0, 2.0)
    texts = [note.text for note in figure.layout.annotations]
    assert texts[:3] == ["xy", "xz", "yz"]
    assert {"truth", "mean"} <= set(texts)


def test_scale_bar_is_as_long_as_it_says() -> None:
    figure = figures.image_panels([np.zeros((64, 64), np.float32)] * 6, 3.66)
    (bar,) = figure.layout.shapes
    (label,) = figure.layout.annotations
    assert f"{bar.x1 - bar.x0:g} Å" == label.text == "50 Å"


def test_resolution_curves_leave_gaps_and_show_the_limit() -> None:
    figure = figures.resolution_curves({"half_map": ([1.0, 2.0, 3.0], [None, 30.0, 20.0])}, 14.66)
    (trace,) = figure.data
    assert trace.y[0] is None
    assert trace.name == "half-map"
    (limit,) = figure.layout.shapes
    assert limit.y0 == 14.66
    low, high = figure.layout.yaxis.range
    assert low < 14.66 < 30.0 < high


def test_resolution_curves_that_never_reach_a_threshold_still_show_the_limit() -> None:
    figure = figures.resolution_curves({"half_map": ([1.0, 2.0], [None, None])}, 10.0)
    low, high = figure.layout.yaxis.range
    assert low < 10.0 < high


def test_history_keeps_the_halves_apart() -> None:
    seconds = np.arange(5.0)
    figure = figures.history_curve({1: (seconds, seconds**2), 2: (seconds, -seconds)})
    assert [trace.name for trace in figure.data] == ["half 1", "half 2"]
    assert figure.data[0].line.color != figure.data[1].line.color
    np.testing.assert_array_equal(figure.data[1].y, -seconds)
