"""MRC and CCP4 files (MRC2014) read: maps whole and in order, stacks mapped from disk.

What a header states is held against the size of the file before anything is mapped or allocated: mrcfile, whose header
layout, modes and byte orders are used here, takes a header at its word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from mrcfile import utils
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.compressed import decompressed, is_compressed, most_expanded
from cryobench.interop.mrc_write import write_map

__all__ = ["MapFile", "MapHeader", "Vector", "open_stack", "read_map", "write_map"]

Vector = tuple[float, float, float]

_MODES: Final = {0, 1, 2, 3, 4, 6, 12, 16}
_REAL: Final = {0, 1, 2, 6, 12}
_HEADER_BYTES: Final = HEADER_DTYPE.itemsize
_BYTES_PER_READ: Final = 2**20


@dataclass(frozen=True)
class MapHeader:
    """Where the voxels of a map lie, always in (x, y, z) order.

    Attributes:
        voxel_sizes: angstrom along each axis of the cell; 0 where the file does not say.
        angles: of the cell, degrees: (alpha, beta, gamma).
        start: index of the first voxel in the cell (``nstart``), voxels.
        origin: the MRC2014 origin field, angstrom.
    """

    voxel_sizes: Vector
    angles: Vector
    start: Vector
    origin: Vector


class MapFile(NamedTuple):
    """What a map file holds: density ``(z, y, x)``, mean voxel size in angstrom (0 where not stated), and the header."""

    volume: NDArray[np.float32]
    voxel_size: float
    header: MapHeader


def read_map(path: str | Path) -> MapFile:
    """Read a map (gzipped or not), its axes put in the order (z, y, x) whatever MAPC, MAPR and MAPS say.

    Modes 0, 1, 2, 6 and 12 (8- and 16-bit integers, float32, float16) are read into float32.

    Raises:
        InputError: no such file, no MRC file, a truncated one or one whose header states another size, complex or RGB data,
            more than one volume, or values that are not finite.
    """
    path = Path(path)
    header, file = _read_header(path)
    shape = utils.data_shape_from_header(header)
    if len(shape) != 3:
        raise InputError(f"expected one three-dimensional map in {path}, got an array of shape {shape}")
    order = tuple(int(header[field]) for field in ("maps", "mapr", "mapc"))
    order = (3, 2, 1) if order == (0, 0, 0) else order
    if sorted(order) != [1, 2, 3]:
        raise InputError(f"expected MAPC, MAPR, MAPS of {path} to be some order of 1, 2, 3, got {order[::-1]}")
    to_zyx = [order.index(axis) for axis in (3, 2, 1)]
    data = _read_data(path, header, shape) if file.compressed else _map_data(path, header, shape)
    with np.errstate(over="ignore"):
        volume = np.array(data.transpose(to_zyx), dtype=np.float32, order="C")
    starts = [float(header[field]) for field in ("nzstart", "nystart", "nxstart")]  # of sections, rows, columns
    description = MapHeader(
        voxel_sizes=_voxel_sizes(path, header),
        angles=_vector(path, header, "cellb", ("alpha", "beta", "gamma")),
        start=(starts[to_zyx[2]], starts[to_zyx[1]], starts[to_zyx[0]]),
        origin=_vector(path, header, "origin", ("x", "y", "z")),
    )
    broken = int(np.count_nonzero(~np.isfinite(volume)))
    if broken:
        raise InputError(f"expected finite values in {path}, got {broken} of {volume.size} that are NaN or infinite")
    return MapFile(volume, float(np.mean(description.voxel_sizes)), description)


def open_stack(path: str | Path) -> tuple[NDArray[Any], float]:
    """Map an image stack from disk without loading it.

    Returns:
        Read-only images ``(n, y, x)`` in the file's own type, and the pixel size in angstrom (0 where the file does not say:
        RELION keeps it in the STAR file).

    Raises:
        InputError: no such file, no MRC file, a truncated or compressed one, one whose header states another size, or not a
            stack of images.
    """
    path = Path(path)
    header, file = _read_header(path)
    if file.compressed:
        raise InputError(
            f"expected a stack that can be mapped from disk, got {path}, which is compressed; decompress it"
        )
    shape = utils.data_shape_from_header(header)
    if len(shape) not in (2, 3):
        raise InputError(f"expected a stack of images in {path}, got an array of shape {shape}")
    x, y, _ = _voxel_sizes(path, header)
    if abs(x - y) > 1e-3 * max(x, y):
        raise InputError(f"expected square pixels in {path}, got {x:g} x {y:g} Å")
    return _map_data(path, header, shape).reshape(-1, *shape[-2:]), x


class _File(NamedTuple):
    size: int
    compressed: bool


def _read_header(path: Path) -> tuple[Any, _File]:
    """The header of an MRC file that can be what it states; those of older writers are forgiven."""
    if not path.is_file():
        raise InputError(f"expected an MRC or CCP4 file at {path}, found no file there")
    with path.open("rb") as plain:
        start = plain.read(_HEADER_BYTES)
    file = _File(path.stat().st_size, is_compressed(start))
    if file.compressed:
        with decompressed(path) as stream:
            start = stream.read(_HEADER_BYTES)
    header = _parse_header(path, start, file)
    _check_sizes(path, header, file)
    return header, file


def _parse_header(path: Path, start: bytes, file: _File) -> Any:
    """Header in the byte order of the machine stamp, or else in the order that gives a known mode."""
    if len(start) == _HEADER_BYTES:
        raw = np.frombuffer(start, dtype=HEADER_DTYPE).reshape(()).view(np.recarray)
        try:
            stamped = [utils.byte_order_from_machine_stamp(raw.machst)]
        except ValueError:
            stamped = []
        for order in (*stamped, "<", ">"):
            header = raw.view(raw.dtype.newbyteorder(order))
            if int(header.mode) in _MODES:
                return header
    raise InputError(
        f"expected an MRC or CCP4 file, got {path} of {file.size} bytes without such a header, so truncated or foreign"
    )


def _check_sizes(path: Path, header: Any, file: _File) -> None:
    """Refuse a header that cannot be true of its file, before anything is allocated."""
    columns, rows, sections, mode = (int(header[field]) for field in ("nx", "ny", "nz", "mode"))
    extended, grid = int(header.nsymbt), int(header.mz)
    stated = f"shape {(sections, rows, columns)}, mode {mode} and an extended header of {extended} bytes"
    if mode not in _REAL:
        raise InputError(f"expected real numbers in {path} (mode 0, 1, 2, 6 or 12), got mode {mode}")
    if min(columns, rows, sections) < 1 or extended < 0:
        raise InputError(f"expected sizes above 0 in the header of {path}, got {stated}; copy it again")
    if utils.spacegroup_is_volume_stack(header.ispg) and (grid < 1 or sections % grid):
        raise InputError(f"expected nz to be a multiple of mz in the volume stack {path}, got {sections} and {grid}")
    section = rows * columns * _item_size(mode)
    expected = _HEADER_BYTES + extended + sections * section
    if file.compressed:
        if expected > most_expanded(path):
            raise InputError(
                f"expected a map that compresses as density does, got {path}, which states {expected} bytes ({stated}) in "
                f"{file.size} compressed ones; decompress it if it is true"
            )
    elif file.size < expected or file.size >= expected + section:
        what = "a truncated or foreign file" if file.size < expected else "one that holds more sections than it states"
        raise InputError(
            f"expected an MRC or CCP4 file of the size it states, got {what}: {path} states {stated}, which is "
            f"{expected} bytes, in {file.size}; copy it again"
        )


def _item_size(mode: int) -> int:
    return int(utils.dtype_from_mode(mode).itemsize)


def _read_data(path: Path, header: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Data of a compressed file: as many bytes as stated and no more, in pieces, so that a false size is not allocated."""
    dtype = utils.data_dtype_from_header(header)
    wanted = math.prod(shape) * dtype.itemsize
    data = bytearray()
    with decompressed(path) as stream:
        stream.seek(_HEADER_BYTES + int(header.nsymbt))
        while len(data) < wanted:
            piece = stream.read(min(_BYTES_PER_READ, wanted - len(data)))
            if not piece:
                raise InputError(
                    f"expected {wanted} bytes of data of shape {shape} in {path}, got a truncated file of {len(data)}; "
                    f"copy it again"
                )
            data += piece
        if len(stream.read(wanted // shape[0])) == wanted // shape[0]:
            raise InputError(
                f"expected data of shape {shape} in {path}, which holds more than it states; copy it again"
            )
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _map_data(path: Path, header: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    offset = _HEADER_BYTES + int(header.nsymbt)
    return np.memmap(path, dtype=utils.data_dtype_from_header(header), mode="r", offset=offset, shape=shape)


def _vector(path: Path, header: Any, field: str, names: tuple[str, str, str]) -> Vector:
    x, y, z = (float(header[field][name]) for name in names)
    if not np.isfinite([x, y, z]).all():
        raise InputError(f"expected numbers in the header field {field} of {path}, got {(x, y, z)}")
    return x, y, z


def _voxel_sizes(path: Path, header: Any) -> Vector:
    """Cell lengths over intervals to the seven digits a float32 has, 0 where either is missing."""
    lengths = _vector(path, header, "cella", ("x", "y", "z"))
    if min(lengths) < 0:
        raise InputError(f"expected a cell (cella) of 0 Å or more in the header of {path}, got {lengths}")
    x, y, z = (
        float(f"{length / int(header[count]):.7g}") if header[count] > 0 else 0.0
        for length, count in zip(lengths, ("mx", "my", "mz"), strict=True)
    )
    return x, y, z
