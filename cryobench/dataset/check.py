"""Is a store whole? Every chunk is there, passes its checksum, and holds finite numbers; every array is what the schema says."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from cryobench.dataset.schema import REQUIRED_ATTRIBUTES, SCHEMAS, Kind, Variable
from cryobench.dataset.store import attributes_digest, digest, open_store
from cryobench.errors import StoreError
from cryobench.machine import available_cores

UNREADABLE = (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, AttributeError)
"""What zarr and its codecs raise on metadata or chunks that are cut off, overwritten or not what they say."""


@dataclass(frozen=True)
class Damage:
    """Something wrong with a store.

    Attributes:
        file: below the store.
        reason: what is wrong with it.
        variable: the array it belongs to; None if it is the store's own.
        rows: of the array that are lost with it, as (first, one past the last); None if all are.
    """

    file: str
    reason: str
    variable: str | None = None
    rows: tuple[int, int] | None = None


def find_damage(
    path: Path, kind: Kind, on_progress: Callable[[int, int], None] = lambda *_: None, jobs: int | None = None
) -> list[Damage]:
    """Read all of a store and tell what is missing or damaged; of an unfinished one, that is also what was not written yet.

    Args:
        path: of the store.
        kind: ``"observed"`` or ``"truth"``.
        on_progress: called with (chunks read, chunks in all).
        jobs: reading threads; all cores if not given.
    """
    try:
        root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        attributes, recorded = root["attributes"], _consolidated(root)
        zarr.open_group(path, mode="r")
    except UNREADABLE as error:
        return [Damage("zarr.json", f"metadata cannot be read ({_short(error)})")]
    missing = [name for name in REQUIRED_ATTRIBUTES[kind] if name not in attributes]
    if attributes.get("cryobench_store") != kind or missing:
        found = attributes.get("cryobench_store")
        return [Damage("zarr.json", f"expected a store of kind {kind!r}, found {found!r} lacking {missing}")]
    if attributes["complete"] and attributes.get("attributes_digest", "") not in ("", attributes_digest(attributes)):
        return [Damage("zarr.json", "the attributes are not those that were written")]
    damage, arrays, sizes = [], {}, dict[str, int]()
    for name, variable in SCHEMAS[kind].items():
        if variable.required or name in recorded or (path / name).exists():
            try:
                arrays[name] = _open_array(path / name, variable, recorded.get(name), sizes)
            except UNREADABLE as error:
                damage.append(Damage(f"{name}/zarr.json", f"metadata cannot be read ({_short(error)})", name))
            except StoreError as error:
                damage.append(Damage(f"{name}/zarr.json", str(error), name))
    chunks = [(name, array, index) for name, array in arrays.items() for index in _grid(array)]
    with ThreadPoolExecutor(jobs or available_cores()) as pool:
        for done, found in enumerate(pool.map(lambda chunk: _check_chunk(path, *chunk), chunks)):
            damage += [] if found is None else [found]
            on_progress(done + 1, len(chunks))
    return damage


def check_dataset(
    directory: Path, on_progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[tuple[str, str]]:
    """Everything wrong with a directory's ``observed.zarr`` and, where it has one, ``truth.zarr``: (file, reason) each.

    Raises:
        StoreError: if there is no store at all.
    """
    kinds: list[Kind] = ["observed", "truth"]
    present = [kind for kind in kinds if (directory / f"{kind}.zarr").exists()]
    if not present:
        above = f"; give the directory that holds it, {directory.parent}" if directory.suffix == ".zarr" else ""
        raise StoreError(
            f"expected a directory with observed.zarr or truth.zarr in it, found neither in {directory}{above}"
        )
    wrong = []
    for kind in present:
        found = find_damage(
            directory / f"{kind}.zarr",
            kind,
            lambda done, total, kind=kind: on_progress(f"check {kind}", done, total),  # type: ignore[misc]
        )
        wrong += [(f"{kind}.zarr/{damage.file}", damage.reason) for damage in found]
        if not found and not zarr.open_group(directory / f"{kind}.zarr", mode="r").attrs.get("complete"):
            wrong.append(
                (f"{kind}.zarr/zarr.json", "the store is not marked whole: the command that made it was stopped")
            )
    if len(present) == 2 and not wrong:
        truth = open_store(directory / "truth.zarr", "truth")
        stated = open_store(directory / "observed.zarr", "observed").attrs.get("truth_digest")
        if stated != digest(truth, salt=str(truth.attrs["salt"])):
            wrong.append(("truth.zarr", "is not the truth that observed.zarr was made from: their digests differ"))
    return wrong


def _consolidated(root: dict[str, Any]) -> dict[str, Any]:
    """Metadata of every array as it was when the store was finished; empty for an unfinished one."""
    return dict((root.get("consolidated_metadata") or {}).get("metadata", {}))


def _open_array(
    path: Path, variable: Variable, recorded: dict[str, Any] | None, sizes: dict[str, int]
) -> zarr.Array[Any]:
    """The array at ``path``, whose axes are those of the others: ``sizes`` gathers them."""
    found = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    if recorded is not None and found != recorded:
        raise StoreError("metadata is not that which the finished store had")
    array = zarr.open_array(path, mode="r")
    dims = getattr(array.metadata, "dimension_names", None)
    if dims != variable.dims or str(array.dtype) not in (variable.dtype, "float16"):
        raise StoreError(f"expected {variable.dtype} over {variable.dims}, found {array.dtype} over {dims}")
    for dim, size in zip(variable.dims, array.shape, strict=True):
        # x and y of the truth's volume, of images and of patches are each others'
        if sizes.setdefault(dim, size) != size:
            raise StoreError(f"expected {sizes[dim]} along {dim} as other arrays have, found {size}")
    return array


def _grid(array: zarr.Array[Any]) -> Iterator[tuple[int, ...]]:
    stored = array.shards or array.chunks
    return itertools.product(*(range(-(-n // size)) for n, size in zip(array.shape, stored, strict=True)))


def _check_chunk(path: Path, name: str, array: zarr.Array[Any], index: tuple[int, ...]) -> Damage | None:
    """Read one chunk, or one whole shard."""
    stored = array.shards or array.chunks
    file = "/".join([name, "c", *map(str, index)])
    rows = (index[0] * stored[0], min((index[0] + 1) * stored[0], array.shape[0]))
    if not (path / file).is_file():
        return Damage(file, "missing", name, rows)
    try:
        values = array[tuple(slice(i * size, (i + 1) * size) for i, size in zip(index, stored, strict=True))]
    except UNREADABLE as error:
        return Damage(file, f"cannot be read ({_short(error)})", name, rows)
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(np.asarray(values)).all():
        return Damage(file, "holds values that are not finite", name, rows)
    return None


def _short(error: Exception) -> str:
    if "checksum" in str(error):
        return "its checksum does not match"
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no more is known'}"
