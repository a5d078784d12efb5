from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from scipy.spatial.transform import Rotation

from cryobench.dataset.store import create_store, finish_store
from cryobench.errors import InputError, StoreError
from cryobench.evaluate.align import Alignment, apply
from cryobench.evaluate.fsc import fsc, resolutions, spatial_frequencies
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.physics.symmetry import symmetrise
from cryobench.report.page import move_map, read_result, reproduce, write_report
from cryobench.scenario.files import adapt_scenario
from cryobench.specimens.gaussians import GaussianMixture
from tests.conftest import require

PARTICLES, PATCHES = 64, 12
TURN = (Rotation.from_rotvec([0.5, -0.9, 0.3]).as_quat(), (4.0, -7.0, 2.5), True)
SMALL_TURN = (Rotation.from_rotvec([0.1, 0.05, -0.2]).as_quat(), (-3.0, 1.0, 6.0), False)


def chain(box: int, voxel_size: float) -> torch.Tensor:
    """A compact D2 chain of Gaussians that fills about half the box."""
    rng = np.random.default_rng(7)
    points, extent = [np.zeros(3)], box * voxel_size * np.array([0.24, 0.18, 0.12])
    while len(points) < 400:
        step = points[-1] + rng.normal(size=3) * 0.02 * box * voxel_size
        if np.sum((step / extent) ** 2) < 1:
            points.append(step)
    mixture = GaussianMixture(np.array(points), np.ones(len(points)), 0.012 * box * voxel_size)
    return symmetrise(mixture.density(box, voxel_size), "D2")


def place(turn: Any, voxel_size: float) -> Alignment:
    quaternion, shift, mirrored = turn
    return Alignment(tuple(float(q) for q in quaternion), shift, mirrored, 0.91, 0.42, voxel_size)


def build_run(
    directory: Path,
    *,
    box: int = 32,
    native_box: int = 48,
    truth: bool = True,
    history: bool = True,
    oracle: bool = False,
) -> dict[str, Any]:
    """A run directory as the stages leave it, of a reconstruction that is truth and noise in another frame."""
    directory.mkdir()
    native = 230.0 / native_box
    voxel_size = native * native_box / box
    specimen = chain(native_box, native)
    working = fourier_crop_volumes(specimen, box)
    to_truth, to_first = place(TURN, voxel_size), place(SMALL_TURN, voxel_size)
    seen = apply(to_truth.inverse(), working)
    rng = np.random.default_rng(3)

    def noisy(volume: torch.Tensor, amount: float) -> torch.Tensor:
        noise = torch.as_tensor(rng.normal(size=(box,) * 3), dtype=torch.float32)
        return volume + amount * volume.std() * noise

    volumes = {1: noisy(seen, 0.7), 2: 3.0 * noisy(apply(to_first.inverse(), seen), 0.7) + 0.2}
    write_observed(directory / "observed.zarr", box, voxel_size, rng)
    if truth:
        write_truth(directory / "truth.zarr", specimen, native)
    write_predicted(directory / "predicted.zarr", volumes, voxel_size, history=history, oracle=oracle, rng=rng)
    second = apply(to_first, volumes[2])
    curves = {"half_map": fsc(volumes[1], second)}
    if truth:
        reference = [apply(to_truth, v) for v in (volumes[1] + second / 3, volumes[1], second)]
        curves |= {
            key: fsc(v, working) for key, v in zip(("truth", "truth_half1", "truth_half2"), reference, strict=True)
        }
    result = make_result(curves, box, voxel_size, truth=truth, history=history, oracle=oracle)
    (directory / "result.json").write_text(json.dumps(result, sort_keys=True))
    return result


def write_observed(path: Path, box: int, voxel_size: float, rng: np.random.Generator) -> None:
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(ContrastTransfer.names(), (PARTICLES,))
    shapes |= {"images": (PARTICLES, box, box), "micrograph": (PARTICLES,), "half": (PARTICLES,)}
    shapes |= {"noise_patches": (PATCHES, box, box), "patch_half": (PATCHES,), "patch_micrograph": (PATCHES,)}
    shapes |= {"noise_power": (2, box // 2 + 1)}
    attributes = {"voxel_size": voxel_size, "symmetry": "D2", "assumed_pose": {"kind": "uniform"}}
    attributes |= {"assumed_shift": {"kind": "none"}, "contrast": "protein bright", "noise_note": "white noise"}
    group = create_store(path, "observed", shapes, attributes)
    for name in ("images", "noise_patches"):
        group[name][:] = rng.normal(size=shapes[name]).astype(np.float32)
    group["half"][:] = np.arange(PARTICLES) % 2 + 1
    group["patch_half"][:] = np.arange(PATCHES) % 2 + 1
    finish_store(group)


def write_truth(path: Path, specimen: torch.Tensor, voxel_size: float) -> None:
    shapes = {"volume": tuple(specimen.shape), "rotation": (PARTICLES, 4), "shift": (PARTICLES, 2)}
    attributes = {"voxel_size": voxel_size, "noise_scale": 1.0, "clean_signal_variance": 1.0}
    attributes |= {"scenario": {"name": "tiny"}, "seed": 1, "salt": "salt"}
    group = create_store(path, "truth", shapes, attributes)
    group["volume"][:] = specimen.numpy()
    group["rotation"][:] = Rotation.random(PARTICLES, rng=np.random.default_rng(5)).as_quat()
    finish_store(group)


def write_predicted(
    path: Path,
    volumes: dict[int, torch.Tensor],
    voxel_size: float,
    *,
    history: bool,
    oracle: bool,
    rng: np.random.Generator,
) -> None:
    root = zarr.open_group(path, mode="w", zarr_format=3)
    for half, volume in volumes.items():
        variables: dict[str, Any] = {"volume": (("z", "y", "x"), volume.numpy())}
        if history:
            records = 700
            seconds = np.linspace(0, 150, records)
            variables["history_seconds"] = ("record", seconds)
            variables["history_step"] = ("record", np.arange(records))
            for name, level in (("critic_loss", -4.0), ("generator_loss", 2.0), ("signal_scale", 0.3)):
                values = level * (1 - 0.8 * np.exp(-seconds / 40)) + rng.normal(size=records) * 0.1
                variables[name] = ("record", values)
            images = rng.normal(size=(4, *volume.shape[1:])).astype(np.float32)
            variables["example_images"] = (("example", "y", "x"), images)
        data = xr.Dataset(variables, attrs={"complete": True, "notes": ["stopped at the deadline"]})
        data.to_zarr(path, group=f"half{half}", mode="w", zarr_format=3, consolidated=False)
    root.attrs.update({"cryobench_store": "predicted", "method": "cryogan", "device": "cpu", "oracle_poses": oracle})
    root.attrs["voxel_size"] = voxel_size
    root.attrs["complete"] = True


def make_result(
    curves: dict[str, torch.Tensor], box: int, voxel_size: float, *, truth: bool, history: bool, oracle: bool
) -> dict[str, Any]:
    found = {
        key: {t: {"value": r.value, "state": r.state} for t, r in resolutions(curve, box, voxel_size).items()}
        for key, curve in curves.items()
    }
    names = ("half_map", "truth", "truth_half1", "truth_half2")

    def alignment(turn: Any) -> dict[str, Any]:
        quaternion, shift, mirrored = turn
        degrees = float(np.degrees(Rotation.from_quat(quaternion).magnitude()))
        pose = {"quaternion": [float(q) for q in quaternion], "shift": list(shift), "mirrored": mirrored}
        return pose | {"rotation_degrees": degrees, "correlation": 0.912, "correlation_other_hand": 0.421}

    def course(inner: str, offset: float) -> list[dict[str, Any]]:
        points = []
        for i in range(8):
            value = 2 * voxel_size * (1 + (4 + offset) / (i + 1))
            point = {"0.5": {"value": value, "state": "crossed"}, "0.143": {"value": 0.8 * value, "state": "crossed"}}
            if i == 0:
                point["0.5"] = {"value": None, "state": "below_at_first_shell"}
            points.append({"seconds": 20.0 * (i + 1), "images_seen": 1000 * (i + 1), inner: point})
        return points

    over_time: dict[str, Any] = {"half_map": course("half_map", 0.0), "half1": None, "half2": None}
    if truth:
        over_time |= {"half1": course("truth", 1.0), "half2": course("truth", 0.5)}
    cost = {"wall_seconds": 151.2, "cpu_seconds": 290.0, "gpu_seconds": None, "peak_memory_bytes": 9.2e8, "steps": 4200}
    return {
        "schema": 1,
        "method": "backproject" if oracle else "cryogan",
        "params": {"loss": "logistic", "batch_size": 32, "decay": None, "note": "</script><b>x"},
        "scenario": "snr-20" if truth else None,
        "specimen": "phantom" if truth else None,
        "seed": 5,
        "budget_seconds": None,
        "dataset": {"seed": 5, "scenario": {"name": "tiny-blobs"}},
        "voxel_size": voxel_size,
        "box": box,
        "symmetry": "D2",
        "oracle_poses": oracle,
        "particles": {"half1": PARTICLES // 2, "half2": PARTICLES // 2},
        "resolution": {name: found.get(name) for name in names},
        "fsc": {
            "shell": list(range(box // 2 + 1)),
            "spatial_frequency": spatial_frequencies(box, voxel_size).tolist(),
            **{name: curves[name].tolist() if name in curves else None for name in names},
        },
        "alignment": {"half2_to_half1": alignment(SMALL_TURN), "mean_to_truth": alignment(TURN) if truth else None},
        "over_time": over_time if history else None,
        "snr": {"native_db": -20.0, "working_db": -14.3} if truth else None,
        "noise": "white noise of one spectrum",
        "cost": {"half1": cost, "half2": cost, "total_wall_seconds": 302.4},
        "provenance": {"versions": {"cryobench": "0.1.0", "torch": "2.13"}, "git": "5af196f", "device": "cpu"},
    }


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


class Outline(HTMLParser):
    """Elements with their attributes, and the text outside scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._hidden = False
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def plots(self) -> list[str | None]:
        return [a["id"] for a in self.all("div") if a.get("class") == "plot"]


def drawing(path: Path, name: str) -> dict[str, Any]:
    """The data of a figure as the page holds it."""
    found = re.search(rf'^  "{name}": (.*?),?$', path.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return json.loads(found[1])


def values(coded: Any) -> np.ndarray:
    flat = np.frombuffer(base64.b64decode(coded["bdata"]), dtype=coded["dtype"])
    return flat.reshape([int(n) for n in coded.get("shape", str(len(flat))).split(",")])


def test_page_holds_every_part_of_a_simulated_run(full: Path) -> None:
    page = Outline(full)
    for part in (
        "cryogan · snr-20",
        "Specimen phantom · box 32 · voxel 7.19 Å",
        "half 2 vs truth",
        "Signal-to-noise ratio \N{MINUS SIGN}20.0 dB at the native pixel, \N{MINUS SIGN}14.3 dB",
        "white noise of one spectrum",
        "61.4°",
        "4,200",
        "0.86 GiB",
        "stopped at the deadline",
        "Distance from the true poses of the particles, modulo D2: 0.0",
        "versions torch 2.13",
        "--scenario snr-20",
    ):
        assert part in page.text
    assert "oracle" not in page.text
    images = ["images-observed", "images-simulated", "images-noise"]
    course = ["over-time-0-143", "over-time-0-5", "history-0", "history-1", "history-2"]
    assert page.plots() == ["fsc", "slices", "projections", *images, "views-0", "views-1", *course]


def test_table_of_the_page_shows_the_result(full: Path) -> None:
    result = read_result(full.parent / "result.json")
    text = Outline(full).text
    value = result["resolution"]["truth"]["0.5"]["value"]
    assert f"{value:.1f} Å" in text
    state = result["resolution"]["truth"]["0.143"]["state"]
    assert state == "above_to_nyquist"
    assert f"truth ≤ {2 * result['voxel_size']:.1f} Å (Nyquist)" in text


def test_page_leaves_out_what_is_missing_with_a_sentence(bare: Path) -> None:
    page = Outline(bare)
    for sentence in (
        "No true density is known",
        "holds no true density to show",
        "The method simulated no images.",
        "kept no snapshots",
        "logged no history",
        "signal-to-noise ratio of these images is not known",
    ):
        assert sentence in page.text
    assert page.plots() == ["fsc", "slices", "projections", "images-observed", "images-noise", "views-0"]
    assert "vs truth" not in page.text
    assert len(drawing(bare, "slices")["data"]) == 9  # halves and mean, three ways


def test_page_marks_oracle_poses(bare: Path) -> None:
    page = Outline(bare)
    assert any(a.get("class") == "badge" for a in page.all("span"))
    assert "backproject · imported particles oracle poses" in page.text
    assert "given the true poses" in page.text


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
    monkeypatch.setattr("cryobench.report.page.LARGEST_BOX_SHOWN", 24)
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


@pytest.mark.parametrize("run", ["full", "bare"])
def test_a_browser_draws_every_figure_without_an_error(
    run: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    require(browser is not None, "a chromium browser")
    path = request.getfixturevalue(run)
    quiet = ["background-networking", "component-update", "sync", "gpu", "quic"]
    options = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    options += [f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0", "--window-size=1400,1000"]
    command = [str(browser), *options, "--virtual-time-budget=10000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    plots = Outline(path).plots()
    assert done.stdout.count('class="main-svg"') >= 2 * len(plots)
    assert done.stdout.count("js-plotly-plot") >= len(plots)
    images = sum(len(drawing(path, str(n))["data"]) for n in plots if str(n).startswith(("slices", "proj", "images")))
    assert len(re.findall(r"<image [^>]*data:image/png", done.stdout)) >= images
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
