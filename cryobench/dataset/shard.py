"""One shard of images, assembled in place and written with a single call.

zarr writes the same bytes, and copies the images four times to make them; at the rate that images are computed, that took as long
as computing them. The layout is that of zarr v3's ``sharding_indexed`` codec: encoded chunks one after the other, each followed
by its CRC-32C, then the offset and length of each, and the CRC-32C of those.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray

CRC_BYTES = 4
NOT_THERE = 2**64 - 1
"""Offset and length of a chunk that lies beyond the array's end."""


class ShardBuffer:
    """Memory for one shard of an array of images, which can be used for one after the other.

    Args:
        images: array ``(particle, y, x)`` as :func:`cryobench.dataset.create.create_store` makes it.
    """

    def __init__(self, images: zarr.Array[Any]) -> None:
        assert images.shards is not None
        self.images, self.chunk_rows = images, images.chunks[0]
        self.chunk_bytes = int(np.prod(images.chunks)) * images.dtype.itemsize
        self.chunks = images.shards[0] // self.chunk_rows
        self.memory = np.zeros(
            min(self.chunks, self._chunks(images.shape[0])) * (self.chunk_bytes + CRC_BYTES), np.uint8
        )

    def _chunks(self, rows: int) -> int:
        return -(-rows // self.chunk_rows)

    def rows(self, first: int, last: int) -> NDArray[np.floating]:
        """Images ``first ... last - 1`` of the shard, to be written into; all of one chunk."""
        chunk, offset = divmod(first, self.chunk_rows)
        begin = chunk * (self.chunk_bytes + CRC_BYTES)
        stored = self.memory[begin : begin + self.chunk_bytes].view(self.images.dtype)
        return stored.reshape(self.images.chunks)[offset : last - first + offset]

    def write(self, start: int, stop: int) -> None:
        """Write the shard that holds images ``start ... stop - 1`` of the array, renamed into place when it is whole."""
        used = self._chunks(stop - start)
        spare = stop - start - (used - 1) * self.chunk_rows
        if spare < self.chunk_rows:
            self.rows((used - 1) * self.chunk_rows + spare, used * self.chunk_rows)[...] = 0
        index = np.full((self.chunks, 2), NOT_THERE, "<u8")
        step = self.chunk_bytes + CRC_BYTES
        for chunk in range(used):
            begin, end = chunk * step, chunk * step + self.chunk_bytes
            self.memory[end : end + CRC_BYTES] = _checksum(self.memory[begin:end])
            index[chunk] = begin, step
        table = index.reshape(-1).view(np.uint8)
        assert self.images.shards is not None
        shard = start // self.images.shards[0]
        file = Path(str(self.images.store_path).removeprefix("file://")) / "c" / str(shard) / "0" / "0"
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{uuid.uuid4().hex}.partial")
        try:
            with partial.open("wb", buffering=0) as target:
                for part in (self.memory[: used * step], table, _checksum(table)):
                    _write_all(target.fileno(), part)
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)


def _checksum(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.array([google_crc32c.value(data)], "<u4").view(np.uint8)


def _write_all(descriptor: int, data: NDArray[np.uint8]) -> None:
    """A single write may take less than all: 2 GiB at most, or what room is left."""
    view = memoryview(data.data)
    while view:
        view = view[os.write(descriptor, view) :]
