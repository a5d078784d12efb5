"""The CTF of every micrograph by its name: CTFFIND4's text tables, and the ``micrographs_ctf.star`` of RELION."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.boxes import micrograph_key, unique_keys
from cryobench.interop.ctffind import read_ctf_table
from cryobench.interop.particles import CTF_COLUMNS
from cryobench.interop.star import Columns, join_optics, read_blocks, wrong

OPTICS: Final = ("voltage", "spherical_aberration", "amplitude_contrast")
"""What the microscope's settings are called; a fit takes them as given."""
_STATED: Final = {
    "voltage": r"acceleration voltage:\s*(\d{1,9}(?:\.\d*)?)",
    "spherical_aberration": r"spherical aberration:\s*(\d{1,9}(?:\.\d*)?)",
    "amplitude_contrast": r"amplitude contrast:\s*(\d{1,9}(?:\.\d*)?)",
}


@final
@dataclass(frozen=True)
class MicrographCtf:
    """CTFs of micrographs, one row each.

    Attributes:
        source: the file or directory, for messages.
        names: of the micrographs as written.
        ctf: :data:`~cryobench.interop.particles.CTF_COLUMNS`, each ``(micrograph,)``: angstrom, radian, kV, mm.
        pixel_size: ``(micrograph,)`` of the micrographs, angstrom; 0 where the file does not say.
        fit_resolution: ``(micrograph,)`` up to which the rings were fitted, angstrom; infinite where the fit failed, 0 where the
            file does not say.
    """

    source: Path
    names: tuple[str, ...]
    ctf: dict[str, NDArray[np.float64]]
    pixel_size: NDArray[np.float64]
    fit_resolution: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    def rows(self) -> dict[str, int]:
        """The row of each micrograph, by its key (:func:`~cryobench.interop.boxes.micrograph_key`)."""
        return {micrograph_key(name): row for row, name in enumerate(self.names)}


def read_micrograph_ctf(path: str | Path, optics: Mapping[str, float | None] | None = None) -> MicrographCtf:
    """Read the CTFs of micrographs.

    Args:
        path: CTFFIND4's text output or a table of such lines joined (see :func:`~cryobench.interop.ctffind.read_ctf_table`), a
            directory of such outputs (``*_PS.txt``, ``*.txt``), or a micrograph STAR file of RELION.
        optics: values of :data:`OPTICS` to take where the file states none.

    Raises:
        InputError: naming file, row and column, if something is missing, not a number or there twice.
    """
    path, given = Path(path), dict(optics or {})
    if path.suffix.lower() == ".star":
        table = _read_star(path, given)
    elif path.is_dir():
        files = [f for f in sorted(path.glob("*.txt")) if not f.stem.endswith("_avrot")]
        if not files:
            raise InputError(f"expected CTFFIND4's text output (*_PS.txt) in {path}, found none")
        table = _join(path, [_read_ctffind(file, given) for file in files])
    else:
        table = _read_ctffind(path, given)
    unique_keys(table.names)
    return table


def _optics(path: Path, name: str, stated: float | None, given: Mapping[str, float | None]) -> float:
    value = given.get(name) if stated is None else stated
    if value is None:
        raise InputError(
            f"{path.name}: expected the {name.replace('_', ' ')} of the microscope, the file does not state it; give it "
            f"(--voltage, --cs, --amplitude-contrast)"
        )
    return value


def _read_ctffind(path: Path, given: Mapping[str, float | None]) -> MicrographCtf:
    table = read_ctf_table(path, np.inf)
    with path.open(encoding="utf-8") as file:
        header = "".join(line for line, _ in zip(file, range(20), strict=False) if line.startswith("#"))
    found = {name: re.search(pattern, header) for name, pattern in _STATED.items()}
    n = len(table)
    ctf = {
        "defocus_u": table.defocus_u,
        "defocus_v": table.defocus_v,
        "defocus_angle": table.defocus_angle,
        **{
            name: np.full(n, _optics(path, name, float(match[1]) if match else None, given))
            for name, match in found.items()
        },
        "phase_shift": table.phase_shift,
        "b_factor": np.zeros(n),
    }
    # CTFFIND4's own output counts the micrographs of one stack; a single one is the file's
    names = tuple(name.removesuffix(":1") for name in table.names) if n == 1 else table.names
    return MicrographCtf(path, names, ctf, np.zeros(n), table.fit_resolution)


def _join(source: Path, parts: list[MicrographCtf]) -> MicrographCtf:
    return MicrographCtf(
        source,
        tuple(name for part in parts for name in part.names),
        {name: np.concatenate([part.ctf[name] for part in parts]) for name in CTF_COLUMNS},
        np.concatenate([part.pixel_size for part in parts]),
        np.concatenate([part.fit_resolution for part in parts]),
    )


def _read_star(path: Path, given: Mapping[str, float | None]) -> MicrographCtf:
    blocks = read_blocks(path)
    with_names = {n: b for n, b in blocks.items() if n == "micrographs" or "rlnMicrographName" in b.columns}
    frame = with_names.get("micrographs", next(iter(with_names.values()), None))
    if frame is None or len(frame) == 0:
        got = f"the blocks {sorted(blocks)}" if frame is None else "no rows"
        raise wrong(path, "a block of micrographs with a column rlnMicrographName", f"{got}; give micrographs_ctf.star")
    if "optics" in blocks:
        frame = join_optics(path, frame, blocks["optics"], "micrograph row")
    columns = Columns(path, frame, "micrograph row")
    columns.need("rlnMicrographName", "it says whose CTF a row is")
    u = columns.numbers("rlnDefocusU")
    phase = np.deg2rad(columns.numbers("rlnPhaseShift", 0.0))

    def setting(column: str, name: str) -> NDArray[np.float64]:
        if column in columns:
            return columns.numbers(column)
        return np.full(len(frame), _optics(path, name, None, given))

    ctf = {
        "defocus_u": u,
        "defocus_v": columns.numbers("rlnDefocusV"),
        "defocus_angle": np.deg2rad(columns.numbers("rlnDefocusAngle")),
        "voltage": setting("rlnVoltage", "voltage"),
        "spherical_aberration": setting("rlnSphericalAberration", "spherical_aberration"),
        "amplitude_contrast": setting("rlnAmplitudeContrast", "amplitude_contrast"),
        "phase_shift": phase,
        "b_factor": columns.numbers("rlnCtfBfactor", 0.0),
    }
    pixel_size = np.zeros(len(frame))
    for column in ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize", "rlnPixelSize"):
        if column in columns:
            pixel_size = columns.positive(column)
            break
    else:
        if "rlnDetectorPixelSize" in columns and "rlnMagnification" in columns:
            pixel_size = 1e4 * columns.positive("rlnDetectorPixelSize") / columns.positive("rlnMagnification")
    resolution = columns.numbers("rlnCtfMaxResolution", 0.0)
    return MicrographCtf(path, tuple(frame["rlnMicrographName"].astype(str)), ctf, pixel_size, resolution)
