"""Arrays as numpy writes them (``.npy``, cryoSPARC's ``.cs``, ``.npz``), from files that are not trusted.

``numpy.load`` allocates what a header states before it looks whether the file holds as much, and an archive may unpack to any
size. Here both are held against the size of the file first; pickles are never read.
"""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.compressed import most_expanded


def read_array(path: str | Path) -> NDArray[Any]:
    """The array of a ``.npy`` or ``.cs`` file, mapped from disk read-only.

    Raises:
        InputError: if there is no such file, or it is not an array of numbers and text as long as it states.
    """
    path = Path(path)
    _need_file(path)
    try:
        with path.open("rb") as file:
            shape, order, dtype = _header(file, path.stat().st_size)
            if 0 in shape:  # nothing to map
                return np.empty(shape, dtype)
            return np.memmap(path, dtype, mode="r", offset=file.tell(), shape=shape, order=order)
    except MemoryError:
        raise
    except Exception as error:  # numpy's parser of headers lets errors of many kinds through
        raise _not_arrays(path, "an array as numpy writes it", error) from error


def read_archive(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file by name.

    Raises:
        InputError: if there is no such file, it is no archive of arrays, or it would unpack to far more than its size.
    """
    path = Path(path)
    _need_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            stated = sum(member.file_size for member in archive.infolist())
            if stated > most_expanded(path):
                raise ValueError(f"it would unpack to {stated} bytes from {path.stat().st_size}")
            return {m.filename.removesuffix(".npy"): _unpack(archive.read(m)) for m in archive.infolist()}
    except MemoryError:
        raise
    except Exception as error:  # as above, and zipfile's own
        raise _not_arrays(path, "an archive of arrays (.npz)", error) from error


def _unpack(data: bytes) -> NDArray[Any]:
    file = io.BytesIO(data)
    shape, order, dtype = _header(file, len(data))
    return np.frombuffer(data, dtype, count=math.prod(shape), offset=file.tell()).reshape(shape, order=order)


def _header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], Any, np.dtype[Any]]:
    """Shape, order and type that the header at the start of a file of ``size`` bytes states, if the file can hold them."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        raise ValueError(f"version {version} of the format is not known")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of Python 2 having written it
        try:
            shape, fortran, dtype = readers[version](file)
        except (MemoryError, RecursionError) as error:  # Python's parser, at brackets or signs without end
            raise ValueError("its header cannot be parsed") from error
    stated = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise ValueError(f"expected numbers or text, got shape {shape} of {dtype}")
    if stated > size - file.tell():
        raise ValueError(f"the header states shape {shape}, {stated} bytes, and {size - file.tell()} follow")
    return shape, "F" if fortran else "C", dtype


def _need_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"expected a file at {path}, found {'a directory' if path.is_dir() else 'nothing'}")


def _not_arrays(path: Path, expected: str, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return InputError(f"{path.name}: expected {expected}, but it cannot be read ({reason})")
