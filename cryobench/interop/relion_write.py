"""Particle STAR files of RELION 3.1, which 4 and 5 read, written from the table that every reader gives."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.interop.atomic import written_whole
from cryobench.interop.particles import ParticleTable
from cryobench.interop.star import has_space, loop_lines, wrong

ANGLES: Final = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


def write_particles(path: str | Path, table: ParticleTable, *, mtf: str | None = None) -> None:
    """Write a table as a particle STAR file of RELION 3.1: an optics table and one row for each image; whole or not at all.

    Args:
        path: of the STAR file.
        table: the particles.
        mtf: name of the detector's MTF file, for ``rlnMtfFileName``.

    Raises:
        InputError: if the box is not known, or a name holds white space (STAR has no room for it).
        StoreError: if it cannot be written.
    """
    path = Path(path)
    spaced = has_space(table.stack) + has_space(table.micrograph)
    if spaced or (table.box <= 0).any():
        raise wrong(
            path, "a box for every image, and names without white space", repr(spaced[0]) if spaced else "box 0"
        )
    optics, group = _optics(table, mtf)
    columns: dict[str, NDArray[Any]] = {
        "rlnImageName": np.array(
            [f"{i + 1:06d}@{name}" for i, name in zip(table.index, table.stack, strict=True)], dtype=object
        ),
        "rlnMicrographName": table.micrograph,
        "rlnOpticsGroup": group,
        "rlnDefocusU": table.ctf["defocus_u"],
        "rlnDefocusV": table.ctf["defocus_v"],
        "rlnDefocusAngle": np.rad2deg(table.ctf["defocus_angle"]),
        "rlnPhaseShift": np.rad2deg(table.ctf["phase_shift"]),
        "rlnCtfBfactor": table.ctf["b_factor"],
    }
    if table.quaternion is not None:
        euler = Rotation.from_quat(table.quaternion).inv().as_euler("ZYZ", degrees=True, suppress_warnings=True)
        columns |= {name: euler[:, i] for i, name in enumerate(ANGLES)}
    if table.shift is not None:
        columns |= {f"rlnOrigin{axis}Angst": -table.shift[:, i] for i, axis in enumerate("XY")}
    if table.half is not None:
        columns["rlnRandomSubset"] = table.half
    with written_whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(chain(loop_lines("optics", optics), loop_lines("particles", columns)))


def _optics(table: ParticleTable, mtf: str | None) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """The optics table, a row for each setting of the microscope and image, and which row each particle is of (from 1)."""
    settings = [table.ctf[name] for name in ("voltage", "spherical_aberration", "amplitude_contrast")]
    rows = np.stack([*settings, table.pixel_size, table.box], -1)
    groups, group = np.unique(rows, axis=0, return_inverse=True)
    voltage, aberration, contrast, pixel_size, box = groups.T
    number = np.arange(1, len(groups) + 1)
    optics: dict[str, NDArray[Any]] = {
        "rlnOpticsGroup": number,
        "rlnOpticsGroupName": np.array([f"opticsGroup{i}" for i in number], dtype=object),
        "rlnVoltage": voltage,
        "rlnSphericalAberration": aberration,
        "rlnAmplitudeContrast": contrast,
        "rlnImagePixelSize": pixel_size,
        "rlnMicrographOriginalPixelSize": pixel_size,
        "rlnImageSize": box.astype(np.int64),
        "rlnImageDimensionality": np.full(len(groups), 2),
    }
    if mtf is not None:
        optics["rlnMtfFileName"] = np.full(len(groups), mtf, dtype=object)
    return optics, group.reshape(-1) + 1
