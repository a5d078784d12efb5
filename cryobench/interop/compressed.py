"""Files compressed by gzip or bzip2, from which no more is unpacked than their size makes likely."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from cryobench.errors import InputError

_MODULES: Final[dict[bytes, Any]] = {b"\x1f\x8b": gzip, b"BZ": bz2}
_EXPANSION: Final = 100
_ALWAYS_EXPANDED: Final = 64 * 2**20


def is_compressed(start: bytes) -> bool:
    """Whether a file that starts so is compressed."""
    return start[:2] in _MODULES


def most_expanded(path: Path) -> int:
    """Bytes that a compressed file may unpack to: 100 times its size, 64 MiB at least; data does not compress further."""
    return max(_ALWAYS_EXPANDED, _EXPANSION * path.stat().st_size)


@contextmanager
def decompressed(path: Path) -> Iterator[IO[bytes]]:
    """The decompressed stream.

    Raises:
        InputError: if the file is damaged or cut short, also while it is read.
    """
    with path.open("rb") as plain:
        module = _MODULES[plain.read(2)]
    try:
        with module.open(path, "rb") as stream:
            yield stream
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"expected a whole compressed file, could not read {path}: {error}; copy it again") from error


def read_expanded(path: Path) -> bytes:
    """The content of a file, unpacked where it is compressed.

    Raises:
        InputError: if it is damaged, or would unpack to more than :func:`most_expanded`.
    """
    with path.open("rb") as plain:
        if not is_compressed(plain.read(2)):
            plain.seek(0)
            return plain.read()
    most = most_expanded(path)
    with decompressed(path) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise InputError(f"expected at most {most} bytes in {path}, which would unpack to more; unpack it yourself")
    return data
