"""A run's stores measured: half-maps against each other and the truth, into ``result.json`` and three maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from cryobench.conventions import HALVES
from cryobench.dataset.store import digest, open_predicted, open_store
from cryobench.errors import StoreError
from cryobench.evaluate.describe import digest_volume, rounded
from cryobench.evaluate.export import write_fsc_curves
from cryobench.evaluate.measure import measure
from cryobench.evaluate.options import Options
from cryobench.evaluate.poses import measure_poses
from cryobench.evaluate.snapshots import measure_over_time
from cryobench.evaluate.stores import (
    check_kinship,
    read_estimated_poses,
    read_snapshots,
    read_true_poses,
    read_truth_store,
    read_volume,
)
from cryobench.evaluate.superpose import Superposed, superpose
from cryobench.evaluate.truth import GivenTruth, read_truth
from cryobench.evaluate.warn import find_warnings
from cryobench.evaluate.yardsticks import measure_yardsticks
from cryobench.interop.atomic import written_whole
from cryobench.interop.mrc import write_map
from cryobench.machine import torch_threads
from cryobench.types import Volume

SCHEMA_VERSION: Final = 1
COSTS: Final = ("wall_seconds", "cpu_seconds", "gpu_seconds", "peak_memory_bytes", "steps")
MAPS: Final = frozenset({"half1", "half2", "mean", "truth"})
SNRS: Final = {"native": "snr_db", "working": "working_snr_db"}


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and the maps that it was measured on.

    Attributes:
        result: the content of ``result.json``.
        maps: by name, all in the frame of ``half1``: ``half1`` as the method returned it, ``half2`` superposed on it,
            ``mean``, of half 1 and the superposed half 2, brought to the same standard deviation first, and ``truth``, superposed
            on the mean, where there is one.
        voxel_size: angstrom.
    """

    result: dict[str, Any]
    maps: Mapping[str, Volume]
    voxel_size: float


def evaluate(directory: Path, truth: str | Path | None = None, options: Options | None = None) -> dict[str, Any]:
    """Measure the run in ``directory`` and write ``result.json``, maps and curves into it, see :func:`write_result`.

    Args:
        directory: with ``observed.zarr``, ``predicted.zarr`` and, for simulated data, ``truth.zarr``; what was reconstructed
            with the true poses, ``oracle.zarr``, is measured as a yardstick where it is there.
        truth: what to compare with where the dataset has no truth of its own, see :func:`cryobench.evaluate.truth.read_truth`.
        options: how to compare.

    Returns:
        The content of ``result.json``.

    Raises:
        StoreError: if a store is missing, unfinished, or made from other data, or there is a truth already.
        InputError: if the truth or a mask has another box or voxel size.
    """
    predicted, observed, own_truth, oracle = (
        directory / f"{name}.zarr" for name in ("predicted", "observed", "truth", "oracle")
    )
    if not predicted.exists():
        raise StoreError(
            f"expected a run directory with predicted.zarr at {directory}, found "
            f"{'none in it' if directory.is_dir() else 'nothing there'}; `cryobench reconstruct` makes one from a dataset"
        )
    if truth is not None and own_truth.exists():
        raise StoreError(f"{directory} has a truth of its own; --truth is for imported data and bare maps")
    evaluation = evaluate_stores(
        predicted,
        observed,
        own_truth if own_truth.exists() else None,
        given_truth=truth,
        options=options,
        oracle=oracle if oracle.exists() else None,
    )
    write_result(evaluation, directory)
    return evaluation.result


def write_result(evaluation: Evaluation, directory: Path) -> None:
    """Write ``result.json``, the maps in one frame, and the correlation curves for other programs.

    The maps are half 1 as it is, half 2 superposed on it, their mean, and the truth superposed on that. The curves are in
    ``fsc.csv`` and, as the XML that EMDB and ChimeraX read, a file each in the folder ``fsc``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, volume in evaluation.maps.items():
        write_map(directory / f"{name}.mrc", volume, evaluation.voxel_size)
    if (directory / "result.json").exists():
        for name in MAPS - evaluation.maps.keys():  # of an earlier evaluation, which had a truth or halves
            (directory / f"{name}.mrc").unlink(missing_ok=True)
    write_fsc_curves(evaluation.result, directory)
    text = json.dumps(evaluation.result, indent=1, sort_keys=True, allow_nan=False)
    with written_whole(directory / "result.json") as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def evaluate_stores(
    predicted: Path,
    observed: Path,
    truth: Path | None = None,
    *,
    given_truth: str | Path | None = None,
    options: Options | None = None,
    oracle: Path | None = None,
) -> Evaluation:
    """Measure what a method returned, on the CPU, in one thread: the same stores give the same result, byte for byte.

    Args:
        predicted: path of ``predicted.zarr``.
        observed: path of ``observed.zarr``.
        truth: path of ``truth.zarr``, if there is one.
        given_truth: a truth to compare with instead, see :func:`cryobench.evaluate.truth.read_truth`.
        options: how to compare.
        oracle: path of a predicted store of the same images that was made with the true poses, if there is one.

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
    truth_volume, given = None, None
    if given_truth is not None:
        given = read_truth(given_truth, box, voxel_size, options.resample)
        truth_volume = given.volume
    elif truth_set is not None:
        truth_volume = read_truth_store(truth_set, box, voxel_size)
    with torch_threads(1):
        superposed = superpose((first, second), None, truth_volume, voxel_size, symmetry)
        measured = measure(superposed, voxel_size, symmetry, options)
        snapshots = {half: list(read_snapshots(halves[half])) for half in HALVES}
        measured |= measure_over_time(snapshots, superposed, voxel_size)
        yardsticks = None
        if options.yardsticks:
            oracle_halves = None
            if oracle is not None and truth_set is not None:
                oracle_halves = _read_oracle(oracle, observed_set, truth_set)
            yardsticks = measure_yardsticks(truth_volume, box, voxel_size, symmetry, oracle_halves)
        poses = None
        if truth_set is not None and given is None:
            poses = _measure_poses(halves, observed_set, truth_set, superposed, symmetry)
    result = {
        "schema": SCHEMA_VERSION,
        **_describe_run(attrs, halves, observed_set, truth_set),
        **({} if given is None else {"specimen": given.specimen}),
        **describe_inputs(
            options,
            given,
            (first, second),
            truth_volume,
            observed=attrs["observed_digest"],
            truth_store=None if truth_set is None else digest(truth_set),
        ),
        **rounded({**measured, "yardsticks": yardsticks, "poses": poses}),
        "warnings": [*(() if given is None else given.notes), *find_warnings(measured, superposed)],
    }
    return Evaluation(result, maps_of(superposed), voxel_size)


def describe_inputs(
    options: Options,
    given: GivenTruth | None,
    halves: tuple[Volume, Volume] | None,
    truth: Volume | None,
    *,
    observed: str | None = None,
    truth_store: str | None = None,
) -> dict[str, Any]:
    """How it was evaluated, and digests of what.

    Args:
        options: how to compare.
        given: the truth where it is not the dataset's own.
        halves: the half-maps.
        truth: the volume that was compared with.
        observed: digest of the dataset.
        truth_store: digest of the dataset's own truth.
    """
    if truth_store is None and given is not None:
        truth_store = given.source.get("digest")
    one, two = (None, None) if halves is None else map(digest_volume, halves)
    return {
        "options": {**options.describe(), "truth": None if given is None else given.source},
        "digests": {
            "observed": observed,
            "half1": one,
            "half2": two,
            "truth": None if truth is None else digest_volume(truth),
            "truth_store": truth_store,
        },
    }


def maps_of(superposed: Superposed) -> dict[str, Volume]:
    """What is written: the maps, and the truth moved onto the mean map where there is one."""
    truth = superposed.truths.get("mean")
    return {**superposed.maps, **({} if truth is None else {"truth": truth})}


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
        "given_poses": attrs.get("given_poses"),
        "particles": {f"half{half}": int((particles == half).sum()) for half in HALVES},
        "snr": snr if truth_attrs else None,
        "noise": observed.attrs["noise_note"],
        "cost": rounded(_cost(halves, bool(attrs.get("side_by_side")))),
        "provenance": attrs["provenance"],
    }


def _read_oracle(path: Path, observed: xr.Dataset, truth: xr.Dataset) -> tuple[Volume, Volume]:
    """Half-maps made with the true poses of these very images."""
    attrs, halves = open_predicted(path)
    check_kinship(attrs, observed, truth, path.name)
    first, second = (read_volume(halves[half]["volume"].values, f"half {half} of {path.name}") for half in HALVES)
    return first, second


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
