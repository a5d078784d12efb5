"""Particle files of cryoSPARC (``.cs``: a numpy structured array), read into the table that STAR files are read into."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.interop.npy import read_array
from cryobench.interop.particles import ParticleTable, find_repeated
from cryobench.interop.star import LARGEST

_CTF = {
    "defocus_u": "ctf/df1_A",
    "defocus_v": "ctf/df2_A",
    "defocus_angle": "ctf/df_angle_rad",
    "voltage": "ctf/accel_kv",
    "spherical_aberration": "ctf/cs_mm",
    "amplitude_contrast": "ctf/amp_contrast",
    "phase_shift": "ctf/phase_shift_rad",
}
_UNMODELLED: dict[str, tuple[str, float, tuple[int, ...]]] = {
    "ctf/tilt_A": ("beam tilt", 0.0, (2,)),
    "ctf/trefoil_A": ("antisymmetrical aberrations", 0.0, (2,)),
    "ctf/tetra_A": ("symmetrical aberrations", 0.0, (4,)),
    "ctf/anisomag": ("anisotropic magnification", 0.0, (4,)),
    "ctf/scale": ("CTF scale factors", 1.0, ()),
}
"""What a file may state and our images do not know, with the value that means nothing and the shape."""


@final
class Fields:
    """Fields of a ``.cs`` file, checked as they are taken; errors name file, row and field."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.table = Path(path), read_array(path)
        self.names = self.table.dtype.names or ()
        if self.table.ndim != 1 or not self.names or len(self.table) == 0:
            got = "none" if self.names else "no fields"
            raise InputError(f"{self.path.name}: expected particles in a structured array, got {got}")

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return len(self.table)

    def fail(self, name: str, bad: NDArray[np.bool_], expected: str) -> InputError:
        """The error of the first bad row, to be raised."""
        row = int(np.argmax(bad))
        got = self.table[name][row]
        return InputError(f"{self.path.name}: particle row {row + 1}, field {name}: expected {expected}, got {got}")

    def column(self, name: str, kinds: str, *shape: int) -> NDArray[Any]:
        """A field ``(particle, *shape)`` as it is, of a type whose kind is in ``kinds``."""
        if name not in self:
            raise InputError(
                f"{self.path.name}: expected a field {name}, found none; export the particles with their CTF and blob joined "
                f"(a passthrough file lacks them)"
            )
        values = np.asarray(self.table[name])
        if values.dtype.kind not in kinds or values.shape[1:] != shape:
            what = "text" if kinds == "SU" else "numbers"
            raise InputError(
                f"{self.path.name}: expected {what} of shape {shape} in field {name}, got {self.table.dtype[name]}"
            )
        return values

    def numbers(self, name: str, *shape: int) -> NDArray[np.float64]:
        """Finite numbers ``(particle, *shape)``."""
        values = self.column(name, "fiu", *shape).astype(np.float64)
        bad: NDArray[np.bool_] = np.any(~(np.abs(values) <= LARGEST).reshape(len(values), -1), axis=1)
        if bad.any():
            raise self.fail(name, bad, "a number")
        return values

    def positive(self, name: str) -> NDArray[np.float64]:
        """Finite numbers above 0."""
        values = self.numbers(name)
        if (values < 1 / LARGEST).any():
            raise self.fail(name, values < 1 / LARGEST, "a positive number")
        return values

    def integers(self, name: str, *shape: int, below: int = 2**31) -> NDArray[np.int64]:
        """Whole numbers from 0 to below ``below``."""
        values = self.column(name, "iu", *shape)
        bad: NDArray[np.bool_] = np.any(((values < 0) | (values >= below)).reshape(len(values), -1), axis=1)
        if bad.any():
            raise self.fail(name, bad, f"a number from 0 to below {below}")
        return values.astype(np.int64)

    def text(self, name: str) -> NDArray[np.object_]:
        """Text; a leading ``>``, with which cryoSPARC marks paths outside its project, is taken off."""
        values = self.column(name, "SU").tolist()
        try:
            names = [(v.decode() if isinstance(v, bytes) else v).lstrip(">") for v in values]
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path.name}: expected UTF-8 text in field {name}, got other bytes") from error
        return np.array(names, dtype=object)


def read_particles(path: str | Path) -> ParticleTable:
    """Read a ``.cs`` particle file with ``blob`` and ``ctf`` fields, and ``alignments3D`` where the particles were refined.

    cryoSPARC's pose is an axis-angle vector whose rotation is the transpose of ours; its shift, in pixels, says how far to
    move the image to centre it, as RELION's origin does: ours is the negative.

    Raises:
        InputError: naming the file, row and field, if something is missing, not a number, or there twice.
    """
    fields = Fields(path)
    stack, index, pixel_size = fields.text("blob/path"), fields.integers("blob/idx"), fields.positive("blob/psize_A")
    repeated = find_repeated(stack, index)
    if repeated is not None:
        row, first = repeated
        bad = np.arange(len(fields)) == row
        raise fields.fail("blob/idx", bad, f"every image once (it is in particle row {first + 1} too)")
    notes = []
    if "blob/sign" in fields and (fields.numbers("blob/sign") < 0).any():
        notes.append("the file says that the images have protein dark (blob/sign -1): invert them")
    stated = {
        what
        for name, (what, nothing, shape) in _UNMODELLED.items()
        if name in fields and (np.abs(fields.numbers(name, *shape) - nothing) > 1e-6).any()
    }
    if stated:
        notes.append(f"the file states {', '.join(sorted(stated))}, which the images here do not model")
    if "location/micrograph_path" not in fields:
        notes.append("the file names no micrographs; each image stack counts as one")
    quaternion = shift = half = None
    if "alignments3D/pose" in fields:
        quaternion = Rotation.from_rotvec(fields.numbers("alignments3D/pose", 3)).inv().as_quat()
        aligned_at = fields.positive("alignments3D/psize_A") if "alignments3D/psize_A" in fields else pixel_size
        shift = -fields.numbers("alignments3D/shift", 2) * aligned_at[:, None]
        if "alignments3D/split" in fields:
            half = (fields.integers("alignments3D/split", below=2) + 1).astype(np.int8)
    return ParticleTable(
        source=fields.path,
        stack=stack,
        index=index,
        ctf=_read_ctf(fields),
        pixel_size=pixel_size,
        box=fields.integers("blob/shape", 2)[:, -1],
        micrograph=fields.text("location/micrograph_path") if "location/micrograph_path" in fields else stack,
        quaternion=quaternion,
        shift=shift,
        half=half,
        notes=tuple(notes),
    )


def _read_ctf(fields: Fields) -> dict[str, NDArray[np.float64]]:
    ctf = {name: fields.numbers(field) for name, field in _CTF.items()}
    fields.positive(_CTF["voltage"])
    contrast = ctf["amplitude_contrast"]
    if ((contrast < 0) | (contrast >= 1)).any():
        raise fields.fail(_CTF["amplitude_contrast"], (contrast < 0) | (contrast >= 1), "a fraction from 0 to below 1")
    # early versions have no B-factors
    return ctf | {"b_factor": fields.numbers("ctf/bfactor") if "ctf/bfactor" in fields else np.zeros(len(fields))}
