"""Run directories as the stages leave them, made in a moment, and what a page of one holds."""

from __future__ import annotations

import base64
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from scipy.spatial.transform import Rotation

from cryobench.dataset.create import create_store
from cryobench.dataset.store import finish_store
from cryobench.evaluate.align import Alignment, apply
from cryobench.evaluate.fsc import fsc, half_map_ssnr, resolutions, spatial_frequencies, truth_ssnr
from cryobench.evaluate.hallucination import measure_gap
from cryobench.interop.mrc import write_map
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.physics.symmetry import symmetrise
from cryobench.specimens.gaussians import GaussianMixture

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
    write_predicted(
        directory / "predicted.zarr", volumes, voxel_size, history=history, oracle=oracle, poses=truth, rng=rng
    )
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
    poses: bool,
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
        if poses:
            quaternions = Rotation.random(PARTICLES // 2, rng=np.random.default_rng(half)).as_quat()
            variables["rotation"] = (("particle", "quaternion"), quaternions)
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
        return pose | {
            "rotation_degrees": degrees,
            "correlation": 0.912,
            "correlation_other_hand": 0.421,
            "hand": "mirrored" if mirrored else "same",
            "hand_margin": 0.491,
        }

    def course(inner: str, offset: float) -> list[dict[str, Any]]:
        points = []
        for i in range(8):
            value = 2 * voxel_size * (1 + (4 + offset) / (i + 1))
            point = {"0.5": {"value": value, "state": "crossed"}, "0.143": {"value": 0.8 * value, "state": "crossed"}}
            if i == 0:
                point["0.5"] = {"value": None, "state": "below_at_first_shell"}
            curve = [math.exp(-((shell / (i + 2)) ** 2)) for shell in range(box // 2 + 1)]
            points.append(
                {"seconds": 20.0 * (i + 1), "images_seen": 1000 * (i + 1), inner: point, f"{inner}_fsc": curve}
            )
        return points

    over_time: dict[str, Any] = {"half_map": course("half_map", 0.0), "half1": None, "half2": None}
    if truth:
        over_time |= {"half1": course("truth", 1.0), "half2": course("truth", 0.5)}
        for point, other in zip(over_time["half_map"], course("truth", 0.7), strict=True):
            point |= {"truth": other["truth"], "truth_fsc": other["truth_fsc"]}
    cost = {"wall_seconds": 151.2, "cpu_seconds": 290.0, "gpu_seconds": None, "peak_memory_bytes": 9.2e8, "steps": 4200}
    aligned = {"half2_to_half1": alignment(SMALL_TURN)}
    aligned |= {f"{name}_to_truth": alignment(TURN) if truth else None for name in ("mean", "half1", "half2")}
    result = {
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
        "alignment": aligned,
        "over_time": over_time if history else None,
        "snr": {"native_db": -20.0, "working_db": -14.3} if truth else None,
        "noise": "white noise of one spectrum",
        "cost": {"half1": cost, "half2": cost, "side_by_side": False, "total_wall_seconds": 302.4},
        "provenance": {"versions": {"cryobench": "0.1.0", "torch": "2.13"}, "git": "5af196f", "device": "cpu"},
    }
    return result | (describe_truth(curves, found) if truth else {})


def describe_truth(curves: dict[str, torch.Tensor], found: dict[str, Any]) -> dict[str, Any]:
    """What a result says beyond the curves themselves where everything was measured."""
    half_map, truth = curves["half_map"], curves["truth"]
    gap, count = measure_gap(half_map, truth), len(half_map)
    nothing = {threshold: {"value": None, "state": "below_at_first_shell"} for threshold in ("0.143", "0.5")}
    corrected = {"masked": found["half_map"], "corrected": found["half_map"]}
    bands: dict[str, Any] = {}
    for name in ("half_map", "truth"):
        bands[name] = {t: {"finest": 0.9 * r["value"], "coarsest": 1.2 * r["value"]} for t, r in found[name].items()}
        bands[name]["curve"] = {
            "low": (curves[name] - 0.05).tolist(),
            "high": (curves[name] + 0.05).clamp(max=1).tolist(),
        }
    cones = {t: {"best": r, "worst": r, "worst_direction": [0.6, 0.0, 0.8], "mean_frequency": 0.03,
                 "deviation_of_frequency": 0.002, "sphericity": 0.93} for t, r in found["truth"].items()}  # fmt: skip
    cone_curves = {"best": (truth + 0.02).tolist(), "median": truth.tolist(), "worst": (truth - 0.1).tolist()}
    spread = {"median": 4.0, "mean": 9.0, "percentile_90": 21.0, "percentiles": [float(i) ** 2 / 10 for i in range(21)]}
    area = {f"{c}_over_{a}": 0.4 for c in ("truth_0.5", "half_map_0.143") for a in ("seconds", "images_seen")}
    targets = [(40.0, 60.0, 3000), (30.0, None, None), (20.0, None, None)]
    return {
        "masked": {
            "mask": {"kind": "specimen", "volume_fraction": 0.12, "flaws": []},
            **{name: {"masked": (curves[name] * 0.99).tolist(), "randomised": (curves[name] * 0.2).tolist(),
                      "corrected": curves[name].tolist(), "randomised_from": 6, "resolution": corrected}
               for name in ("half_map", "truth")},
        },
        "correlation": {"half_map": 0.81, "half_map_masked": 0.79, "truth": 0.92, "truth_masked": 0.9},
        "ssnr": {"half_map": [None, *half_map_ssnr(half_map).tolist()[1:]], "truth": [None, *truth_ssnr(truth).tolist()[1:]]},
        "hallucination": {"expected": gap.expected.tolist(), "gap": gap.by_shell.tolist(), "mean_gap": gap.mean,
                          "last_shell": gap.last_shell},
        "intervals": bands | {"mean_gap": {"low": -0.01, "high": 0.02}, "level": 0.9, "draws": 400},
        "directional": {name: cones | {"curves": cone_curves} for name in ("half_map", "truth")},
        "yardsticks": {
            "ellipsoid": {"truth": (truth * 0.3).tolist(), "half_map": [1.0] * count, "semi_axes": [40.0, 50.0, 60.0],
                          "edge": 5.0, "resolution": {"half_map": found["half_map"], "truth": nothing}},
            "noise_halves": {"half_map": [0.01] * count, "half_map_highest": [0.1] * count,
                             "resolution": {"half_map": nothing}},
            "oracle_poses": {"half_map": half_map.tolist(), "truth": truth.tolist(),
                             "resolution": {"half_map": found["half_map"], "truth": found["truth"]}},
        },
        "poses": {f"half{half}": {"rotation_degrees": spread, "shift": None} for half in (1, 2)},
        "quality_over_time": {
            "area": area,
            "time_to_target": [{"target": a, "seconds": b, "images_seen": c} for a, b, c in targets],
        },
        "options": {"mask": "auto", "bootstrap_draws": 400},
        "warnings": ["the mask cuts the particle"],
    }  # fmt: skip


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


def build_bare_map(directory: Path) -> dict[str, Any]:
    """What is left by the evaluation of a map of another program: a result without a run, and the map."""
    directory.mkdir()
    box, voxel_size = 24, 10.0
    volume = chain(box, voxel_size)
    curves = {"truth": fsc(volume, volume + 0.3 * torch.roll(volume, 3, 0))}
    result = make_result(curves, box, voxel_size, truth=False, history=False, oracle=False)
    absent = ("params", "scenario", "seed", "dataset", "particles", "snr", "noise", "cost", "provenance", "over_time")
    result |= dict.fromkeys(absent) | {"method": "other.mrc", "specimen": "truth.mrc"}
    result["alignment"] |= {"half2_to_half1": None, "mean_to_truth": result["alignment"]["half2_to_half1"]}
    (directory / "result.json").write_text(json.dumps(result, sort_keys=True))
    write_map(directory / "mean.mrc", volume, voxel_size)
    write_map(directory / "truth.mrc", 7 * volume + 3, voxel_size)
    return result


def drawing(path: Path, name: str) -> dict[str, Any]:
    """The data of a figure as the page holds it."""
    found = re.search(rf'^  "{name}": (.*?),?$', path.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return json.loads(found[1])


def values(coded: Any) -> np.ndarray:
    flat = np.frombuffer(base64.b64decode(coded["bdata"]), dtype=coded["dtype"])
    return flat.reshape([int(n) for n in coded.get("shape", str(len(flat))).split(",")])
