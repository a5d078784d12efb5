"""Where particles lie on micrographs, and which micrograph a name means. Read and written in :mod:`cryobench.interop.box_files`.

A centre is the pixel that becomes the origin ``n // 2`` of the image cut there, counted from 0, as RELION's coordinates are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryobench.errors import InputError

_FILE_ENDING = re.compile(r"\.(mrcs?|map|tiff?|eer|box|star|csv|txt|gz)$", re.IGNORECASE)
_PROGRAM_ENDING = re.compile(r"_(PS|autopick|manualpick|pick|picks|box|boxes|coords?|particles)$", re.IGNORECASE)


def micrograph_key(name: str) -> str:
    """What names of one micrograph share: no directory, no file ending, none that a program adds (``_PS``, ``_autopick`` ...)."""
    key = Path(name).name
    while _FILE_ENDING.search(key):
        key = _FILE_ENDING.sub("", key)
    return _PROGRAM_ENDING.sub("", key)


@final
@dataclass(frozen=True)
class BoxTable:
    """Particles on micrographs, one row each.

    Attributes:
        source: the file or directory, for messages.
        micrograph: ``(particle,)`` names as written, or None where one file of one micrograph does not say which.
        centres: ``(particle, 2)`` in (x, y), pixels of the micrograph counted from 0: the image's pixel ``n // 2``.
        box: ``(particle,)`` side in pixels, 0 where the file does not say.
    """

    source: Path
    micrograph: NDArray[np.object_] | None
    centres: NDArray[np.float64]
    box: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.centres)

    def take(self, rows: NDArray[np.intp]) -> BoxTable:
        """The given rows alone."""
        names = None if self.micrograph is None else self.micrograph[rows]
        return BoxTable(self.source, names, self.centres[rows], self.box[rows])


@final
@dataclass(frozen=True)
class Matched:
    """Rows of a :class:`BoxTable` by micrograph.

    Attributes:
        rows: of each micrograph that was asked for, in that order; empty where it has no boxes.
        unknown: names in the table that are none of these micrographs.
    """

    rows: list[NDArray[np.intp]]
    unknown: list[str]


def match_boxes(table: BoxTable, micrographs: Sequence[str | Path]) -> Matched:
    """Find the boxes of each micrograph by :func:`micrograph_key`; boxes without a name are those of the only micrograph.

    Raises:
        InputError: if two micrographs have the same key, or boxes without a name meet several micrographs.
    """
    keys = unique_keys(micrographs)
    if table.micrograph is None:
        named = micrograph_key(table.source.name)
        if len(keys) > 1 and named not in keys:
            raise InputError(
                f"{table.source.name}: expected a column of micrograph names, or the name of one of the {len(keys)} micrographs "
                f"before the file's ending, got neither; give a directory with a file for each micrograph"
            )
        owner = keys.index(named) if named in keys else 0
        return Matched([np.arange(len(table) if i == owner else 0) for i in range(len(keys))], [])
    names, which = np.unique(table.micrograph.astype(str), return_inverse=True)
    owners = [micrograph_key(name) for name in names.tolist()]
    row_owners = pd.Series(np.array(owners, dtype=object)[which])
    of_key = {str(key): np.asarray(rows) for key, rows in row_owners.groupby(row_owners).indices.items()}
    rows = [of_key.get(key, np.empty(0, dtype=np.intp)) for key in keys]
    return Matched(rows, [name for name, key in zip(names.tolist(), owners, strict=True) if key not in keys])


def unique_keys(micrographs: Iterable[str | Path]) -> list[str]:
    """The key of each micrograph.

    Raises:
        InputError: if two have the same.
    """
    paths = [str(m) for m in micrographs]
    keys = [micrograph_key(path) for path in paths]
    first: dict[str, str] = {}
    for key, path in zip(keys, paths, strict=True):
        if key in first:
            raise InputError(f"expected micrographs of different names, got {key!r} from {first[key]} and {path}")
        first[key] = path
    return keys
