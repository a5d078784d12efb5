"""New stores: empty, or filled aside and put into their place whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from cryobench.conventions import CONVENTIONS
from cryobench.dataset.schema import (
    PARTICLES_PER_CHUNK,
    PARTICLES_PER_SHARD,
    REQUIRED_ATTRIBUTES,
    SCHEMAS,
    Kind,
    chunk_shape,
)
from cryobench.dataset.store import versions, writing
from cryobench.errors import StoreError


def create_store(
    path: Path,
    kind: Kind,
    shapes: Mapping[str, tuple[int, ...]],
    attributes: Mapping[str, Any],
    image_scale: float | None = None,
) -> zarr.Group:
    """Create an empty store of ``kind``, marked unfinished, with arrays of the given shapes.

    Every chunk carries a checksum (CRC-32C) that zarr verifies whenever it is read.

    Args:
        path: of the new store; must not exist.
        kind: ``"observed"`` or ``"truth"``.
        shapes: of every variable to be written, by name.
        attributes: beyond the conventions and versions, which every store carries.
        image_scale: store images as float16 in this unit, their ``scale_factor``; as float32 if not given.

    Raises:
        StoreError: if something is at ``path`` already, a variable is unknown or lacking, or the disc is full.
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
    with writing(path):
        group = zarr.open_group(path, mode="w", zarr_format=3)
        for name, shape in shapes.items():
            variable = schema[name]
            sharded = "particle" in variable.dims and len(shape) == 3
            half_precision = sharded and image_scale is not None
            per_chunk = PARTICLES_PER_CHUNK if len(shape) == 3 else PARTICLES_PER_SHARD
            group.create_array(
                name,
                shape=shape,
                dtype="float16" if half_precision else variable.dtype,
                chunks=chunk_shape(variable.dims, shape, per_chunk),
                shards=chunk_shape(variable.dims, shape, PARTICLES_PER_SHARD) if sharded else None,
                dimension_names=variable.dims,
                compressors=(Crc32cCodec(),) if sharded else (ZstdCodec(), Crc32cCodec()),  # noise does not compress
                attributes={
                    "units": variable.units,
                    "description": variable.description,
                    **({"scale_factor": image_scale} if half_precision else {}),
                },
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
    path: Path,
    kind: Kind,
    shapes: Mapping[str, tuple[int, ...]],
    attributes: Mapping[str, Any],
    image_scale: float | None = None,
) -> Iterator[zarr.Group]:
    """A new store as :func:`create_store` makes it, filled aside and renamed to ``path`` at the end.

    So a store that stands at ``path`` has all that was written inside the ``with``, however the process ended.
    """
    building = path.with_suffix(".building")
    shutil.rmtree(building, ignore_errors=True)
    yield create_store(building, kind, shapes, attributes, image_scale)
    with writing(path):
        building.rename(path)
