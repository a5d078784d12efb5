"""Files that stand whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryobench.errors import StoreError

PARTIAL: Final = ".partial"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, renamed to ``path`` once the ``with`` ends well; a killed process leaves ``.NAME.*.partial``.

    Raises:
        StoreError: if the disc is full or refuses, with what to do.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        os.chmod(partial, 0o666 & ~_umask())  # mkstemp makes files that only their owner may read
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _cannot_write(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"could not write {path}: {error.strerror or error}; make room (or a writable directory) and give the command again"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
