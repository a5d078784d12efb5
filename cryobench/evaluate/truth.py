"""A truth that is given, and not the dataset's own: a specimen by name, a file, or the truth store of another dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from cryobench.dataset.store import digest, open_store
from cryobench.errors import InputError
from cryobench.evaluate.describe import describe_file
from cryobench.evaluate.stores import SAME_VOXEL, read_truth_store
from cryobench.specimens.catalogue import files_of, find
from cryobench.specimens.maps import DensityMap
from cryobench.types import Volume


@dataclass(frozen=True)
class GivenTruth:
    """A truth on the grid of the maps.

    Attributes:
        volume: ``(z, y, x)``, float64.
        specimen: its name.
        source: where it came from, as ``result.json`` states it: files by name and SHA-256, a store by its digest.
        notes: what was done to it, and what it therefore cannot show, as sentences.
    """

    volume: Volume
    specimen: str
    source: dict[str, Any]
    notes: tuple[str, ...]


def read_truth(truth: str | Path, box: int, voxel_size: float, resample: bool) -> GivenTruth:
    """The truth that a user names, on the grid of the maps.

    An atomic model is drawn on that grid. A map that lies on another is refused, or put on it where that is asked for.

    Args:
        truth: a specimen as ``specimen show`` takes it (a name, ``pdb:5A1A``, ``emdb:3197``, a file, options after commas), or a
            ``truth.zarr``.
        box: voxels along a side.
        voxel_size: angstrom.
        resample: put a map of another grid onto this one.

    Raises:
        UnknownName: if there is no such specimen.
        InputError: if it cannot be read, states no voxel size, holds NaN, is empty, or lies on another grid.
        StoreError: if a truth store is missing, unfinished or damaged.
    """
    path, notes = Path(truth).expanduser(), tuple[str, ...]()
    source: dict[str, Any]
    if path.is_dir():
        store = open_truth(path)
        source = {"name": path.name, "digest": digest(store)}
        volume, specimen = read_truth_store(store, box, voxel_size), str(store.attrs["specimen"])
    else:
        found = find(str(truth))
        specimen = found.name
        source = {"name": found.name, "files": [describe_file(file) for file in files_of(str(truth))]}
        if isinstance(found, DensityMap):
            volume, notes = _read_map(found, box, voxel_size, resample)
        else:
            volume = found.density(box, voxel_size).double()
    if not bool(volume.max() > volume.min()):
        raise InputError(f"expected densities in the truth {truth}, every voxel is {float(volume.max()):g}")
    return GivenTruth(volume, specimen, source, notes)


def open_truth(path: Path) -> xr.Dataset:
    """A truth store, or that of the dataset in a directory.

    Raises:
        StoreError: if it is missing, unfinished or damaged.
    """
    return open_store(path / "truth.zarr" if (path / "truth.zarr").is_dir() else path, "truth")


def _read_map(found: DensityMap, box: int, voxel_size: float, resample: bool) -> tuple[Volume, tuple[str, ...]]:
    shape, sizes = found.file.volume.shape, found.voxel_sizes
    if shape == (box,) * 3 and max(abs(size / voxel_size - 1) for size in sizes) <= SAME_VOXEL:
        return torch.from_numpy(found.file.volume).double(), ()
    if not resample:
        raise InputError(
            f"expected a truth of {box} voxels a side at {voxel_size:g} Å, got {shape} at {float(np.mean(sizes)):g} Å; "
            "resample it first, or ask for it with --resample"
        )
    return found.density(box, voxel_size).double(), tuple(_shortcomings(found, box, voxel_size))


def _shortcomings(found: DensityMap, box: int, voxel_size: float) -> Iterator[str]:
    sizes, counts = found.voxel_sizes, found.file.volume.shape[::-1]
    said = " x ".join(str(n) for n in counts)
    coarsest = max(sizes)
    yield f"the truth was resampled from {said} voxels of {float(np.mean(sizes)):.4g} Å to {box} of {voxel_size:.4g} Å"
    if coarsest > voxel_size * (1 + SAME_VOXEL):
        yield (
            f"the truth was sampled at {coarsest:.4g} Å and holds nothing finer than {2 * coarsest:.4g} Å: what a map resolves "
            "beyond cannot be seen against it"
        )
    covered = min(n * size for n, size in zip(counts, sizes, strict=True))
    if covered < box * voxel_size * (1 - SAME_VOXEL):
        yield f"the truth is {covered:.4g} Å across, the maps {box * voxel_size:.4g} Å; around it counts as empty"
