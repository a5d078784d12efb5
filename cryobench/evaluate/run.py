"""A run's stores measured: half-maps against each other and the truth, into ``result.json`` and three maps."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from cryobench.conventions import HALVES
from cryobench.dataset.store import digest, open_predicted, open_store
from cryobench.errors import InputError, StoreError
from cryobench.evaluate.align import align
from cryobench.evaluate.fsc import fsc, resolutions, spatial_frequencies
from cryobench.evaluate.move import Alignment, apply
from cryobench.interop.mrc import write_map
from cryobench.machine import torch_threads
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.types import Curve, Volume

SCHEMA_VERSION: Final = 1
COSTS: Final = ("wall_seconds", "cpu_seconds", "gpu_seconds", "peak_memory_bytes", "steps")

TRUTH_CURVES: Final = {"mean": "truth", "half1": "truth_half1", "half2": "truth_half2"}
SNRS: Final = {"native": "snr_db", "working": "working_snr_db"}


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and the maps that it was measured on.

    Attributes:
        result: the content of ``result.json``.
        half1: volume of half 1 as the method returned it; all maps are in its frame.
        half2: volume of half 2 superposed on half 1.
        mean: of half 1 and the superposed half 2, which is scaled to half 1 by least squares first.
        voxel_size: angstrom.
    """

    result: dict[str, Any]
    half1: Volume
    half2: Volume
    mean: Volume
    voxel_size: float


def evaluate(directory: Path, truth_map: tuple[Volume, float] | None = None) -> dict[str, Any]:
    """Measure the run in ``directory`` and write ``result.json``, ``half1.mrc``, ``half2.mrc`` and ``mean.mrc`` into it.

    Args:
        directory: with ``observed.zarr``, ``predicted.zarr`` and, for simulated data, ``truth.zarr``.
        truth_map: a volume and its voxel size in angstrom to take as the truth instead.

    Returns:
        The content of ``result.json``.

    Raises:
        StoreError: if a store is missing, unfinished, or made from other data.
        InputError: if the truth has another box or voxel size.
    """
    truth = directory / "truth.zarr"
    evaluation = evaluate_stores(
        directory / "predicted.zarr", directory / "observed.zarr", truth if truth.exists() else None, truth_map
    )
    write_result(evaluation, directory)
    return evaluation.result


def write_result(evaluation: Evaluation, directory: Path) -> None:
    """Write ``result.json`` and the maps: half 1 as it is, half 2 superposed on it, and their mean, all in one frame."""
    for name in ("half1", "half2", "mean"):
        write_map(directory / f"{name}.mrc", getattr(evaluation, name), evaluation.voxel_size)
    text = json.dumps(evaluation.result, indent=1, sort_keys=True, allow_nan=False)
    partial = directory / "result.json.partial"
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, directory / "result.json")


def evaluate_stores(
    predicted: Path, observed: Path, truth: Path | None, truth_map: tuple[Volume, float] | None = None
) -> Evaluation:
    """Measure what a method returned, on the CPU, in one thread: the same stores give the same result, byte for byte.

    Half 2 is superposed on half 1, and only half 2 is interpolated. The truth, which is free of noise, is superposed on
    the mean map and on each half of its own accord, so that no map is interpolated to be compared with it; what is
    reported is the inverse, how the map would be moved onto the truth.

    Args:
        predicted: path of ``predicted.zarr``.
        observed: path of ``observed.zarr``.
        truth: path of ``truth.zarr``, if there is one.
        truth_map: a volume and its voxel size in angstrom to take as the truth instead.

    Raises:
        StoreError: if a store is missing, unfinished, or made from other data.
        InputError: if the truth has another box or voxel size.
    """
    attrs, halves = open_predicted(predicted)
    observed_set = open_store(observed, "observed")
    truth_set = None if truth is None else open_store(truth, "truth")
    _check_kinship(attrs, observed_set, truth_set)
    voxel_size, symmetry = float(attrs["voxel_size"]), str(attrs["symmetry"])
    volumes = {half: _read_volume(halves[half]["volume"].values, f"half {half}") for half in HALVES}
    truth_volume = _find_truth(truth_set, truth_map, volumes[1].shape[-1], voxel_size)
    with torch_threads(1):
        measured, half2, mean = _measure(volumes, halves, truth_volume, voxel_size, symmetry)
    truth_attrs: dict[str, Any] = {} if truth_set is None else dict(truth_set.attrs)
    particles = observed_set["half"].values
    result = {
        "schema": SCHEMA_VERSION,
        "method": attrs["method"],
        "params": attrs["params"],
        "scenario": truth_attrs.get("scenario", {}).get("name"),
        "specimen": truth_attrs.get("specimen"),
        "seed": attrs["seed"],
        "budget_seconds": attrs.get("budget_seconds"),
        "dataset": {"seed": truth_attrs["seed"], "scenario": truth_attrs["scenario"]} if truth_attrs else None,
        "symmetry": symmetry,
        "oracle_poses": bool(attrs["oracle_poses"]),
        "particles": {f"half{half}": int((particles == half).sum()) for half in HALVES},
        "snr": {f"{place}_db": _rounded(truth_attrs.get(name)) for place, name in SNRS.items()}
        if truth_attrs
        else None,
        "noise": observed_set.attrs["noise_note"],
        "cost": _rounded(_cost(halves, bool(attrs.get("side_by_side")))),
        "provenance": attrs["provenance"],
        **_rounded(measured),
    }
    return Evaluation(result, volumes[1], half2, mean, voxel_size)


def _measure(
    volumes: Mapping[int, Volume],
    halves: Mapping[int, xr.Dataset],
    truth: Volume | None,
    voxel_size: float,
    symmetry: str,
) -> tuple[dict[str, Any], Volume, Volume]:
    box = volumes[1].shape[-1]
    between = align(volumes[2], volumes[1], voxel_size, symmetry)
    half2 = apply(between, volumes[2])
    mean = _mean(volumes[1], half2)
    maps = {"mean": mean, "half1": volumes[1], "half2": volumes[2]}
    curves: dict[str, Curve | None] = {
        "half_map": _correlate(volumes[1], half2),
        **dict.fromkeys(TRUTH_CURVES.values()),
    }
    alignments: dict[str, Alignment | None] = {
        "half2_to_half1": between,
        **dict.fromkeys(f"{name}_to_truth" for name in maps),
    }
    truths: dict[str, Volume] = {}
    if truth is not None:
        for name, volume in maps.items():
            found = align(truth, volume, voxel_size, symmetry)
            truths[name] = apply(found, truth)
            alignments[f"{name}_to_truth"] = found.inverse()
            curves[TRUTH_CURVES[name]] = _correlate(volume, truths[name])
    measured = {
        "voxel_size": voxel_size,
        "box": box,
        "resolution": {
            name: curve if curve is None else _resolutions(curve, box, voxel_size) for name, curve in curves.items()
        },
        "fsc": {
            "shell": list(range(box // 2 + 1)),
            "spatial_frequency": spatial_frequencies(box, voxel_size).tolist(),
            **{name: curve if curve is None else curve.tolist() for name, curve in curves.items()},
        },
        "alignment": {name: None if found is None else _describe(found) for name, found in alignments.items()},
        "over_time": _over_time(halves, truths, between, voxel_size),
    }
    return measured, half2, mean


def _over_time(
    halves: Mapping[int, xr.Dataset], truths: Mapping[str, Volume], between: Alignment, voxel_size: float
) -> dict[str, Any]:
    """Resolution of every snapshot, superposed as the final volumes are."""
    snapshots = {half: list(_snapshots(halves[half])) for half in HALVES}

    def resolve(a: Volume, b: Volume) -> dict[str, Any]:
        return _resolutions(_correlate(a, b), a.shape[-1], voxel_size)

    over_time: dict[str, Any] = {
        f"half{half}": [
            {
                "seconds": seconds,
                "images_seen": images,
                "truth": resolve(volume, truths[f"half{half}"]) if truths else None,
            }
            for seconds, images, volume in snapshots[half]
        ]
        for half in HALVES
    }
    over_time["half_map"] = [
        {
            "seconds": max(first[0], second[0]),
            "images_seen": max(first[1], second[1]),
            "half_map": resolve(first[2], apply(between, second[2])),
        }
        for first, second in zip(snapshots[1], snapshots[2], strict=False)  # a half may have been stopped earlier
    ]
    return over_time


def _snapshots(half: xr.Dataset) -> Iterator[tuple[float, int, Volume]]:
    if "snapshots" not in half:
        return
    for i, seconds in enumerate(half["snapshot_seconds"].values):
        volume = _read_volume(half["snapshots"][i].values, f"snapshot {i}")
        yield float(seconds), int(half["snapshot_images_seen"][i]), volume


def _correlate(a: Volume, b: Volume) -> Curve:
    """FSC, and 0 in every shell for a volume that is empty still."""
    if a.any() and b.any():
        return fsc(a, b)
    return torch.zeros(a.shape[-1] // 2 + 1, dtype=torch.float64)


def _mean(half1: Volume, half2: Volume) -> Volume:
    """Mean of half 1 and half 2 scaled to it by least squares."""
    centred1, centred2 = half1 - half1.mean(), half2 - half2.mean()
    power = (centred2 * centred2).sum()
    scale = (centred1 * centred2).sum() / power if power > 0 else 1.0
    return (half1 + scale * half2) / 2


def _resolutions(curve: Curve, box: int, voxel_size: float) -> dict[str, dict[str, Any]]:
    return {threshold: asdict(found) for threshold, found in resolutions(curve, box, voxel_size).items()}


def _describe(alignment: Alignment) -> dict[str, Any]:
    return {
        "rotation_degrees": math.degrees(alignment.angle),
        "quaternion": list(alignment.rotation),
        "shift": list(alignment.shift),
        "mirrored": alignment.mirrored,
        "correlation": alignment.correlation,
        "correlation_other_hand": alignment.correlation_other_hand,
    }


def _cost(halves: Mapping[int, xr.Dataset], side_by_side: bool) -> dict[str, Any]:
    cost: dict[str, Any] = {f"half{half}": {name: halves[half].attrs[name] for name in COSTS} for half in HALVES}
    seconds = [cost[f"half{half}"]["wall_seconds"] for half in HALVES]
    return {**cost, "side_by_side": side_by_side, "total_wall_seconds": max(seconds) if side_by_side else sum(seconds)}


def _find_truth(
    truth: xr.Dataset | None, truth_map: tuple[Volume, float] | None, box: int, voxel_size: float
) -> Volume | None:
    """The truth at the predicted box: the map as it is, or the native volume of the store cut in Fourier space."""
    if truth_map is not None:
        volume, found = truth_map
        if tuple(volume.shape) != (box,) * 3 or abs(found / voxel_size - 1) > 1e-4:
            raise InputError(
                f"expected a truth of {box} voxels a side at {voxel_size:g} Å, got {tuple(volume.shape)} at {found:g} Å; "
                "resample it first"
            )
        return _read_volume(volume.detach().cpu().numpy(), "truth map")
    if truth is None:
        return None
    volume, native = _read_volume(truth["volume"].values, "truth"), float(truth.attrs["voxel_size"])
    side = volume.shape[-1] * native
    if abs(side / (box * voxel_size) - 1) > 1e-4 or volume.shape[-1] < box:
        raise InputError(
            f"expected a truth of at least {box} voxels a side over {box * voxel_size:g} Å, the field of view of the "
            f"predicted volumes, got {volume.shape[-1]} over {side:g} Å"
        )
    return fourier_crop_volumes(volume, box)


def _check_kinship(attrs: Mapping[str, Any], observed: xr.Dataset, truth: xr.Dataset | None) -> None:
    if attrs["observed_digest"] != digest(observed):
        raise StoreError("predicted.zarr was made from another observed.zarr than the one given; reconstruct again")
    if truth is not None and observed.attrs.get("truth_digest") != digest(truth, salt=str(truth.attrs["salt"])):
        raise StoreError("truth.zarr is not the truth of observed.zarr; simulate both into one directory")


def _read_volume(values: NDArray[Any], name: str) -> Volume:
    if not np.isfinite(values).all():
        raise InputError(f"expected finite densities, the volume of {name} holds NaN or infinity; reconstruct it again")
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _rounded(value: Any) -> Any:
    """Floats cut to six significant digits, all the way down; what is not finite becomes None."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
