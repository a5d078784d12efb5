"""Files of particle positions: EMAN ``.box`` files, coordinate STAR files of RELION, boxes of many micrographs in a CSV.

The corner that EMAN writes is the first pixel of the box, so that ``centre = corner + w // 2``. Rows count upwards in both, as
the rows of an MRC file do: EMAN's "lower left" is row 0 of the array, and nothing is flipped.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.atomic import written_whole
from cryobench.interop.boxes import BoxTable, micrograph_key
from cryobench.interop.compressed import read_expanded
from cryobench.interop.star import Columns, has_space, loop_lines, read_blocks

COLUMNS: Final = ("x", "y", "w", "h")
SUFFIXES: Final = (".box", ".star", ".csv", ".csv.gz")
FILAMENT_ENDS: Final = (-1.0, -2.0)
"""Fifth column of an EMAN box that begins or ends a filament instead of holding a particle."""


def read_boxes(path: str | Path) -> BoxTable:
    """Read particle positions.

    Args:
        path: an EMAN ``.box`` file, a coordinate, pick or particle STAR file of RELION, a CSV (gzipped or not) with the columns
            micrograph, x, y, w and h (EMAN's corner and sides), or a directory of such files. A file of a directory that names
            no micrograph is of the micrograph whose name it bears; so are those that RELION's ``autopick.star`` lists.

    Raises:
        InputError: naming file, row and field, if something is missing or not a number; or if there is no box at all.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and p.name.lower().endswith(SUFFIXES))
        table = _join(path, [(_read_file(file), file.name) for file in files])
    elif path.is_file():
        table = _read_file(path)
    else:
        raise InputError(f"expected particle boxes at {path}, found nothing there")
    if len(table) == 0:
        raise InputError(f"{path.name}: expected particle boxes ({', '.join(SUFFIXES)}), found none")
    return table


def _read_file(path: Path) -> BoxTable:
    name = path.name.lower()
    if name.endswith(".star"):
        return _read_star(path)
    if name.endswith((".csv", ".csv.gz")):
        return _read_csv(path)
    return _read_eman(path)


def _join(source: Path, parts: list[tuple[BoxTable, str]]) -> BoxTable:
    """Tables of several files as one; where a table names no micrograph, the name beside it does."""
    micrographs: list[NDArray[np.object_]] = []
    owner: dict[str, str] = {}
    for table, name in parts:
        own = np.full(len(table), micrograph_key(name), dtype=object) if table.micrograph is None else table.micrograph
        for key in {micrograph_key(str(m)) for m in np.unique(own.astype(str))}:
            if owner.setdefault(key, table.source.name) != table.source.name:
                raise InputError(
                    f"{source.name}: expected the boxes of a micrograph in one file, got those of {key!r} in {owner[key]} and "
                    f"{table.source.name}; remove one"
                )
        micrographs.append(own)
    return BoxTable(
        source,
        np.concatenate([np.empty(0, dtype=object), *micrographs]),
        np.concatenate([np.empty((0, 2)), *(t.centres for t, _ in parts)]),
        np.concatenate([np.empty(0, dtype=np.int64), *(t.box for t, _ in parts)]),
    )


def _read_eman(path: Path) -> BoxTable:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: expected an EMAN .box file, got a file that is not text") from error
    words = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    values = np.empty((len(words), 5))
    for row, (number, fields) in enumerate(words):
        if len(fields) < len(COLUMNS):
            raise InputError(f"{path.name}, line {number}: expected x, y, w and h, got {len(fields)} fields")
        for column, field in enumerate([*fields, "0"][:5]):
            try:
                values[row, column] = float(field)
            except ValueError:
                values[row, column] = np.nan
            if column < len(COLUMNS) and not np.isfinite(values[row, column]):
                raise InputError(
                    f"{path.name}, line {number}, {COLUMNS[column]}: expected a number, got {field[:80]!r}"
                )
        if values[row, 4] in FILAMENT_ENDS:
            raise InputError(
                f"{path.name}, line {number}: expected particles, got the end of a filament (fifth column {fields[4]}); "
                f"write the segments as single boxes"
            )
    where = [f"line {number}" for number, _ in words]
    return BoxTable(path, None, *_from_corners(path, values[:, :4], where))


def _read_csv(path: Path) -> BoxTable:
    content = read_expanded(path)
    header = content.split(b"\n", 1)[0].strip().split(b",")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more values than the header
            frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, index_col=False)
        if len(set(header)) != len(header):
            raise ValueError("a column is there twice")
    except (ValueError, pd.errors.ParserWarning) as error:  # a parser's errors are ValueErrors
        reason = (str(error).splitlines() or ["cut short"])[0]
        raise InputError(f"{path.name}: expected a CSV of boxes, got one that cannot be parsed ({reason})") from error
    columns = Columns(path, frame)
    for name in ("micrograph", *COLUMNS):
        columns.need(name, f"give the columns micrograph, {', '.join(COLUMNS)}")
    values = np.stack([columns.numbers(name) for name in COLUMNS], -1)
    where = [f"particle row {row + 1}" for row in range(len(frame))]
    return BoxTable(path, frame["micrograph"].astype(str).to_numpy(dtype=object), *_from_corners(path, values, where))


def _from_corners(
    path: Path, values: NDArray[np.float64], where: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Centres and sides of EMAN's corner boxes ``(n, 4)``."""
    sides = values[:, 2:]
    wrong = (sides[:, 0] != sides[:, 1]) | (sides[:, 0] < 1) | (sides[:, 0] % 1 != 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{path.name}, {where[row]}, w and h: expected a square box of a whole number of pixels, "
            f"got {sides[row, 0]:g} x {sides[row, 1]:g}"
        )
    box = sides[:, 0].astype(np.int64)
    return values[:, :2] + (box // 2)[:, None], box


def _read_star(path: Path) -> BoxTable:
    blocks = read_blocks(path)
    listed = next((b for b in blocks.values() if "rlnMicrographCoordinates" in b.columns), None)
    if listed is not None:
        return _read_listed(path, Columns(path, listed))
    frame = next((b for b in blocks.values() if "rlnCoordinateX" in b.columns), None)
    if frame is None:
        raise InputError(
            f"{path.name}: expected a block with columns rlnCoordinateX and rlnCoordinateY, got the blocks {sorted(blocks)}; "
            f"give a coordinate or particle STAR file"
        )
    columns = Columns(path, frame)
    centres = np.stack([columns.numbers(f"rlnCoordinate{axis}") for axis in "XY"], -1)
    named = "rlnMicrographName" in columns
    micrograph = frame["rlnMicrographName"].astype(str).to_numpy(dtype=object) if named else None
    return BoxTable(path, micrograph, centres, np.zeros(len(frame), dtype=np.int64))


def _read_listed(path: Path, columns: Columns) -> BoxTable:
    """The coordinate files that ``autopick.star`` of RELION 4 and later lists, with the micrograph of each."""
    columns.need("rlnMicrographName", "it says whose coordinates a file holds")
    here, parts = path.resolve().parent, []
    for row, name in enumerate(columns.frame["rlnMicrographCoordinates"].astype(str)):
        found = next((root / name for root in (here, *here.parents) if (root / name).is_file()), None)
        if found is None:
            raise columns.fail(
                row, "rlnMicrographCoordinates", f"a file in {here} or a directory above", "copy it there"
            )
        parts.append((_read_file(found), str(columns.frame["rlnMicrographName"].iloc[row])))
    return _join(path, parts)


def write_boxes(path: str | Path, table: BoxTable) -> None:
    """Write boxes in the form that the file's ending names: ``.box`` (of one micrograph), ``.star``, ``.csv`` or ``.csv.gz``.

    Raises:
        InputError: if the form cannot hold the table.
    """
    path = Path(path)
    with written_whole(path) as partial:
        _write(path, partial, table)


def _write(path: Path, partial: Path, table: BoxTable) -> None:
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise InputError(f"{path.name}: expected a name ending in {', '.join(SUFFIXES)}")
    if name.endswith(".star"):
        columns: dict[str, NDArray[Any]] = {f"rlnCoordinate{a}": table.centres[:, i] for i, a in enumerate("XY")}
        if table.micrograph is not None:
            spaced = has_space(table.micrograph)
            if spaced:
                raise InputError(f"{path.name}: expected micrograph names without white space, got {spaced[0]!r}")
            columns["rlnMicrographName"] = table.micrograph
        partial.write_text("".join(loop_lines("", columns)), encoding="utf-8")
        return
    if (table.box < 1).any():
        raise InputError(f"{path.name}: expected the side of every box in pixels, got {table.box.min()}")
    corners = table.centres - (table.box // 2)[:, None]
    frame = pd.DataFrame({"x": corners[:, 0], "y": corners[:, 1], "w": table.box, "h": table.box})
    names = table.micrograph
    if name.endswith(".box"):
        several = 1 if names is None else len(np.unique(names.astype(str)))
        if several > 1:
            raise InputError(f"{path.name}: expected boxes of one micrograph, got {several}; write a .csv or .star")
        frame.to_csv(partial, sep="\t", header=False, index=False, float_format="%.10g")
        return
    if names is None:
        raise InputError(f"{path.name}: expected the micrograph of every box, got none")
    frame.insert(0, "micrograph", names)
    frame.to_csv(partial, index=False, float_format="%.10g", compression="gzip" if name.endswith(".gz") else None)
