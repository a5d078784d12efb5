"""What an evaluation reads: volumes, truth and poses from the stores of a run, checked to belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.dataset.store import digest
from cryobench.errors import InputError, StoreError
from cryobench.interop.mrc import read_map
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.specimens.maps import DensityMap
from cryobench.types import Volume

SAME_VOXEL = 1e-4
Poses = tuple[NDArray[np.float64], NDArray[np.float64] | None]


def check_kinship(
    attrs: Mapping[str, Any], observed: xr.Dataset, truth: xr.Dataset | None, name: str = "predicted.zarr"
) -> None:
    """Refuse stores that were not made from one another.

    Raises:
        StoreError: if they were not.
    """
    if attrs["observed_digest"] != digest(observed):
        raise StoreError(f"{name} was made from another observed.zarr than the one given; reconstruct again")
    if truth is not None and observed.attrs.get("truth_digest") != digest(truth, salt=str(truth.attrs["salt"])):
        raise StoreError("truth.zarr is not the truth of observed.zarr; simulate both into one directory")


def read_volume(values: NDArray[Any], name: str) -> Volume:
    """A stored volume in double precision.

    Raises:
        InputError: if it holds NaN or infinity.
    """
    if not np.isfinite(values).all():
        raise InputError(f"expected finite densities, the volume of {name} holds NaN or infinity; reconstruct it again")
    return torch.from_numpy(np.array(values, dtype=np.float64))


def read_snapshots(half: xr.Dataset) -> Iterator[tuple[float, int, Volume]]:
    """Seconds, images seen and volume of every snapshot of a half, in order."""
    if "snapshots" not in half:
        return
    for i, seconds in enumerate(half["snapshot_seconds"].values):
        volume = read_volume(half["snapshots"][i].values, f"snapshot {i}")
        yield float(seconds), int(half["snapshot_images_seen"][i]), volume


def read_estimated_poses(half: xr.Dataset) -> Poses | None:
    """Pose matrices and, where there are any, shifts in angstrom that a method returned for its half-set."""
    if "rotation" not in half:
        return None
    matrices = Rotation.from_quat(half["rotation"].values.astype(np.float64)).as_matrix()
    return matrices, half["shift"].values.astype(np.float64) if "shift" in half else None


def read_true_poses(truth: xr.Dataset, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same of the truth, for the particles chosen."""
    matrices = Rotation.from_quat(truth["rotation"].values[chosen]).as_matrix()
    return matrices, truth["shift"].values[chosen]


def read_truth_store(truth: xr.Dataset, box: int, voxel_size: float) -> Volume:
    """The native volume of a truth store cut in Fourier space to the box of what was reconstructed.

    Raises:
        InputError: if it has another field of view or fewer voxels.
    """
    volume, native = read_volume(truth["volume"].values, "truth"), float(truth.attrs["voxel_size"])
    side = volume.shape[-1] * native
    if abs(side / (box * voxel_size) - 1) > SAME_VOXEL or volume.shape[-1] < box:
        raise InputError(
            f"expected a truth of at least {box} voxels a side over {box * voxel_size:g} Å, the field of view of the "
            f"predicted volumes, got {volume.shape[-1]} over {side:g} Å"
        )
    return fourier_crop_volumes(volume, box)


def read_map_at(path: Path, box: int, voxel_size: float, resample: bool, name: str) -> tuple[Volume, str | None]:
    """A map file on the grid expected, and a sentence on what was done to put it there (None: nothing).

    Raises:
        InputError: if it cannot be read, states no voxel size, holds NaN, or lies on another grid and may not be resampled.
    """
    file = read_map(path)
    if not file.voxel_size > 0:
        raise InputError(f"expected a voxel size in the header of {path}, found none; set it in the file")
    volume = torch.from_numpy(file.volume)
    if tuple(volume.shape) == (box,) * 3 and abs(file.voxel_size / voxel_size - 1) <= SAME_VOXEL:
        return volume.double(), None
    if not resample:
        raise InputError(
            f"expected a {name} of {box} voxels a side at {voxel_size:g} Å, got {tuple(volume.shape)} at "
            f"{file.voxel_size:g} Å in {path}; resample it first, or ask for it with --resample where it may be"
        )
    said = " x ".join(str(n) for n in volume.shape[::-1])
    note = f"the {name} was resampled from {said} voxels of {file.voxel_size:.4g} Å to {box} of {voxel_size:.4g} Å"
    return DensityMap(name, path).density(box, voxel_size).double(), note
