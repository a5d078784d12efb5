"""A bare map from any program measured as a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cryobench.errors import InputError
from cryobench.evaluate.describe import describe_file, rounded
from cryobench.evaluate.measure import measure
from cryobench.evaluate.options import Options
from cryobench.evaluate.run import SCHEMA_VERSION, Evaluation, describe_inputs, maps_of
from cryobench.evaluate.stores import read_map_at
from cryobench.evaluate.superpose import superpose
from cryobench.evaluate.truth import read_truth
from cryobench.evaluate.warn import find_warnings
from cryobench.evaluate.yardsticks import measure_yardsticks
from cryobench.interop.mrc import read_map
from cryobench.machine import torch_threads
from cryobench.types import Volume

UNKNOWN = (
    "params", "scenario", "seed", "budget_seconds", "dataset", "particles", "snr", "noise", "cost", "provenance", "given_poses",
    "over_time", "quality_over_time", "poses",
)  # fmt: skip
"""What a bare map cannot tell."""


def evaluate_map(
    map_path: Path,
    truth: str | Path | None = None,
    halves: tuple[Path, Path] | None = None,
    symmetry: str = "C1",
    name: str | None = None,
    options: Options | None = None,
) -> Evaluation:
    """Measure a map of any program against a truth, and its half-maps against each other.

    The truth is moved onto the map; the map is never interpolated. Half 2 is superposed on half 1, and only for the comparison of
    the two. What a bare map cannot tell (:data:`UNKNOWN`) is None in the result.

    Args:
        map_path: an MRC or CCP4 map, its voxel size in the header.
        truth: see :func:`cryobench.evaluate.truth.read_truth`; may be None where there are half-maps.
        halves: the two half-maps, on the grid of the map.
        symmetry: point group, main axis on z.
        name: what to call it; the file's name where None.
        options: how to compare.

    Raises:
        InputError: if a file cannot be read, states no voxel size, holds NaN, is empty, or lies on another grid, or there is
            nothing to compare with.
        UnknownName: if there is no such truth.
        StoreError: if the truth store is missing, unfinished or damaged.
    """
    if truth is None and halves is None:
        raise InputError(
            f"expected something to compare {map_path} with, got none; give a truth with --truth, or its half-maps with --half1 "
            "and --half2"
        )
    options = options or Options()
    volume, voxel_size = _read(map_path)
    box = volume.shape[-1]
    given = None if truth is None else read_truth(truth, box, voxel_size, options.resample)
    half_maps = None
    if halves is not None:
        first, second = (
            read_map_at(path, box, voxel_size, False, f"half-map {number}")[0] for number, path in enumerate(halves, 1)
        )
        half_maps = (first, second)
    true_volume = None if given is None else given.volume
    with torch_threads(1):
        superposed = superpose(half_maps, volume, true_volume, voxel_size, symmetry)
        measured = measure(superposed, voxel_size, symmetry, options)
        yardsticks = measure_yardsticks(true_volume, box, voxel_size, symmetry) if options.yardsticks else None
    files = {"map": map_path} | ({} if halves is None else {"half1": halves[0], "half2": halves[1]})
    result: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "method": name or map_path.name,
        "specimen": None if given is None else given.specimen,
        "symmetry": symmetry,
        "oracle_poses": False,
        **dict.fromkeys(UNKNOWN),
        "files": {what: describe_file(path) for what, path in files.items()},
        **describe_inputs(options, given, half_maps, true_volume),
        **rounded({**measured, "yardsticks": yardsticks}),
        "warnings": [*(() if given is None else given.notes), *find_warnings(measured, superposed)],
    }
    return Evaluation(result, maps_of(superposed), voxel_size)


def _read(path: Path) -> tuple[Volume, float]:
    file = read_map(path)
    if len(set(file.volume.shape)) != 1:
        raise InputError(f"expected a cubic map in {path}, got {file.volume.shape}; cut or pad it to a cube")
    if not file.voxel_size > 0:
        raise InputError(f"expected a voxel size in the header of {path}, found none; set it in the file")
    if not file.volume.max() > file.volume.min():
        raise InputError(f"expected densities in {path}, every voxel is {file.volume.max():g}")
    return torch.from_numpy(file.volume).double(), file.voxel_size
