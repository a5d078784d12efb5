"""MRC and CCP4 files (MRC2014): maps read whole and put in order, stacks mapped from disk, maps written atomically."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mrcfile
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cryobench.errors import InputError

_HEADER_BYTES = 1024
_MODES = {0, 1, 2, 3, 4, 6, 12, 16}

Vector = tuple[float, float, float]


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
        InputError: no such file, no MRC file, a truncated one, complex or RGB data, more than one volume, or values that
            are not finite.
    """
    path = Path(path)
    with _opened(mrcfile.open, path) as (data, header):
        if data.ndim != 3:
            raise InputError(f"expected one three-dimensional map in {path}, got an array of shape {data.shape}")
        order = tuple(int(header[field]) for field in ("maps", "mapr", "mapc"))
        order = (3, 2, 1) if order == (0, 0, 0) else order
        if sorted(order) != [1, 2, 3]:
            raise InputError(f"expected MAPC, MAPR, MAPS of {path} to be some order of 1, 2, 3, got {order[::-1]}")
        to_zyx = [order.index(axis) for axis in (3, 2, 1)]
        volume = np.array(data.transpose(to_zyx), dtype=np.float32, order="C")
        starts = [float(header[field]) for field in ("nzstart", "nystart", "nxstart")]  # of sections, rows, columns
        description = MapHeader(
            voxel_sizes=_voxel_sizes(header),
            angles=_vector(header.cellb, ("alpha", "beta", "gamma")),
            start=(starts[to_zyx[2]], starts[to_zyx[1]], starts[to_zyx[0]]),
            origin=_vector(header.origin, ("x", "y", "z")),
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
        InputError: no such file, no MRC file, a truncated or compressed one, or not a stack of images.
    """
    path = Path(path)
    with _opened(mrcfile.mmap, path) as (data, header):
        if data.ndim not in (2, 3):
            raise InputError(f"expected a stack of images in {path}, got an array of shape {data.shape}")
        x, y, _ = _voxel_sizes(header)
        if abs(x - y) > 1e-3 * max(x, y):
            raise InputError(f"expected square pixels in {path}, got {x:g} x {y:g} Å")
        return data.reshape(-1, *data.shape[-2:]), x


def write_map(path: str | Path, volume: ArrayLike, voxel_size: float) -> None:
    """Write a volume ``(z, y, x)`` as float32 with ``voxel_size`` in angstrom, all of it or nothing.

    The same volume gives the same bytes: the file carries no date.

    Raises:
        InputError: not three-dimensional, values that are not finite, or a voxel size that is not positive.
    """
    path, array = Path(path), np.asarray(volume, dtype=np.float32)
    if array.ndim != 3 or not np.isfinite(array).all() or not voxel_size > 0:
        raise InputError(
            f"expected a finite volume (z, y, x) and a voxel size above 0 to write to {path}, "
            f"got shape {array.shape}, voxel size {voxel_size:g} Å"
        )
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(descriptor)
    try:
        with mrcfile.new(partial, overwrite=True) as file:
            file.set_data(array)
            file.voxel_size = voxel_size
            file.header.nlabl = 0
            file.header.label = b""
        os.chmod(partial, 0o666 & ~_umask())  # mkstemp makes files that only their owner may read
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _opened(opener: Callable[..., Any], path: Path) -> Iterator[tuple[NDArray[Any], Any]]:
    """Data and header of an MRC file, the headers of older writers forgiven; InputError where there is no data."""
    if not path.is_file():
        raise InputError(f"expected an MRC or CCP4 file at {path}, found no file there")
    _require_header(path)
    try:
        with warnings.catch_warnings():
            # permissive reading warns of every oddity: a missing 'MAP ' word is normal in older files
            warnings.simplefilter("ignore", RuntimeWarning)
            file = opener(path, permissive=True)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"expected an MRC or CCP4 file, could not read {path}: {error}") from error
    with file:
        if file.data is None or file.data.size == 0:
            n = tuple(int(file.header[field]) for field in ("nz", "ny", "nx"))
            raise InputError(
                f"expected an MRC or CCP4 file with data, got a truncated or foreign file: {path} states shape {n} and "
                f"mode {int(file.header.mode)} in {path.stat().st_size} bytes; copy it again"
            )
        if file.data.dtype.kind not in "iuf":
            raise InputError(
                f"expected real numbers in {path} (mode 0, 1, 2, 6 or 12), got mode {int(file.header.mode)}"
            )
        yield file.data, file.header


def _require_header(path: Path) -> None:
    """Refuse early what has no MRC header: read permissively, text would pass for one that states gigabytes."""
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    compressed = start[:2] in (b"\x1f\x8b", b"BZ")
    modes = {int.from_bytes(start[12:16], order) for order in ("little", "big")}
    if not compressed and (len(start) < _HEADER_BYTES or not modes & _MODES):
        raise InputError(
            f"expected an MRC or CCP4 file, got {path} of {path.stat().st_size} bytes without such a header"
        )


def _vector(record: Any, names: tuple[str, str, str]) -> Vector:
    x, y, z = (float(record[name]) for name in names)
    return x, y, z


def _voxel_sizes(header: Any) -> Vector:
    """Cell lengths over intervals to the seven digits a float32 has, 0 where either is missing."""
    x, y, z = (
        float(f"{float(header.cella[axis]) / float(header[count]):.7g}") if header[count] > 0 else 0.0
        for axis, count in (("x", "mx"), ("y", "my"), ("z", "mz"))
    )
    return x, y, z
