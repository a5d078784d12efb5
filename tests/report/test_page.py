from __future__ import annotations

import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from cryobench.errors import InputError, StoreError
from cryobench.evaluate.align import apply
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.report.commands import reproduce
from cryobench.report.maps import move_map
from cryobench.report.page import write_report
from cryobench.report.reading import read_result
from cryobench.scenario.files import adapt_scenario
from tests.report.runs import SMALL_TURN, TURN, Outline, build_bare_map, build_run, chain, drawing, place, values


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "full"
    build_run(directory)
    return write_report(directory)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imported particles, a method that keeps no history, and poses given to it."""
    directory = tmp_path_factory.mktemp("runs") / "bare"
    build_run(directory, truth=False, history=False, oracle=True)
    return write_report(directory)


def test_page_holds_every_part_of_a_simulated_run(full: Path) -> None:
    page = Outline(full)
    for part in (
        "cryogan · snr-20",
        "Specimen phantom · box 32 · voxel 7.19 Å",
        "half 2 vs truth",
        "ellipsoid, truth",
        "two pure-noise halves",
        "Warning the mask cuts the particle",
        "falls short of it by",
        "Signal-to-noise ratio \N{MINUS SIGN}20.0 dB at the native pixel, \N{MINUS SIGN}14.3 dB",
        "White noise of one spectrum.",
        "61.4°",
        "4,200",
        "0.86 GiB",
        "stopped at the deadline",
        "Distance from the true poses of the particles, modulo D2: 0.0",
        "0.60, 0.00, 0.80",
        "half 1 pose 4.0° 9.0° 21.0°",
        "40.0 Å 1 min 00 s 3,000",
        "versions torch 2.13",
        "cryobench reproduce full",
        "--scenario snr-20",
    ):
        assert part in page.text, part
    assert "oracle poses. Its numbers" not in page.text
    curves = ["fsc", "fsc-masked", "gap", "ssnr", "directional-half-map", "directional-truth"]
    images = ["images-observed", "images-simulated", "images-noise", "spectra", "pixels"]
    views = ["views-0", "views-1", "views-2", "pose-errors"]
    course = ["over-time-0-143", "over-time-0-5", "snapshots-truth", "snapshots-half-map"]
    expected = [
        *curves,
        "surfaces",
        "slices",
        "projections",
        *images,
        *views,
        *course,
        *(f"history-{i}" for i in range(3)),
    ]
    assert sorted(map(str, page.plots())) == sorted(expected)


def test_headline_comes_first_and_shows_the_result(full: Path) -> None:
    result = read_result(full.parent / "result.json")
    text = Outline(full).text
    value = result["resolution"]["truth"]["0.5"]["value"]
    assert f"{value:.1f} Å" in text
    state = result["resolution"]["truth"]["0.143"]["state"]
    assert state == "above_to_nyquist"
    assert re.search(rf"truth ≤ {2 * result['voxel_size']:.1f} Å", text)
    page = full.read_text(encoding="utf-8")
    assert page.index('class="warning"') < page.index('class="headline"') < page.index('class="plot"')


def test_page_leaves_out_what_is_missing_with_a_sentence(bare: Path) -> None:
    page = Outline(bare)
    for sentence in (
        "No true density is known",
        "There is no true density to show",
        "yardsticks were not measured",
        "there is no hallucination gap",
        "The method simulated no images.",
        "The method returned no poses.",
        "kept no snapshots",
        "logged no history",
        "signal-to-noise ratio of these images is not known",
        "was given the true poses of all particles",
    ):
        assert sentence in page.text, sentence
    images = ["images-observed", "images-noise", "spectra", "pixels"]
    assert page.plots() == ["fsc", "surfaces", "slices", "projections", *images, "views-0"]
    assert "vs truth" not in page.text
    assert len(drawing(bare, "slices")["data"]) == 9  # halves and mean, three ways
    assert len(drawing(bare, "surfaces")["data"]) == 1


def test_a_map_of_another_program_has_a_page(tmp_path: Path) -> None:
    build_bare_map(tmp_path / "other")
    page = Outline(write_report(tmp_path / "other"))
    assert page.plots() == ["fsc", "surfaces", "slices", "projections"]
    assert "What another program spent on a map is not known." in page.text
    assert "To reproduce" not in page.text
    assert "the mean of both half-maps" not in page.text
    truth, mean = (values(trace["z"]) for trace in drawing(tmp_path / "other" / "report.html", "slices")["data"][::3])
    np.testing.assert_allclose(truth, mean, atol=1e-4 * mean.max())  # on one scale
    identities = {a["id"] for _, a in page.elements if "id" in a}
    assert {str(a["href"])[1:] for a in page.all("a")} <= identities


def test_stopped_before_the_first_snapshot_there_is_no_curve_over_time(tmp_path: Path) -> None:
    result = build_run(tmp_path / "run")
    result["over_time"] = {"half_map": [], "half1": [], "half2": []}
    area = dict.fromkeys(result["quality_over_time"]["area"])
    result["quality_over_time"] = {
        "area": area,
        "time_to_target": [{"target": 40.0, "seconds": None, "images_seen": None}],
    }
    result["hallucination"]["mean_gap"] = None
    result |= {"yardsticks": None, "intervals": None, "poses": None, "directional": {"half_map": None, "truth": None}}
    (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    page = Outline(write_report(tmp_path / "run"))
    assert not [
        name for name in page.plots() if str(name).startswith(("over-time", "snapshots", "directional", "pose"))
    ]
    assert "kept no snapshots" in page.text
    assert "The halves promise nothing here" in page.text


def test_half_map_figures_that_do_not_count_stand_in_parentheses_everywhere(tmp_path: Path) -> None:
    result = build_run(tmp_path / "run")
    result["resolution"]["truth"]["0.5"] = {"value": None, "state": "below_at_first_shell"}
    (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    text = Outline(write_report(tmp_path / "run")).text
    assert "half-map at 0.143 (0.400) (0.400)" in text
    assert "truth at 0.5 0.400 0.400" in text
    assert re.search(r"half-map 0\.143 \(.+? Å\) \(.+? Å\) 0\.60", text)


def test_page_loads_nothing_and_is_small(full: Path) -> None:
    page = Outline(full)
    assert full.stat().st_size < 15e6
    addresses = [a[key] for _, a in page.elements for key in ("src", "href", "srcset", "action", "data") if key in a]
    assert addresses
    assert all(str(address).startswith("#") for address in addresses)
    assert not page.all("link")
    style = re.findall(r"<style>(.*?)</style>", full.read_text(encoding="utf-8"), re.DOTALL)
    assert not re.search(r"url\(|@import", " ".join(style))
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert str(policies[0]).startswith("default-src 'none'")
    assert full.read_text(encoding="utf-8").count("plotly.js v") == 1


def test_page_can_be_read_by_a_screen_reader(full: Path, bare: Path) -> None:
    for page in map(Outline, (full, bare)):
        assert page.all("html")[0]["lang"] == "en"
        levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert len(page.all("caption")) == len(page.all("table"))
        assert all("scope" in cell for cell in page.all("th"))
        assert all(a.get("aria-label") for a in page.all("div") if a.get("class") == "plot")
        identities = [a["id"] for _, a in page.elements if "id" in a]
        assert len(identities) == len(set(identities))


def test_page_shows_text_from_outside_as_text(full: Path) -> None:
    page = Outline(full)
    assert "</script><b>x" in page.text
    assert not page.all("b")


def test_page_is_the_same_for_the_same_inputs(full: Path) -> None:
    before = full.read_bytes()
    assert write_report(full.parent) == full
    assert full.read_bytes() == before


def test_maps_are_shown_in_one_frame_and_on_one_scale(full: Path) -> None:
    panels = [values(trace["z"]) for trace in drawing(full, "projections")["data"]]
    rows = np.array(panels).reshape(4, 3, 32, 32)
    for direction in range(3):
        truth, one, two, mean = rows[:, direction]
        assert np.corrcoef(truth.ravel(), mean.ravel())[0, 1] > 0.95
        assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.9
        np.testing.assert_allclose((one + two) / 2, mean, atol=1e-4 * mean.max())
        assert two.std() == pytest.approx(one.std(), rel=0.1)
        assert truth.max() == pytest.approx(mean.max(), rel=0.25)
    # and they were not to begin with
    truth = fourier_crop_volumes(chain(48, 230 / 48), 32).sum(0).numpy()
    assert np.corrcoef(truth.ravel(), rows[1, 0].ravel())[0, 1] < 0.9


def test_move_map_agrees_with_the_alignment_that_evaluation_applies() -> None:
    voxel_size = 230 / 32
    volume = chain(32, voxel_size)
    for turn in (TURN, SMALL_TURN):
        quaternion, shift, mirrored = turn
        found = {"quaternion": quaternion, "shift": shift, "mirrored": mirrored}
        expected = apply(place(turn, voxel_size), volume).numpy()
        moved = move_map(volume.numpy(), found, voxel_size)
        assert np.corrcoef(moved.ravel(), expected.ravel())[0, 1] > 0.99
        returned = move_map(expected, found, voxel_size, back=True)
        assert np.corrcoef(returned.ravel(), volume.numpy().ravel())[0, 1] > 0.99


def test_large_boxes_are_cropped_before_they_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("images", "maps"):
        monkeypatch.setattr(f"cryobench.report.{module}.LARGEST_BOX_SHOWN", 24)
    build_run(tmp_path / "run", truth=False, history=False)
    page = write_report(tmp_path / "run")
    for name in ("slices", "projections", "images-observed"):
        trace = drawing(page, name)["data"][0]
        assert values(trace["z"]).shape == (24, 24)
        assert trace["dx"] == pytest.approx(230 / 24)


def test_long_histories_are_averaged_in_blocks(full: Path) -> None:
    traces = drawing(full, "history-0")["data"]
    assert [trace["name"] for trace in traces] == ["half 1", "half 2"]
    assert len(values(traces[0]["x"])) == 350
    with xr.open_zarr(full.parent / "predicted.zarr", group="half1", consolidated=False) as half:
        loss = half["critic_loss"].values
    np.testing.assert_allclose(values(traces[0]["y"]), loss.reshape(350, 2).mean(1))


def test_command_quotes_what_the_shell_would_read() -> None:
    result = {"params": {"a": "x y", "b": None, "c": True, "d": 0.1}, "scenario": "my scene", "specimen": None}
    result |= {
        "method": "m",
        "seed": 3,
        "budget_seconds": 90.0,
        "dataset": {"seed": 3, "scenario": {"name": "my scene"}},
    }
    words = shlex.split(reproduce(result, "run").replace("\\\n", ""))
    options = ["--method", "m", "--scenario", "my scene", "--seed", "3", "--budget", "90s"]
    assert words == ["cryobench", "run", *options, "-p", "a=x y", "-p", "c=true", "-p", "d=0.1"]


def test_command_says_what_was_switched_off_over_a_preset() -> None:
    result = {"params": {"preset": "paper", "epoch_decay": None}, "scenario": None, "method": "m", "seed": 3}
    command = reproduce(result | {"budget_seconds": None, "dataset": None}, "run")
    assert "-p epoch_decay=null" in command


def test_command_tells_what_differs_from_the_shipped_scenario() -> None:
    changed = adapt_scenario("snr-20", box=48, snr_db=-10.0, particles=500, specimen="pdb:5A1A").model_dump(mode="json")
    result = {"params": {}, "scenario": "snr-20", "method": "m", "seed": 3, "budget_seconds": None}
    command = reproduce(result | {"dataset": {"seed": 3, "scenario": changed}}, "run").replace("\\\n", "")
    for option in ("--specimen pdb:5A1A", "--particles 500", "--box 48", "--snr -10.0"):
        assert option in command
    apart = reproduce(result | {"dataset": {"seed": 1, "scenario": changed}}, "run").replace("\\\n", "").splitlines()
    assert [line.split()[1] for line in apart] == ["simulate", "reconstruct", "evaluate"]
    assert "--seed 1" in apart[0]
    assert "--seed 3" in apart[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "found nothing"),
        ("{", "expected JSON"),
        ("[]", "expected schema 1"),
        ('{"schema": 2}', "got 2"),
        ('{"schema": 1, "method": "cryogan"}', r"expected the keys \['params'"),
    ],
)
def test_results_that_cannot_be_read_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError, match=message):
        write_report(tmp_path)


def test_a_run_without_its_stores_is_an_error(full: Path, tmp_path: Path) -> None:
    shutil.copy(full.parent / "result.json", tmp_path)
    with pytest.raises(StoreError, match=r"observed\.zarr"):
        write_report(tmp_path)
