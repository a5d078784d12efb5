"""CTF fits as CTFFIND4 writes them: its own text output, and tables of such lines of many micrographs joined."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.atomic import written_whole
from cryobench.interop.star import LARGEST

COLUMNS: Final = (
    "micrograph number",
    "defocus 1",
    "defocus 2",
    "azimuth of astigmatism",
    "additional phase shift",
    "cross correlation",
    "fit resolution",
)


@final
@dataclass(frozen=True)
class CtfTable:
    """CTF fits of micrographs, one row each. Voltage, Cs and amplitude contrast are the microscope's and not fitted.

    Attributes:
        defocus_u, defocus_v: angstrom, underfocus positive.
        defocus_angle: of the ``defocus_u`` axis from x towards y, radians.
        phase_shift: radians.
        fit_resolution: up to which the rings were fitted, angstrom.
        names: of the micrographs.
        rejected: how many fits were left out for their resolution.
    """

    defocus_u: NDArray[np.float64]
    defocus_v: NDArray[np.float64]
    defocus_angle: NDArray[np.float64]
    phase_shift: NDArray[np.float64]
    fit_resolution: NDArray[np.float64]
    names: tuple[str, ...]
    rejected: int

    def __len__(self) -> int:
        return len(self.names)


def read_ctf_table(path: str | Path, max_resolution: float = 4.0) -> CtfTable:
    """Read CTFFIND4 results and keep the fits that reach ``max_resolution`` angstrom.

    Two forms are known: CTFFIND4's own output (``*_PS.txt``: lines of ``#``, then seven numbers for each micrograph, more in
    later versions), and lines of such files joined, each after the micrograph's name.

    Raises:
        InputError: naming file, line and column, if a line is of neither form; or if no fit is good enough.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"expected a CTFFIND4 table at {path}, found {'a directory' if path.is_dir() else 'nothing'}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: expected CTFFIND4's text output, got a file that is not text") from error
    stem, names, rows = path.stem, [], []
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            stated = re.search(r"Input file: (\S+)", line)
            stem = Path(stated.group(1)).name if stated else stem
        elif line.strip():
            name, values = _parse_line(path, number, line.split())
            names.append(name or f"{stem}:{values[0]:.0f}")
            rows.append(values)
    if not rows:
        raise InputError(f"{path.name}: expected a line of CTF parameters for each micrograph, found none")
    table = np.array(rows)
    kept = np.flatnonzero(table[:, 6] <= max_resolution)
    if len(kept) == 0:
        best = table[:, 6].min()
        raise InputError(
            f"{path.name}: expected fits to {max_resolution:g} Å or better, the best of {len(rows)} reaches {best:.3g} Å; "
            f"fit again or allow a worse resolution"
        )
    _, defocus_u, defocus_v, azimuth, phase_shift, _, resolution = table[kept].T
    chosen = tuple(names[i] for i in kept)
    return CtfTable(defocus_u, defocus_v, np.deg2rad(azimuth), phase_shift, resolution, chosen, len(rows) - len(kept))


def _parse_line(path: Path, number: int, words: list[str]) -> tuple[str | None, list[float]]:
    """Name (or None) and the seven values of one line."""
    name, words = (words[0], words[1:]) if not _is_number(words[0]) else (None, words)
    if len(words) < len(COLUMNS):
        raise InputError(
            f"{path.name}, line {number}: expected {len(COLUMNS)} numbers ({', '.join(COLUMNS)}), got {len(words)}; "
            f"give CTFFIND4's text output, such as *_PS.txt"
        )
    return name, [_number(path, number, column, word) for column, word in zip(COLUMNS, words, strict=False)]


def _number(path: Path, number: int, column: str, word: str) -> float:
    value = float(word) if _is_number(word) else math.nan
    if column == COLUMNS[6]:
        # an unsuccessful fit has an infinite resolution or none, and is left out with the bad ones
        value = math.inf if word.lower() == "nan" else value
        good = value > 0
    else:
        good = abs(value) <= LARGEST
    if not good:
        raise InputError(
            f"{path.name}, line {number}, column {column!r}: expected a number, got {word[:80]!r}; correct or remove the line"
        )
    return value


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def write_ctf_table(path: str | Path, table: CtfTable) -> None:
    """Write fits in the joined form, a line for each micrograph after its name; the score, which is not kept, as 0.

    Raises:
        InputError: if a name holds white space or looks like a number.
        StoreError: if it cannot be written.
    """
    path = Path(path)
    bad = [name for name in table.names if name.split() != [name] or name.startswith("#") or _is_number(name)]
    if bad:
        raise InputError(f"{path.name}: expected names of micrographs that are one word and no number, got {bad[0]!r}")
    angles = np.rad2deg(table.defocus_angle)
    columns = (table.defocus_u, table.defocus_v, angles, table.phase_shift, np.zeros(len(table)), table.fit_resolution)
    lines = ["# Columns: micrograph; " + ", ".join(COLUMNS)]
    lines += [
        f"{name} {number} " + " ".join(f"{value:.10g}" for value in row)
        for number, (name, row) in enumerate(zip(table.names, zip(*columns, strict=True), strict=True), 1)
    ]
    with written_whole(path) as partial:
        partial.write_text("\n".join([*lines, ""]), encoding="utf-8")
