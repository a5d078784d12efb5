"""Particle files of cryoSPARC (``.cs``: a numpy structured array), read into the table that STAR files are read into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.interop.particles import ParticleTable

_CTF = {
    "defocus_u": "ctf/df1_A",
    "defocus_v": "ctf/df2_A",
    "defocus_angle": "ctf/df_angle_rad",
    "voltage": "ctf/accel_kv",
    "spherical_aberration": "ctf/cs_mm",
    "amplitude_contrast": "ctf/amp_contrast",
    "phase_shift": "ctf/phase_shift_rad",
}


def read_particles(path: str | Path) -> ParticleTable:
    """Read a ``.cs`` particle file with ``blob`` and ``ctf`` fields, and ``alignments3D`` where the particles were refined.

    cryoSPARC's pose is an axis-angle vector whose rotation is the transpose of ours; its shift, in pixels, says how far to
    move the image to centre it, as RELION's origin does: ours is the negative.

    Raises:
        InputError: naming the file, row and field, if something is missing or not a number.
    """
    path = Path(path)
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name}: expected a cryoSPARC .cs file, but it cannot be read ({error})") from error
    fields = table.dtype.names if isinstance(table, np.ndarray) else None
    if not fields or len(table) == 0:
        raise InputError(
            f"{path.name}: expected particles in a structured array, got {'no fields' if not fields else 'none'}"
        )

    def column(name: str) -> NDArray[Any]:
        if name not in fields:
            raise InputError(
                f"{path.name}: expected a field {name}, found none; export the particles with their CTF and blob joined "
                f"(a passthrough file lacks them)"
            )
        values = table[name]
        if values.dtype.kind == "f":
            bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
            if len(bad):
                raise InputError(
                    f"{path.name}: particle row {bad[0] + 1}, field {name}: expected a number, got {values[bad[0]]}"
                )
            return values.astype(np.float64)
        return values

    def text(name: str) -> NDArray[np.object_]:
        return np.array([v.decode().lstrip(">") for v in column(name)], dtype=object)

    stack, pixel_size = text("blob/path"), column("blob/psize_A")
    notes = []
    if "blob/sign" in fields and (column("blob/sign") < 0).any():
        notes.append("the file says that the images have protein dark (blob/sign -1): invert them")
    quaternion = shift = half = None
    if "alignments3D/pose" in fields:
        quaternion = Rotation.from_rotvec(column("alignments3D/pose")).inv().as_quat()
        aligned_at = column("alignments3D/psize_A") if "alignments3D/psize_A" in fields else pixel_size
        shift = -column("alignments3D/shift") * aligned_at[:, None]
        if "alignments3D/split" in fields:
            half = (column("alignments3D/split") + 1).astype(np.int8)
    b_factor = column("ctf/bfactor") if "ctf/bfactor" in fields else np.zeros(len(table))  # early versions have none
    return ParticleTable(
        source=path,
        stack=stack,
        index=column("blob/idx").astype(np.int64),
        ctf={name: column(field) for name, field in _CTF.items()} | {"b_factor": b_factor},
        pixel_size=pixel_size,
        box=column("blob/shape")[:, -1].astype(np.int64),
        micrograph=text("location/micrograph_path") if "location/micrograph_path" in fields else stack,
        quaternion=quaternion,
        shift=shift,
        half=half,
        notes=tuple(notes),
    )
