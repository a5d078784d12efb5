"""STAR files as RELION reads and writes them: blocks of one loop or of single values, a loop's row to a line.

Read here and not by a general parser, because a benchmark must know what it read: a column that is there twice, a row with a
value too few or too many, a block given twice and a file cut within a line are errors with their place, never a guess.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cryobench.errors import InputError

TEXT: Final = ("rlnImageName", "rlnMicrographName", "rlnMicrographCoordinates", "rlnOpticsGroupName", "rlnMtfFileName")
"""Columns that stay text, whatever their values look like."""
_TOKEN = re.compile(rb'"[^"]*"(?=\s|$)|\S+')
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\r(?!\n)")
_MOST_COLUMNS: Final = 200
LARGEST: Final = 1e30
"""No length, angle or voltage of a microscope is larger, in any unit; products of two such numbers are still finite."""
_ROWS_PER_WRITE: Final = 4096


def wrong(path: Path, expected: str, got: str, where: str = "") -> InputError:
    """The error of a file (and a place in it), to be raised."""
    return InputError(f"{path.name}{where}: expected {expected}, got {got}")


@final
class Columns:
    """Columns of one block, checked as they are taken; ``row`` is what messages call a row."""

    def __init__(self, path: Path, frame: pd.DataFrame, row: str = "particle row") -> None:
        self.path, self.frame, self.row = path, frame, row

    def __contains__(self, name: str) -> bool:
        return name in self.frame.columns

    def need(self, name: str, fix: str) -> None:
        """Refuse a block without the column."""
        if name not in self:
            raise wrong(self.path, f"a column {name}", f"none among {len(self.frame.columns)}; {fix}")

    def fail(self, row: int, name: str, expected: str, fix: str) -> InputError:
        """The error of one value, to be raised."""
        got = str(self.frame[name].iloc[row])[:80]
        return wrong(self.path, expected, f"{got}; {fix}", f", {self.row} {row + 1}, column {name}")

    def numbers(self, name: str, default: float | None = None) -> NDArray[np.float64]:
        """A column of finite numbers, or ``default`` where there is no such column."""
        if default is not None and name not in self:
            return np.full(len(self.frame), default)
        self.need(name, "add it, or export the particles again with their CTF")
        values = pd.to_numeric(self.frame[name], errors="coerce").to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~(np.abs(values) <= LARGEST))
        if len(bad):
            raise self.fail(int(bad[0]), name, "a number", f"correct or remove the row ({len(bad)} such rows)")
        return values

    def positive(self, name: str) -> NDArray[np.float64]:
        """A column of finite numbers above 0."""
        values = self.numbers(name)
        if (values < 1 / LARGEST).any():
            raise self.fail(int(np.argmax(values < 1 / LARGEST)), name, "a positive number", "correct the row")
        return values

    def integers(self, name: str, default: int | None = None) -> NDArray[np.int64]:
        """A column of whole numbers below 2^31, or ``default`` where there is no such column."""
        values = self.numbers(name, default)
        bad = np.flatnonzero((values % 1 != 0) | (np.abs(values) >= 2**31))
        if len(bad):
            raise self.fail(int(bad[0]), name, "a whole number", "correct the row")
        return values.astype(np.int64)


@dataclass
class _Block:
    """Where a block stands in its file."""

    name: str
    columns: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    is_loop: bool = False
    offset: int = 0
    rows: int = 0
    ended: bool = False


def read_blocks(path: str | Path) -> dict[str, pd.DataFrame]:
    """Data blocks of a STAR file by name, single values as one row; :data:`TEXT` columns as text, others as they look.

    The file is gone through once line by line, and each loop is then parsed from its place; it is never held as text.

    Raises:
        InputError: if there is no such file, or it is no STAR file with a block; naming the line where something is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"expected a STAR file at {path}, found {'a directory' if path.is_dir() else 'nothing'}")
    blocks: dict[str, _Block] = {}
    for block in _scan(path):
        if block.name in blocks:
            raise wrong(path, f"one block data_{block.name}", "two; remove one")
        blocks[block.name] = block
    frames = {name: _frame(path, block) for name, block in blocks.items() if block.columns}
    if not frames:
        raise wrong(path, "a STAR file with a data block", "none")
    return frames


def _scan(path: Path) -> list[_Block]:
    """Every block of the file, its lines checked."""
    blocks: list[_Block] = []
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            begin, end = end, end + len(line)
            try:
                _take(blocks, line, begin)
            except UnicodeDecodeError as error:
                raise wrong(path, "UTF-8 text", "other bytes", f", line {number}") from error
            except ValueError as error:
                raise InputError(f"{path.name}, line {number}: {error}; correct it or copy the file again") from error
    return blocks


def _take(blocks: list[_Block], line: bytes, offset: int) -> None:
    """Take up one line of the file, which begins at ``offset``."""
    if _CONTROL.search(line):
        raise ValueError("expected text, got a control character")
    words = _TOKEN.findall(line) if b'"' in line else line.split()
    if not words:
        return
    first, block = words[0], blocks[-1] if blocks else None
    if first.startswith(b"#"):
        if block is not None:
            block.ended = block.rows > 0
    elif first.startswith(b"data_"):
        blocks.append(_Block(first[5:].decode()))
    elif block is None:
        raise ValueError(f"expected a STAR file, with data_ before any value, got {first[:40].decode()!r}")
    elif first == b"loop_":
        if block.columns or block.is_loop:
            raise ValueError("expected one loop in a block, got a second one")
        block.is_loop = True
    elif first.startswith(b"_") and not block.rows:
        _take_label(block, first[1:].decode(), words[1:])
    elif not block.is_loop or not block.columns or block.ended:
        raise ValueError(f"expected a label beginning with _, or the next block, got {first[:40].decode()!r}")
    elif len(words) != len(block.columns):
        raise ValueError(
            f"expected {len(block.columns)} values in row {block.rows + 1} of block data_{block.name}, got {len(words)}"
        )
    else:
        block.offset = block.offset or offset
        block.rows += 1


def _take_label(block: _Block, label: str, values: list[bytes]) -> None:
    if label in block.columns:
        raise ValueError(f"expected every column once, got {label[:80]} a second time")
    if len(block.columns) == _MOST_COLUMNS:
        raise ValueError(f"expected at most {_MOST_COLUMNS} columns, got more")
    block.columns.append(label)
    if not block.is_loop:
        if not values:
            raise ValueError(f"expected a value after {label[:80]}, got none")
        block.values.append(values[0].decode().strip('"'))


def _frame(path: Path, block: _Block) -> pd.DataFrame:
    """The values of a block, parsed; exactly as many rows as were counted."""
    if not block.is_loop:
        return pd.DataFrame({name: [value] for name, value in zip(block.columns, block.values, strict=True)})
    if not block.rows:
        return pd.DataFrame(columns=block.columns)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more values than columns, to pandas
            file.seek(block.offset)
            frame = pd.read_csv(
                file,
                sep=r"\s+",
                header=None,
                names=block.columns,
                index_col=False,
                dtype={name: str for name in TEXT if name in block.columns},
                nrows=block.rows,
                keep_default_na=False,
                low_memory=False,
                encoding="utf-8",
            )
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:  # a parser's errors are ValueErrors
        reason = str(error).partition("\n")[0]
        raise wrong(path, f"a table in block data_{block.name}", f"one that cannot be parsed ({reason})") from error
    text = [name for name in TEXT if name in block.columns]
    if len(frame) != block.rows or frame[text].isna().any(axis=None):
        raise wrong(path, f"{block.rows} rows in block data_{block.name}", "another table; look for stray quotes")
    return frame


def join_optics(path: Path, frame: pd.DataFrame, optics: pd.DataFrame, row: str = "particle row") -> pd.DataFrame:
    """A block of particles or micrographs, the columns of each row's optics group (RELION 3.1 and later) joined to it.

    Raises:
        InputError: if a row names no optics group of the file.
    """
    columns = Columns(path, frame, row)
    columns.need("rlnOpticsGroup", f"RELION 3.1 and later name the optics group of every {row.split()[0]}")
    group, known = columns.integers("rlnOpticsGroup"), Columns(path, optics, "row").integers("rlnOpticsGroup")
    if len(set(known)) != len(known):
        raise wrong(path, "each optics group once in data_optics", f"{known.tolist()}")
    unknown = np.flatnonzero(~np.isin(group, known))
    if len(unknown):
        fix = f"add it to data_optics, which has {known.tolist()}"
        raise columns.fail(int(unknown[0]), "rlnOpticsGroup", "an optics group of this file", fix)
    order = np.argsort(known)
    rows = order[np.searchsorted(known[order], group)]
    joined = optics.drop(columns=[c for c in optics.columns if c in frame.columns]).iloc[rows].reset_index(drop=True)
    return pd.concat([frame.reset_index(drop=True), joined], axis=1)


def format_loop(name: str, columns: dict[str, Sequence[Any]]) -> str:
    """A data block of one loop as STAR text."""
    return "".join(loop_lines(name, {key: np.asarray(values, dtype=object) for key, values in columns.items()}))


def loop_lines(name: str, columns: dict[str, NDArray[Any]]) -> Iterator[str]:
    """A data block of one loop as STAR text, piece by piece: what is in memory at once does not grow with the rows."""
    head = ["# version 30001", "", f"data_{name}", "", "loop_"]
    head += [f"_{column} #{i}" for i, column in enumerate(columns, 1)]
    yield "\n".join([*head, ""])
    for start in range(0, max((len(values) for values in columns.values()), default=0), _ROWS_PER_WRITE):
        part = [values[start : start + _ROWS_PER_WRITE].tolist() for values in columns.values()]
        yield "".join(" ".join(map(_word, row)) + "\n" for row in zip(*part, strict=True))
    yield "\n"


def _word(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def has_space(names: ArrayLike) -> list[str]:
    """Names that a STAR file cannot hold: with white space, or empty."""
    return [name for name in np.unique(np.asarray(names).astype(str)).tolist() if name.split() != [name]]
