"""Opening, filling, finishing and digesting stores: xarray over zarr v3 on disk. New ones: :mod:`cryobench.dataset.create`."""

from __future__ import annotations

import hashlib
import json
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
from cryobench.conventions import HALVES
from cryobench.dataset.precision import encode
from cryobench.dataset.schema import (
    PARTICLES_PER_SHARD,
    REQUIRED_ATTRIBUTES,
    SCHEMAS,
    Kind,
)
from cryobench.errors import StoreError

PREDICTED_FORMAT = "predicted"
MAKERS = {
    "observed": "simulate, import or run",
    "truth": "simulate or run",
    "predicted": "reconstruct or run",
    "noise": "noise extract",
}


def versions() -> dict[str, str]:
    """Versions that decide a store's bytes."""
    import numba
    import scipy
    import torch

    return {
        "cryobench": __version__,
        "numba": numba.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "torch": torch.__version__,
        "zarr": zarr.__version__,
    }


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the store in the error where the disc is full or refuses.

    Raises:
        StoreError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"could not write {error.filename or path}: {error.strerror or error}; make room and give the same command again, "
            "which completes the store"
        ) from error


def open_unfinished(path: Path, kind: str) -> zarr.Group:
    """Open a store for completion, whole or not."""
    _check_present(path)
    with reading(path):
        group = zarr.open_group(path, mode="r+")
    if group.attrs.get("cryobench_store") != kind:
        raise StoreError(
            f"expected a store of kind {kind!r} at {path}, found kind {group.attrs.get('cryobench_store')!r}"
        )
    return group


def finish_store(group: zarr.Group) -> None:
    """Mark a store whole and gather its metadata in one file, so that plain ``xarray.open_zarr`` opens it fast."""
    with writing(Path(str(group.store_path))), warnings.catch_warnings():
        # zarr warns that consolidated metadata is not yet in the version 3 specification; readers without it ignore it
        warnings.filterwarnings("ignore", message=".*onsolidated metadata", category=UserWarning)
        gathered = zarr.consolidate_metadata(group.store, path=group.path)
        # one write of one file: a store that is marked whole has all of this
        attributes = {**gathered.attrs, "complete": True}
        gathered.attrs.update({"complete": True, "attributes_digest": attributes_digest(attributes)})


def attributes_digest(attributes: Mapping[str, Any]) -> str:
    """SHA-256 of a store's attributes but itself."""
    kept = {name: value for name, value in attributes.items() if name != "attributes_digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def put(group: zarr.Group, name: str, values: NDArray[Any], start: int = 0) -> None:
    """Write ``values`` into an array of a store, from row ``start`` on; images of half precision in the store's unit."""
    array = group[name]
    assert isinstance(array, zarr.Array)
    with writing(Path(str(array.store_path))):
        # a chunk of zeros is written like any other, so that one that is missing is known to be
        array.with_config({"write_empty_chunks": True})[start : start + len(values)] = encode(array, values)


def shards(particles: int) -> Iterator[tuple[int, int]]:
    """First and one-past-last particle of every shard."""
    for start in range(0, particles, PARTICLES_PER_SHARD):
        yield start, min(start + PARTICLES_PER_SHARD, particles)


def has_shard(path: Path, start: int) -> bool:
    """Whether the shard of images that begins at particle ``start`` was written (zarr renames a shard into place whole)."""
    return (path / "images" / "c" / str(start // PARTICLES_PER_SHARD) / "0" / "0").is_file()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the store in the error where its metadata or a chunk is damaged.

    Raises:
        StoreError: in place of what zarr raises.
    """
    try:
        yield
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise StoreError(
            f"the store at {path} is damaged ({type(error).__name__}: {error}); `cryobench dataset check` says where, and "
            "simulating into the same directory again repairs a simulated one"
        ) from error


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
    with reading(path):
        dataset = xr.open_zarr(path, chunks=None, consolidated=False)
    _check_kind(dataset.attrs, path, kind)
    for name, variable in SCHEMAS[kind].items():
        if name not in dataset:
            if variable.required:
                raise StoreError(f"the store at {path} lacks the variable {name!r} {variable.dims}")
            continue
        found = dataset[name]
        # images of half precision are decoded to float64 by their scale factor
        same = found.dtype == np.dtype(variable.dtype) or found.encoding.get("dtype") == np.float16
        if found.dims != variable.dims or not same:
            raise StoreError(
                f"expected {name!r} at {path} as {variable.dtype} over {variable.dims}, found {found.dtype} over {found.dims}"
            )
    missing = [name for name in REQUIRED_ATTRIBUTES[kind] if name not in dataset.attrs]
    if missing:
        raise StoreError(f"the store at {path} lacks the attributes {missing}")
    return dataset


def open_predicted(path: Path, halves: tuple[int, ...] = HALVES) -> tuple[dict[str, Any], dict[int, xr.Dataset]]:
    """Open what a method returned: the root attributes, and one dataset for each half."""
    _check_present(path)
    root = zarr.open_group(path, mode="r")
    attrs = dict(root.attrs)
    _check_kind(attrs, path, PREDICTED_FORMAT)
    return attrs, {half: xr.open_zarr(path, group=f"half{half}", chunks=None, consolidated=False) for half in halves}


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
