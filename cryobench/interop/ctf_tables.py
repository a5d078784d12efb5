"""CTFs of real micrographs, from whatever lists them: CTFFIND4, RELION, cryoSPARC, or an npz table of cryoDRGN's columns.

A file of particles gives each distinct CTF once: particles of one micrograph share it until a CTF refinement tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.cryosparc import Fields
from cryobench.interop.ctffind import read_ctf_table
from cryobench.interop.npy import read_archive
from cryobench.interop.star import Columns, join_optics, read_blocks

DEFOCUS: Final = ("defocus_u", "defocus_v", "defocus_angle", "phase_shift")
OPTICS: Final = ("voltage", "spherical_aberration", "amplitude_contrast")


@final
@dataclass(frozen=True)
class CtfRows:
    """Distinct CTFs of a file, one row each, in our units.

    Attributes:
        source: the file, for messages.
        columns: those of :data:`DEFOCUS`, and of :data:`OPTICS` those that the file states, each ``(row,)``: angstrom, radian,
            kV, mm.
        fit_resolution: up to which the rings were fitted, angstrom; None where the file does not say, inf for a failed fit.
        listed: how many rows the file has.
        micrographs: the first row of each micrograph that the file names.
    """

    source: Path
    columns: dict[str, NDArray[np.float64]]
    fit_resolution: NDArray[np.float64] | None
    listed: int
    micrographs: dict[str, int]

    def __len__(self) -> int:
        return len(self.columns["defocus_u"])


def read_ctf_rows(path: str | Path) -> CtfRows:
    """The CTFs of a file, known by its suffix: ``.star``, ``.cs``, ``.npz``; any other is read as CTFFIND4's text.

    Raises:
        InputError: naming file, row and field, if something is missing or not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"expected a table of CTFs at {path}, found {'a directory' if path.is_dir() else 'nothing'}")
    readers: dict[str, Callable[[Path], CtfRows]] = {".star": _from_star, ".cs": _from_cryosparc, ".npz": _from_npz}
    rows = readers.get(path.suffix.lower(), _from_ctffind)(path)
    for name, values in rows.columns.items():
        bad = ~np.isfinite(values)
        if name == "amplitude_contrast":
            bad |= ~((values >= 0) & (values < 1))
        elif name == "voltage":
            bad |= values <= 0
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(f"{path.name}, distinct row {row + 1}: expected a sensible {name}, got {values[row]:g}")
    return rows


def _distinct(
    path: Path, columns: dict[str, NDArray[Any]], resolution: NDArray[Any] | None, names: Sequence[str] = ()
) -> CtfRows:
    """Each distinct row once, in the order of the file."""
    table = np.stack([np.asarray(values, dtype=np.float64) for values in columns.values()], -1)
    if len(table) == 0:
        raise InputError(f"{path.name}: expected CTFs, found a table without rows")
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    kept = np.sort(first)
    row_of = np.searchsorted(kept, first)[inverse.ravel()]
    reached = None
    if resolution is not None:
        reached = np.nan_to_num(np.asarray(resolution, dtype=np.float64), nan=np.inf, posinf=np.inf)[kept]
    # reversed, so that the first row that names a micrograph is the one kept
    micrographs = {str(name): int(row) for name, row in reversed(list(zip(names, row_of, strict=False)))}
    return CtfRows(path, dict(zip(columns, table[kept].T, strict=True)), reached, len(table), micrographs)


def _from_ctffind(path: Path) -> CtfRows:
    table = read_ctf_table(path, max_resolution=np.inf)
    return _distinct(path, {name: getattr(table, name) for name in DEFOCUS}, table.fit_resolution, table.names)


def _from_star(path: Path) -> CtfRows:
    blocks = read_blocks(path)
    listed = {name: block for name, block in blocks.items() if "rlnDefocusU" in block.columns}
    if len(listed) != 1:
        raise InputError(
            f"{path.name}: expected one block with a column rlnDefocusU, found it in {sorted(listed) or 'none'} of the blocks "
            f"{sorted(blocks)}; give a file such as micrographs_ctf.star or the particles' STAR file"
        )
    frame = next(iter(listed.values()))
    if "optics" in blocks:
        frame = join_optics(path, frame, blocks["optics"], "row")
    columns = Columns(path, frame, "row")
    taken = {
        "defocus_u": columns.numbers("rlnDefocusU"),
        "defocus_v": columns.numbers("rlnDefocusV"),
        "defocus_angle": np.deg2rad(columns.numbers("rlnDefocusAngle")),
        "phase_shift": np.deg2rad(columns.numbers("rlnPhaseShift", 0.0)),
    }
    stated = {
        "voltage": "rlnVoltage",
        "spherical_aberration": "rlnSphericalAberration",
        "amplitude_contrast": "rlnAmplitudeContrast",
    }
    taken |= {name: columns.numbers(label) for name, label in stated.items() if label in columns}
    resolution = None
    if "rlnCtfMaxResolution" in columns:
        resolution = pd.to_numeric(frame["rlnCtfMaxResolution"], errors="coerce").to_numpy(dtype=np.float64)
    names = frame["rlnMicrographName"].astype(str).tolist() if "rlnMicrographName" in columns else ()
    return _distinct(path, taken, resolution, names)


def _from_cryosparc(path: Path) -> CtfRows:
    table = Fields(path)
    labels = {
        "defocus_u": "ctf/df1_A",
        "defocus_v": "ctf/df2_A",
        "defocus_angle": "ctf/df_angle_rad",
        "phase_shift": "ctf/phase_shift_rad",
        "voltage": "ctf/accel_kv",
        "spherical_aberration": "ctf/cs_mm",
        "amplitude_contrast": "ctf/amp_contrast",
    }
    reached = "ctf_stats/ctf_fit_to_A"
    resolution = table.column(reached, "fiu") if reached in table else None
    named = next((f for f in ("location/micrograph_path", "micrograph_blob/path") if f in table), None)
    names = table.text(named).tolist() if named else ()
    return _distinct(path, {name: table.numbers(label) for name, label in labels.items()}, resolution, names)


def _from_npz(path: Path) -> CtfRows:
    """An array ``ctf (row, column)`` with the names of its ``columns``, as cryoDRGN writes CTFs."""
    archive = read_archive(path)
    names = [str(name) for name in archive["columns"].ravel().tolist()] if {"ctf", "columns"} <= set(archive) else []
    table = archive["ctf"] if names else np.zeros(0)
    if table.ndim != 2 or table.shape[-1] != len(names) or table.dtype.kind not in "fiu":
        raise InputError(
            f"{path.name}: expected arrays ctf (row, column) of numbers and columns, their names, got "
            f"{ {name: array.shape for name, array in archive.items()} }"
        )
    labels = {
        "defocus_u": "dfU_A",
        "defocus_v": "dfV_A",
        "defocus_angle": "dfang_deg",
        "phase_shift": "phase_deg",
        "voltage": "kV",
        "spherical_aberration": "Cs_mm",
        "amplitude_contrast": "Q0",
    }
    _check_columns(path, names, labels, "name the columns so")
    degrees = ("defocus_angle", "phase_shift")
    taken = {name: table[:, names.index(label)].astype(np.float64) for name, label in labels.items()}
    return _distinct(path, {k: np.deg2rad(v) if k in degrees else v for k, v in taken.items()}, None)


def _check_columns(path: Path, there: Any, wanted: Mapping[str, str], fix: str) -> None:
    lacking = [label for label in wanted.values() if label not in there]
    if lacking:
        raise InputError(f"{path.name}: expected the columns {', '.join(lacking)}, found none of them; {fix}")
