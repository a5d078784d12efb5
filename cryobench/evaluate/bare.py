"""A bare map from any program measured as a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cryobench.dataset.store import open_store
from cryobench.errors import InputError
from cryobench.evaluate.describe import rounded
from cryobench.evaluate.measure import find_warnings, measure
from cryobench.evaluate.options import Options
from cryobench.evaluate.run import SCHEMA_VERSION, Evaluation
from cryobench.evaluate.stores import read_map_at, read_truth_store
from cryobench.evaluate.superpose import superpose
from cryobench.evaluate.yardsticks import measure_yardsticks
from cryobench.interop.mrc import read_map
from cryobench.machine import torch_threads
from cryobench.types import Volume


def evaluate_map(
    map_path: Path,
    truth_path: Path,
    halves: tuple[Path, Path] | None = None,
    symmetry: str = "C1",
    method: str | None = None,
    options: Options | None = None,
) -> Evaluation:
    """Measure a map of any program against a truth, and its half-maps against each other.

    The truth is moved onto the map; the map is never interpolated. Half 2 is superposed on half 1, and only for the comparison of
    the two. What a bare map cannot tell (parameters, cost, images) is None in the result.

    Args:
        map_path: an MRC or CCP4 map, its voxel size in the header.
        truth_path: a map of the same box and voxel size (or any, with ``options.resample``), or a ``truth.zarr`` of the same
            field of view.
        halves: the two half-maps, on the grid of the map.
        symmetry: point group, main axis on z.
        method: what to call it; the file's name where None.
        options: how to compare.

    Raises:
        InputError: if a file cannot be read, states no voxel size, holds NaN, is empty, or lies on another grid.
        StoreError: if the truth store is missing, unfinished or damaged.
    """
    options = options or Options()
    volume, voxel_size = _read(map_path)
    box = volume.shape[-1]
    notes: list[str] = []
    truth, specimen = _read_truth(truth_path, box, voxel_size, options.resample, notes)
    half_maps = None
    if halves is not None:
        first, second = (read_map_at(path, box, voxel_size, False, "half-map")[0] for path in halves)
        half_maps = (first, second)
    with torch_threads(1):
        superposed = superpose(half_maps, volume, truth, voxel_size, symmetry)
        measured = measure(superposed, voxel_size, symmetry, options)
        yardsticks = measure_yardsticks(truth, box, voxel_size, symmetry) if options.yardsticks else None
    result: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "method": method or map_path.name,
        "specimen": specimen,
        "symmetry": symmetry,
        "oracle_poses": False,
        **dict.fromkeys(
            ("params", "scenario", "seed", "budget_seconds", "dataset", "particles", "snr", "noise", "cost")
        ),
        **dict.fromkeys(("provenance", "over_time", "quality_over_time", "poses")),
        **rounded({**measured, "yardsticks": yardsticks}),
        "warnings": [*notes, *find_warnings(measured)],
    }
    return Evaluation(result, superposed.maps, voxel_size)


def _read(path: Path) -> tuple[Volume, float]:
    file = read_map(path)
    if len(set(file.volume.shape)) != 1:
        raise InputError(f"expected a cubic map in {path}, got {file.volume.shape}; cut or pad it to a cube")
    if not file.voxel_size > 0:
        raise InputError(f"expected a voxel size in the header of {path}, found none; set it in the file")
    if not file.volume.any():
        raise InputError(f"expected densities in {path}, every voxel is zero")
    return torch.from_numpy(file.volume).double(), file.voxel_size


def _read_truth(path: Path, box: int, voxel_size: float, resample: bool, notes: list[str]) -> tuple[Volume, str | None]:
    if path.is_dir():
        store = open_store(path, "truth")
        return read_truth_store(store, box, voxel_size), store.attrs.get("specimen")
    truth, note = read_map_at(path, box, voxel_size, resample, "truth")
    if not truth.any():
        raise InputError(f"expected densities in {path}, every voxel is zero")
    notes += [note] if note else []
    return truth, path.name
