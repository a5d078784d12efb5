from __future__ import annotations

import base64
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryobench.physics.noise import radial_power
from cryobench.report import figures, panels
from cryobench.report.correlations import draw_correlations
from cryobench.report.course import draw_course, draw_history, history_curve
from cryobench.report.document import Drawing
from cryobench.report.page import Run, draw_run, open_run
from cryobench.report.surface import draw_surfaces
from tests.report.runs import build_run

NAMES = ("half_map", "truth", "truth_half1", "truth_half2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("runs") / "full"
    build_run(directory)
    return open_run(directory)


@pytest.fixture(scope="module")
def drawings(run: Run) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in draw_run(run)}


def straight(**changes: Any) -> dict[str, Any]:
    """A result whose curves are straight from 1 to 0, with known crossings."""
    line = [1 - i / 10 for i in range(11)]
    crossed = {t: {"value": 16 / (1 - float(t)), "state": "crossed"} for t in ("0.143", "0.5")}
    fsc = {"shell": list(range(11)), "spatial_frequency": [i / 160 for i in range(11)]} | dict.fromkeys(NAMES, line)
    return {"fsc": fsc, "resolution": dict.fromkeys(NAMES, crossed), "voxel_size": 8.0} | changes


def fsc_of(result: dict[str, Any]) -> Any:
    return next(iter(draw_correlations(result))).figure


def named(figure: Any, name: str) -> Any:
    (trace,) = [trace for trace in figure.data if trace.name == name and trace.showlegend is not False]
    return trace


def test_curves_are_those_of_the_result(run: Run, drawings: dict[str, Drawing]) -> None:
    result, drawn = run.result, drawings["fsc"]
    frequency = result["fsc"]["spatial_frequency"][1:]
    expected = {
        "half-map": result["fsc"]["half_map"],
        "truth": result["fsc"]["truth"],
        "half 1 vs truth": result["fsc"]["truth_half1"],
        "half 2 vs truth": result["fsc"]["truth_half2"],
        "promised by half-maps": result["hallucination"]["expected"],
        "ellipsoid vs truth": result["yardsticks"]["ellipsoid"]["truth"],
        "two noise halves": result["yardsticks"]["noise_halves"]["half_map"],
        "noise halves, highest": result["yardsticks"]["noise_halves"]["half_map_highest"],
        "oracle poses, half-map": result["yardsticks"]["oracle_poses"]["half_map"],
        "oracle poses vs truth": result["yardsticks"]["oracle_poses"]["truth"],
    }
    for name, curve in expected.items():
        trace = named(drawn.figure, name)
        np.testing.assert_array_equal(trace.x, frequency)
        np.testing.assert_array_equal(trace.y, curve[1:])
        assert drawn.columns[f"{name} FSC"] == curve[1:]
    np.testing.assert_allclose(drawn.columns["resolution (Å)"], 1 / np.array(frequency))
    band = next(trace for trace in drawn.figure.data if trace.fill == "toself" and trace.name == "truth")
    interval = result["intervals"]["truth"]["curve"]
    np.testing.assert_array_equal(band.y, [*interval["high"][1:], *interval["low"][:0:-1]])


@pytest.mark.parametrize("name", ["half_map", "truth"])
def test_curves_under_a_mask_and_by_direction_are_those_of_the_result(
    run: Run, drawings: dict[str, Drawing], name: str
) -> None:
    said = {"half_map": "half-map", "truth": "truth"}[name]
    for kind in ("masked", "randomised", "corrected"):
        expected = run.result["masked"][name][kind][1:]
        np.testing.assert_array_equal(named(drawings["fsc-masked"].figure, f"{said}, {kind}").y, expected)
    directional = drawings[f"directional-{name.replace('_', '-')}"]
    for cone, curve in run.result["directional"][name]["curves"].items():
        np.testing.assert_array_equal(named(directional.figure, f"{cone} cone").y, curve[1:])
    ssnr = [value if value > 0 else None for value in run.result["ssnr"][name][1:]]
    assert list(named(drawings["ssnr"].figure, said).y) == ssnr


def test_the_gap_is_drawn_by_shell_with_its_mean(run: Run, drawings: dict[str, Drawing]) -> None:
    found, drawn = run.result["hallucination"], drawings["gap"]
    (bars,) = [trace for trace in drawn.figure.data if trace.type == "bar"]
    np.testing.assert_array_equal(bars.y, found["gap"][1:])
    counted = np.array(drawn.columns["counted in the mean"])
    assert counted.sum() == found["last_shell"]
    assert np.mean(np.array(drawn.columns["hallucination gap"])[counted]) == pytest.approx(found["mean_gap"], rel=1e-4)
    assert any(shape.y0 == shape.y1 == found["mean_gap"] for shape in drawn.figure.layout.shapes)
    promised = np.array(drawn.columns["promised FSC with the truth"])
    half_map = np.clip(run.result["fsc"]["half_map"][1:], 0, None)
    np.testing.assert_allclose(promised, np.sqrt(2 * half_map / (1 + half_map)), rtol=1e-5)


def test_crossings_lie_on_curve_and_threshold_within_their_intervals() -> None:
    interval = {"0.143": {"finest": 16.0, "coarsest": 20.0}, "0.5": {"finest": 30.0, "coarsest": None}}
    figure = fsc_of(straight(intervals={"half_map": interval, "truth": None, "level": 0.9}))
    markers = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(markers) == 4
    for trace in markers:
        np.testing.assert_allclose(trace.y, [0.143, 0.5])
        np.testing.assert_allclose(1 - 16 * np.asarray(trace.x), trace.y)
    x, bars = np.asarray(markers[0].x), markers[0].error_x
    np.testing.assert_allclose(x + bars.array, [1 / 16, 1 / 30])
    np.testing.assert_allclose(x - bars.arrayminus, [1 / 20, 0], atol=1e-12)
    assert markers[1].error_x.array is None


def test_both_thresholds_are_drawn_and_only_curves_that_exist() -> None:
    result = straight()
    result["fsc"] = result["fsc"] | dict.fromkeys(NAMES[1:])
    figure = fsc_of(result)
    assert [t.name for t in figure.data if t.mode == "lines" and t.showlegend is not False] == ["half-map"]
    assert [shape.y0 for shape in figure.layout.shapes] == [0.143, 0.5]
    assert [note.text for note in figure.layout.annotations] == ["0.143", "0.5"]


def test_correlation_below_zero_stays_in_sight() -> None:
    result = straight()
    result["fsc"]["half_map"] = [1.0] + [-0.4] * 10
    assert fsc_of(result).layout.yaxis.range[0] < -0.4


def test_the_axis_above_reads_in_angstroms_and_so_does_the_pointer() -> None:
    figure = fsc_of(straight())
    axis = figure.layout.xaxis2
    assert axis.side == "top"
    assert axis.matches == "x"
    for tick, label in zip(axis.tickvals, axis.ticktext, strict=True):
        assert float(label.removesuffix(" Å")) == pytest.approx(1 / tick)
    pointer = figure.data[0]
    np.testing.assert_allclose(np.asarray(pointer.x) * pointer.customdata, 1.0)


@given(st.floats(2e-3, 1.0))
def test_ticks_are_few_and_within_the_axis(highest: float) -> None:
    ticks = figures.frequency_ticks(highest)
    assert 2 <= len(ticks) <= 7
    assert ticks[-1] <= highest * (1 + 1e-9)
    np.testing.assert_allclose(np.diff(ticks), ticks[0])
    lengths = figures.angstrom_ticks(highest)
    assert 1 <= len(lengths) <= 9
    assert all(1 / length <= highest * 1.001 for length in lengths)
    assert all(np.diff(1 / np.array(lengths)) >= highest / 9 * (1 - 1e-9))


@given(st.floats(1e-4, 1e4), st.floats(3, 1e3))
def test_logarithmic_ticks_lie_within_and_are_one_two_or_five(low: float, ratio: float) -> None:
    ticks = figures.decade_ticks([low, low * ratio])
    assert ticks
    assert all(low <= tick <= low * ratio for tick in ticks)
    assert all(f"{tick:e}"[0] in "125" for tick in ticks)


def test_a_level_on_a_logarithmic_axis_has_its_name_beside_it() -> None:
    figure = figures.frequency_figure(np.array([0.1, 0.2]), "ratio", type="log")
    figures.add_level(figure, 0.01, "one in a hundred")
    assert figure.layout.shapes[0].y0 == 0.01
    assert figure.layout.annotations[0].y == -2


def test_map_panels_keep_values_order_and_scale() -> None:
    rng = np.random.default_rng(0)
    rows = {name: [rng.normal(size=(8, 8)).astype(np.float32) for _ in range(3)] for name in ("truth", "mean")}
    figure = panels.map_panels(rows, ["xy", "xz", "yz"], 2.5, (-1.0, 2.0))
    every = [panel for row in rows.values() for panel in row]
    for trace, panel in zip(figure.data, every, strict=True):
        np.testing.assert_array_equal(trace.z, panel)
        assert trace.coloraxis == "coloraxis"
        assert (trace.x0, trace.dx) == (-10.0, 2.5)  # voxel 4 is the origin
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-1.0, 2.0)
    texts = [note.text for note in figure.layout.annotations]
    assert texts[:3] == ["xy", "xz", "yz"]
    assert {"truth", "mean"} <= set(texts)
    table = panels.tabulate_panels(rows, ["xy", "xz", "yz"], 2.5)
    at = 64 + 3 * 8 + 5  # the second panel, row 3, column 5
    assert (table["panel"][at], table["up (Å)"][at], table["across (Å)"][at]) == ("xz", -2.5, 2.5)
    assert table["mean"][at] == rows["mean"][1][3, 5]


def test_scale_bar_is_as_long_as_it_says() -> None:
    figure = panels.image_panels([np.zeros((64, 64), np.float32)] * 6, 3.66)
    (bar,) = figure.layout.shapes
    (label,) = figure.layout.annotations
    assert f"{bar.x1 - bar.x0:g} Å" == label.text == "50 Å"


def test_resolution_over_time_is_the_results_over_seconds_or_images(run: Run, drawings: dict[str, Drawing]) -> None:
    drawn, over_time = drawings["over-time-0-5"], run.result["over_time"]
    points = {"half-map": [(p, p["half_map"]) for p in over_time["half_map"]],
              "truth": [(p, p["truth"]) for p in over_time["half_map"]],
              "half 1 vs truth": [(p, p["truth"]) for p in over_time["half1"]],
              "half 2 vs truth": [(p, p["truth"]) for p in over_time["half2"]]}  # fmt: skip
    assert [trace.name for trace in drawn.figure.data] == list(points)
    by_images = drawn.figure.layout.updatemenus[0].buttons[1]
    assert by_images.label == "images seen"
    for i, (name, found) in enumerate(points.items()):
        trace = named(drawn.figure, name)
        assert list(trace.y) == [resolution["0.5"]["value"] for _, resolution in found]
        assert list(trace.x) == [point["seconds"] for point, _ in found]
        assert list(by_images.args[0]["x"][i]) == [point["images_seen"] for point, _ in found]
    assert trace.y[0] is None  # not reached yet
    (limit,) = drawn.figure.layout.shapes
    assert limit.y0 == 2 * run.result["voxel_size"]


def test_thresholds_that_no_snapshot_reached_still_show_the_limit() -> None:
    nothing = {t: {"value": None, "state": "below_at_first_shell"} for t in ("0.143", "0.5")}
    entries = [{"seconds": 1.0, "images_seen": 5, "half_map": nothing}]
    over_time = {"half_map": entries, "half1": None, "half2": None}
    for drawn in draw_course(straight(over_time=over_time)):
        low, high = drawn.figure.layout.yaxis.range
        assert low < 16.0 < high


def test_snapshots_are_overlaid_in_the_order_of_time(run: Run, drawings: dict[str, Drawing]) -> None:
    drawn, entries = drawings["snapshots-truth"], run.result["over_time"]["half_map"]
    lines = [trace for trace in drawn.figure.data if trace.mode == "lines" and trace.name != "resolution"]
    assert [list(trace.y) for trace in lines] == [entry["truth_fsc"][1:] for entry in entries]
    assert len({trace.line.color for trace in lines}) == len(lines)
    assert drawn.columns["FSC after 160 s, 8000 images"] == entries[-1]["truth_fsc"][1:]


def test_history_keeps_the_halves_apart(run: Run) -> None:
    seconds = np.arange(5.0)
    figure = history_curve({1: (seconds, seconds**2), 2: (seconds, -seconds)})
    assert [trace.name for trace in figure.data] == ["half 1", "half 2"]
    assert figure.data[0].line.color != figure.data[1].line.color
    np.testing.assert_array_equal(figure.data[1].y, -seconds)
    logged = list(draw_history(run.halves))
    assert [drawn.title for drawn in logged] == ["critic loss", "generator loss", "signal scale"]
    assert logged[0].columns["half"] == [1] * 350 + [2] * 350


def test_spectra_and_histograms_are_of_the_images(run: Run, drawings: dict[str, Drawing]) -> None:
    assert run.observed is not None
    images = torch.as_tensor(run.observed["images"].values)
    expected = radial_power(images.double())[1:].numpy()
    spectrum = drawings["spectra"].columns["observed particles, power (variance of white noise)"]
    np.testing.assert_allclose(spectrum, expected)
    assert np.mean(spectrum) == pytest.approx(1.0, abs=0.05)  # white, of unit variance
    columns = drawings["pixels"].columns
    at, density = np.array(columns["value (standard deviations)"]), np.array(columns["observed particles density"])
    step = at[1] - at[0]
    assert density.sum() * step == pytest.approx(1.0, abs=1e-6)
    assert (density * at**2).sum() * step == pytest.approx(1 + step**2 / 12, abs=0.01)
    np.testing.assert_allclose(density[at**2 < 4], np.array(columns["normal density"])[at**2 < 4], rtol=0.15)


def test_every_column_of_a_figure_has_its_length(drawings: dict[str, Drawing]) -> None:
    for name, drawn in drawings.items():
        assert len({len(column) for column in drawn.columns.values()}) == (name != "surfaces"), name


def test_surfaces_hold_their_map_to_a_step() -> None:
    axis = np.arange(16) - 8.0
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.exp(-(x**2 + 2 * y**2 + 3 * z**2) / 20).astype(np.float32)
    drawn = draw_surfaces({"truth": volume, "mean": 2 * volume}, 80.0)
    surface = drawn.figure.layout.meta["surface"]
    assert (surface["box"], surface["origin"], surface["voxel_size"]) == (32, 16, 2.5)  # twice as fine
    for coded in surface["volumes"]:
        steps = np.frombuffer(base64.b64decode(coded["bytes"]), np.uint8).reshape(32, 32, 32)
        assert steps[16, 16, 16] == steps.max() == 255
        deviations = coded["low"] + coded["step"] * steps[::2, ::2, ::2].astype(float)
        expected = (volume - volume.mean()) / volume.std()
        shown = steps[::2, ::2, ::2] > 0
        # mean and deviation are those of the finer map
        np.testing.assert_allclose(deviations[shown], expected[shown], atol=0.06 * expected.max())
    assert surface["volumes"][0]["bytes"] == surface["volumes"][1]["bytes"]
    assert drawn.still is not None
    assert [trace.scene for trace in drawn.still().data] == ["scene", "scene2"]


def test_drawings_do_not_end_a_script_early() -> None:
    figure = figures.page_layout(title="</script>")
    assert "</script>" not in Drawing("a", "a", go.Figure(layout=figure), "").script()
