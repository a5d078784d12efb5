"""Modulation transfer functions of detectors, as RELION's ``mtf_*.star`` files list them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.atomic import written_whole
from cryobench.interop.star import format_loop, read_blocks

FREQUENCY, VALUE = "rlnResolutionInversePixel", "rlnMtfValue"


def read_mtf(path: str | Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies in 1/pixel of the detector, ascending up to 0.5, and the MTF at each; two arrays ``(k,)``.

    Raises:
        InputError: naming file, row and column, if it is no such table.
    """
    path = Path(path)
    frames = [frame for frame in read_blocks(path).values() if {FREQUENCY, VALUE} <= set(frame.columns)]
    if len(frames) != 1 or len(frames[0]) < 2:
        raise InputError(
            f"{path.name}: expected one loop of at least two rows with the columns {FREQUENCY} and {VALUE}, "
            f"found {len(frames)} such loops; give a file such as RELION's mtf_k2_300kV.star"
        )
    columns = [
        np.array(pd.to_numeric(frames[0][name], errors="coerce"), dtype=np.float64) for name in (FREQUENCY, VALUE)
    ]
    rules = [
        (FREQUENCY, "ascending frequencies from 0 to 0.5 1/pixel", _unordered(columns[0])),
        (VALUE, "a number from 0 to 1.5", ~((columns[1] >= 0) & (columns[1] <= 1.5))),
    ]
    for name, expected, bad in rules:
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(
                f"{path.name}, row {row + 1}, column {name}: expected {expected}, got {str(frames[0][name].iloc[row])[:80]}"
            )
    return columns[0], columns[1]


def _unordered(frequency: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which frequencies are no numbers, out of range, or not above the one before."""
    return ~((frequency >= 0) & (frequency <= 0.5) & (np.diff(frequency, prepend=-1) > 0))


def write_mtf(path: str | Path, frequencies: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Write an MTF ``(k,)`` at evenly spaced frequencies ``(k,)`` from 0 to 0.5 1/pixel, as RELION looks it up."""
    text = format_loop("mtf", {FREQUENCY: frequencies.tolist(), VALUE: values.tolist()})
    with written_whole(Path(path)) as partial:
        partial.write_text(text, encoding="utf-8")
