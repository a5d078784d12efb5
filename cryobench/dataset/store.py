"""Creating, opening, validating and digesting stores: xarray over zarr v3 on disk."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from cryobench import __version__
from cryobench.conventions import CONVENTIONS
from cryobench.dataset.schema import (
    PARTICLES_PER_CHUNK,
    PARTICLES_PER_SHARD,
    REQUIRED_ATTRIBUTES,
    SCHEMAS,
    Kind,
    chunk_shape,
)
from cryobench.errors import StoreError

PREDICTED_FORMAT = "predicted"
MAKERS = {"observed": "simulate, import or run", "truth": "simulate or run", "predicted": "reconstruct or run"}


def versions() -> dict[str, str]:
    """Versions that decide a store's bytes."""
    import scipy
    import torch

    return {
        "cryobench": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "torch": torch.__version__,
        "zarr": zarr.__version__,
    }


def create_store(
    path: Path, kind: Kind, shapes: Mapping[str, tuple[int, ...]], attributes: Mapping[str, Any]
) -> zarr.Group:
    """Create an empty store of ``kind``, marked unfinished, with arrays of the given shapes and fill value zero.

    Args:
        path: of the new store; must not exist.
        kind: ``"observed"`` or ``"truth"``.
        shapes: of every variable to be written, by name.
        attributes: beyond the conventions and versions, which every store carries.

    Raises:
        StoreError: if something is at ``path`` already, or a variable is unknown or lacking.
    """
    schema = SCHEMAS[kind]
    lacking = [name for name, variable in schema.items() if variable.required and name not in shapes]
    lacking += [name for name in REQUIRED_ATTRIBUTES[kind] if name not in attributes]
    unknown = [name for name in shapes if name not in schema]
    if lacking or unknown:
        raise StoreError(
            f"a store of kind {kind!r} lacks {lacking or 'nothing'} and does not know {unknown or 'nothing else'}"
        )
    if path.exists():
        raise StoreError(f"expected nothing at {path}, found something; choose another place or remove it")
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for name, shape in shapes.items():
        variable = schema[name]
        sharded = "particle" in variable.dims and len(shape) == 3
        chunks = chunk_shape(variable.dims, shape, PARTICLES_PER_CHUNK)
        group.create_array(
            name,
            shape=shape,
            dtype=variable.dtype,
            chunks=chunks,
            shards=chunk_shape(variable.dims, shape, PARTICLES_PER_SHARD) if sharded else None,
            dimension_names=variable.dims,
            compressors=None if sharded else "auto",  # noise does not compress
            attributes={"units": variable.units, "description": variable.description},
        )
    group.attrs.update(
        {
            "cryobench_store": kind,
            "complete": False,
            "conventions": CONVENTIONS,
            "versions": versions(),
            **attributes,
        }
    )
    return group


@contextmanager
def build_store(
    path: Path, kind: Kind, shapes: Mapping[str, tuple[int, ...]], attributes: Mapping[str, Any]
) -> Iterator[zarr.Group]:
    """A new store as :func:`create_store` makes it, filled aside and renamed to ``path`` at the end.

    So a store that stands at ``path`` has all that was written inside the ``with``, however the process ended.
    """
    building = path.with_suffix(".building")
    shutil.rmtree(building, ignore_errors=True)
    yield create_store(building, kind, shapes, attributes)
    building.rename(path)


def open_unfinished(path: Path, kind: str) -> zarr.Group:
    """Open a store for completion, whole or not."""
    _check_present(path)
    group = zarr.open_group(path, mode="r+")
    if group.attrs.get("cryobench_store") != kind:
        raise StoreError(
            f"expected a store of kind {kind!r} at {path}, found kind {group.attrs.get('cryobench_store')!r}"
        )
    return group


def finish_store(group: zarr.Group) -> None:
    """Mark a store whole and gather its metadata in one file, so that plain ``xarray.open_zarr`` opens it fast."""
    group.attrs["complete"] = True
    with warnings.catch_warnings():
        # zarr warns that consolidated metadata is not yet in the version 3 specification; readers without it ignore it
        warnings.filterwarnings("ignore", message=".*onsolidated metadata", category=UserWarning)
        zarr.consolidate_metadata(group.store, path=group.path)


def put(group: zarr.Group, name: str, values: NDArray[Any], start: int = 0) -> None:
    """Write ``values`` into an array of a store, from row ``start`` on."""
    array = group[name]
    assert isinstance(array, zarr.Array)
    array[start : start + len(values)] = values


def shards(particles: int) -> Iterator[tuple[int, int]]:
    """First and one-past-last particle of every shard."""
    for start in range(0, particles, PARTICLES_PER_SHARD):
        yield start, min(start + PARTICLES_PER_SHARD, particles)


def has_shard(path: Path, start: int) -> bool:
    """Whether the shard of images that begins at particle ``start`` was written (zarr renames a shard into place whole)."""
    return (path / "images" / "c" / str(start // PARTICLES_PER_SHARD) / "0" / "0").is_file()


def _check_present(path: Path) -> None:
    if not (path / "zarr.json").is_file():
        raise StoreError(f"expected a zarr store at {path}, found {'something else' if path.exists() else 'nothing'}")


def _check_kind(attrs: Mapping[Any, Any], path: Path, kind: str) -> None:
    found = attrs.get("cryobench_store")
    if found != kind:
        raise StoreError(f"expected a store of kind {kind!r} at {path}, found kind {found!r}")
    if not attrs.get("complete"):
        raise StoreError(
            f"the store at {path} is unfinished: give the command that began it again ({MAKERS[kind]}), and it is completed"
        )


def open_store(path: Path, kind: Kind) -> xr.Dataset:
    """Open a whole store read-only and lazily, and check it against the schema.

    Raises:
        StoreError: if it is missing, unfinished, of another kind, or its variables are not what the schema says.
    """
    _check_present(path)
    dataset = xr.open_zarr(path, chunks=None, consolidated=False)
    _check_kind(dataset.attrs, path, kind)
    for name, variable in SCHEMAS[kind].items():
        if name not in dataset:
            if variable.required:
                raise StoreError(f"the store at {path} lacks the variable {name!r} {variable.dims}")
            continue
        found = dataset[name]
        if found.dims != variable.dims or found.dtype != np.dtype(variable.dtype):
            raise StoreError(
                f"expected {name!r} at {path} as {variable.dtype} over {variable.dims}, found {found.dtype} over {found.dims}"
            )
    missing = [name for name in REQUIRED_ATTRIBUTES[kind] if name not in dataset.attrs]
    if missing:
        raise StoreError(f"the store at {path} lacks the attributes {missing}")
    return dataset


def open_predicted(path: Path) -> tuple[dict[str, Any], dict[int, xr.Dataset]]:
    """Open what a method returned: the root attributes, and one dataset for each half."""
    _check_present(path)
    root = zarr.open_group(path, mode="r")
    attrs = dict(root.attrs)
    _check_kind(attrs, path, PREDICTED_FORMAT)
    return attrs, {half: xr.open_zarr(path, group=f"half{half}", chunks=None, consolidated=False) for half in (1, 2)}


def _blocks(array: xr.DataArray, rows: int = 1024) -> Iterator[NDArray[Any]]:
    for start in range(0, max(len(array), 1), rows):
        yield np.ascontiguousarray(array[start : start + rows].values)


def digest(dataset: xr.Dataset, salt: str = "") -> str:
    """SHA-256 of the decoded arrays (names, dtypes, shapes and values), in blocks: independent of chunks and compression."""
    sha = hashlib.sha256(salt.encode())
    for name in sorted(str(n) for n in dataset.data_vars):
        array = dataset[name]
        sha.update(f"{name}|{array.dtype}|{array.shape}|".encode())
        for block in _blocks(array):
            sha.update(block.tobytes())
    return sha.hexdigest()


def describe_dataset(path: Path) -> list[tuple[str, str]]:
    """What a dataset holds, in words; of a run directory, also what its truth says of SNR and specimen."""
    observed_path = path / "observed.zarr" if (path / "observed.zarr").exists() else path
    observed = open_store(observed_path, "observed")
    halves, box = observed["half"].values, observed.sizes["x"]
    voxel = observed.attrs["voxel_size"]
    defocus = (observed["defocus_u"].values + observed["defocus_v"].values) / 2
    rows = [
        ("particles", f"{len(halves)} ({(halves == 1).sum()} in half 1, {(halves == 2).sum()} in half 2)"),
        ("box", f"{box} px of {voxel:.4g} Å, {box * voxel:.1f} Å across; Nyquist {2 * voxel:.4g} Å"),
        ("micrographs", str(len(np.unique(observed["micrograph"].values)))),
        ("defocus", f"{defocus.min():.0f} to {defocus.max():.0f} Å, mean {defocus.mean():.0f} Å"),
        ("optics", f"{observed['voltage'].values[0]:g} kV, Cs {observed['spherical_aberration'].values[0]:g} mm"),
        ("symmetry", str(observed.attrs["symmetry"])),
        ("assumed poses", str(observed.attrs["assumed_pose"])),
        ("assumed shifts", str(observed.attrs["assumed_shift"])),
        ("poses given", "yes" if "given_rotation" in observed else "no"),
        ("noise", str(observed.attrs["noise_note"])),
        ("noise patches", str(observed.sizes["patch"])),
        ("digest", digest(observed)),
    ]
    truth_path = observed_path.parent / "truth.zarr"
    if truth_path.exists():
        attrs = open_store(truth_path, "truth").attrs
        native = (
            "no noise" if attrs["snr_db"] is None else f"{attrs['snr_db']:.2f} dB at {attrs['native_pixel_size']} Å"
        )
        working = "" if attrs.get("working_snr_db") is None else f", {attrs['working_snr_db']:.2f} dB at {voxel:.4g} Å"
        rows += [
            ("specimen", str(attrs["specimen"])),
            ("SNR", native + working),
            ("scenario", str(attrs["scenario"]["name"])),
        ]
    return rows
