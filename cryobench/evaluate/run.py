"""A run's stores measured: half-maps against each other and the truth, into ``result.json`` and three maps."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from cryobench.conventions import HALVES
from cryobench.dataset.store import open_predicted, open_store
from cryobench.evaluate.describe import rounded
from cryobench.evaluate.measure import find_warnings, measure
from cryobench.evaluate.options import Options
from cryobench.evaluate.poses import measure_poses
from cryobench.evaluate.snapshots import measure_over_time
from cryobench.evaluate.stores import (
    check_grid,
    check_kinship,
    read_estimated_poses,
    read_snapshots,
    read_true_poses,
    read_truth_store,
    read_volume,
)
from cryobench.evaluate.superpose import Superposed, superpose
from cryobench.evaluate.yardsticks import measure_yardsticks
from cryobench.interop.mrc import write_map
from cryobench.machine import torch_threads
from cryobench.types import Volume

SCHEMA_VERSION: Final = 1
COSTS: Final = ("wall_seconds", "cpu_seconds", "gpu_seconds", "peak_memory_bytes", "steps")
SNRS: Final = {"native": "snr_db", "working": "working_snr_db"}


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and the maps that it was measured on.

    Attributes:
        result: the content of ``result.json``.
        maps: by name, all in the frame of ``half1``: ``half1`` as the method returned it, ``half2`` superposed on it, and
            ``mean``, of half 1 and the superposed half 2, brought to the same standard deviation first.
        voxel_size: angstrom.
    """

    result: dict[str, Any]
    maps: Mapping[str, Volume]
    voxel_size: float


def evaluate(
    directory: Path, truth_map: tuple[Volume, float] | None = None, options: Options | None = None
) -> dict[str, Any]:
    """Measure the run in ``directory`` and write ``result.json``, ``half1.mrc``, ``half2.mrc`` and ``mean.mrc`` into it.

    Args:
        directory: with ``observed.zarr``, ``predicted.zarr`` and, for simulated data, ``truth.zarr``.
        truth_map: a volume and its voxel size in angstrom to take as the truth instead.
        options: how to compare.

    Returns:
        The content of ``result.json``.

    Raises:
        StoreError: if a store is missing, unfinished, or made from other data.
        InputError: if the truth or a mask has another box or voxel size.
    """
    truth = directory / "truth.zarr"
    evaluation = evaluate_stores(
        directory / "predicted.zarr", directory / "observed.zarr", truth if truth.exists() else None, truth_map, options
    )
    write_result(evaluation, directory)
    return evaluation.result


def write_result(evaluation: Evaluation, directory: Path) -> None:
    """Write ``result.json`` and the maps: half 1 as it is, half 2 superposed on it, and their mean, all in one frame."""
    for name, volume in evaluation.maps.items():
        write_map(directory / f"{name}.mrc", volume, evaluation.voxel_size)
    text = json.dumps(evaluation.result, indent=1, sort_keys=True, allow_nan=False)
    partial = directory / "result.json.partial"
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, directory / "result.json")


def evaluate_stores(
    predicted: Path,
    observed: Path,
    truth: Path | None,
    truth_map: tuple[Volume, float] | None = None,
    options: Options | None = None,
) -> Evaluation:
    """Measure what a method returned, on the CPU, in one thread: the same stores give the same result, byte for byte.

    Args:
        predicted: path of ``predicted.zarr``.
        observed: path of ``observed.zarr``.
        truth: path of ``truth.zarr``, if there is one.
        truth_map: a volume and its voxel size in angstrom to take as the truth instead.
        options: how to compare.

    Raises:
        StoreError: if a store is missing, unfinished, or made from other data.
        InputError: if the truth or a mask has another box or voxel size.
    """
    options = options or Options()
    attrs, halves = open_predicted(predicted)
    observed_set = open_store(observed, "observed")
    truth_set = None if truth is None else open_store(truth, "truth")
    check_kinship(attrs, observed_set, truth_set)
    voxel_size, symmetry = float(attrs["voxel_size"]), str(attrs["symmetry"])
    first, second = (read_volume(halves[half]["volume"].values, f"half {half}") for half in HALVES)
    box = first.shape[-1]
    truth_volume = None
    if truth_map is not None:
        truth_volume = check_grid(*truth_map, box, voxel_size)
    elif truth_set is not None:
        truth_volume = read_truth_store(truth_set, box, voxel_size)
    with torch_threads(1):
        superposed = superpose((first, second), None, truth_volume, voxel_size, symmetry)
        measured = measure(superposed, voxel_size, symmetry, options)
        snapshots = {half: list(read_snapshots(halves[half])) for half in HALVES}
        measured |= measure_over_time(snapshots, superposed, voxel_size)
        yardsticks = measure_yardsticks(truth_volume, box, voxel_size, symmetry) if options.yardsticks else None
        poses = None
        if truth_set is not None and truth_map is None:
            poses = _measure_poses(halves, observed_set, truth_set, superposed, symmetry)
    result = {
        "schema": SCHEMA_VERSION,
        **_describe_run(attrs, halves, observed_set, truth_set),
        **rounded({**measured, "yardsticks": yardsticks, "poses": poses}),
        "warnings": find_warnings(measured),
    }
    return Evaluation(result, superposed.maps, voxel_size)


def _describe_run(
    attrs: Mapping[str, Any], halves: Mapping[int, xr.Dataset], observed: xr.Dataset, truth: xr.Dataset | None
) -> dict[str, Any]:
    """What was run, on what, and what it cost."""
    truth_attrs: dict[str, Any] = {} if truth is None else dict(truth.attrs)
    particles = observed["half"].values
    snr = {f"{place}_db": rounded(truth_attrs.get(name)) for place, name in SNRS.items()}
    return {
        "method": attrs["method"],
        "params": attrs["params"],
        "scenario": truth_attrs.get("scenario", {}).get("name"),
        "specimen": truth_attrs.get("specimen"),
        "seed": attrs["seed"],
        "budget_seconds": attrs.get("budget_seconds"),
        "dataset": {"seed": truth_attrs["seed"], "scenario": truth_attrs["scenario"]} if truth_attrs else None,
        "symmetry": str(attrs["symmetry"]),
        "oracle_poses": bool(attrs["oracle_poses"]),
        "particles": {f"half{half}": int((particles == half).sum()) for half in HALVES},
        "snr": snr if truth_attrs else None,
        "noise": observed.attrs["noise_note"],
        "cost": rounded(_cost(halves, bool(attrs.get("side_by_side")))),
        "provenance": attrs["provenance"],
    }


def _measure_poses(
    halves: Mapping[int, xr.Dataset], observed: xr.Dataset, truth: xr.Dataset, superposed: Superposed, symmetry: str
) -> dict[str, Any] | None:
    """Errors of the poses that a method returned, by half; None where it returned none."""
    found: dict[str, Any] = {}
    for half in HALVES:
        estimated = read_estimated_poses(halves[half])
        found[f"half{half}"] = None
        if estimated is not None:
            true = read_true_poses(truth, np.asarray(observed["half"].values == half))
            alignment = superposed.to_truth[f"half{half}"]
            found[f"half{half}"] = measure_poses(alignment, estimated, true, symmetry).summarise()
    return found if any(found.values()) else None


def _cost(halves: Mapping[int, xr.Dataset], side_by_side: bool) -> dict[str, Any]:
    cost: dict[str, Any] = {f"half{half}": {name: halves[half].attrs[name] for name in COSTS} for half in HALVES}
    seconds = [cost[f"half{half}"]["wall_seconds"] for half in HALVES]
    return {**cost, "side_by_side": side_by_side, "total_wall_seconds": max(seconds) if side_by_side else sum(seconds)}
