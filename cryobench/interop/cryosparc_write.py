"""Particle files of cryoSPARC, written from the table that every reader gives."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.interop.atomic import written_whole
from cryobench.interop.particles import ParticleTable

_ALIGNED_TO_ONE_CLASS: Final = {"alpha": 1.0, "class_posterior": 1.0, "class_ess": 1.0}
_NO_SCORES: Final = (
    "error",
    "error_min",
    "resid_pow",
    "slice_pow",
    "image_pow",
    "cross_cor",
    "weight",
    "pose_ess",
    "shift_ess",
)
"""What cryoSPARC's own refinement measures; a table knows nothing of it, and the fields must be there."""


def write_particles(path: str | Path, table: ParticleTable) -> None:
    """Write a table as a ``.cs`` file with ``blob``, ``ctf``, ``location`` and, where there are poses, ``alignments3D``.

    cryoSPARC keeps single precision: a defocus is exact to a thousandth of an angstrom. Half-sets are part of the alignments and
    are not written without poses.

    Raises:
        InputError: if the box is not known.
        StoreError: if it cannot be written.
    """
    path = Path(path)
    if (table.box <= 0).any():
        raise InputError(f"{path.name}: expected a box for every image, got {table.box.min()} px")
    columns = _blob(table) | _ctf(table) | _location(table)
    if table.quaternion is not None:
        columns |= _alignments(table, table.quaternion)
    rows = np.empty(len(table), dtype=[(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    with written_whole(path) as partial, partial.open("wb") as file:
        np.save(file, rows, allow_pickle=False)


def _identity(*words: str) -> int:
    """A number that cryoSPARC can know a thing by, the same whenever it is written."""
    return int.from_bytes(hashlib.sha256("\n".join(words).encode()).digest()[:8], "little")


def _text(values: NDArray[np.object_]) -> NDArray[np.bytes_]:
    return np.array([str(v).encode() for v in values], dtype=np.bytes_)


def _blob(table: ParticleTable) -> dict[str, NDArray[Any]]:
    n = len(table)
    names = zip(table.stack.tolist(), table.index.tolist(), strict=True)
    return {
        "uid": np.array([_identity(str(stack), str(index)) for stack, index in names], dtype=np.uint64),
        "blob/path": _text(table.stack),
        "blob/idx": table.index.astype(np.uint32),
        "blob/shape": np.repeat(table.box.astype(np.uint32)[:, None], 2, axis=1),
        "blob/psize_A": table.pixel_size.astype(np.float32),
        "blob/sign": np.ones(n, dtype=np.float32),  # protein bright
        "blob/import_sig": np.zeros(n, dtype=np.uint64),
    }


def _ctf(table: ParticleTable) -> dict[str, NDArray[Any]]:
    n, ctf = len(table), {name: values.astype(np.float32) for name, values in table.ctf.items()}
    microscope = np.stack([ctf[name] for name in ("voltage", "spherical_aberration", "amplitude_contrast")], -1)
    group = np.unique(microscope, axis=0, return_inverse=True)[1].reshape(-1)
    columns: dict[str, NDArray[Any]] = {
        "ctf/type": np.full(n, b"imported"),
        "ctf/exp_group_id": group.astype(np.uint32),
        "ctf/accel_kv": ctf["voltage"],
        "ctf/cs_mm": ctf["spherical_aberration"],
        "ctf/amp_contrast": ctf["amplitude_contrast"],
        "ctf/df1_A": ctf["defocus_u"],
        "ctf/df2_A": ctf["defocus_v"],
        "ctf/df_angle_rad": ctf["defocus_angle"],
        "ctf/phase_shift_rad": ctf["phase_shift"],
        "ctf/scale": np.ones(n, dtype=np.float32),
        "ctf/scale_const": np.zeros(n, dtype=np.float32),
    }
    aberrations = {"shift_A": 2, "tilt_A": 2, "trefoil_A": 2, "tetra_A": 4, "anisomag": 4}
    columns |= {f"ctf/{name}": np.zeros((n, size), dtype=np.float32) for name, size in aberrations.items()}
    return columns | {"ctf/bfactor": ctf["b_factor"]}


def _location(table: ParticleTable) -> dict[str, NDArray[Any]]:
    known = {str(name): _identity(str(name)) for name in np.unique(table.micrograph.astype(str))}
    return {
        "location/micrograph_uid": np.array([known[str(name)] for name in table.micrograph], dtype=np.uint64),
        "location/micrograph_path": _text(table.micrograph),
    }


def _alignments(table: ParticleTable, quaternion: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    n = len(table)
    half = np.ones(n) if table.half is None else table.half
    shift = np.zeros((n, 2)) if table.shift is None else table.shift
    scores = dict.fromkeys(_NO_SCORES, 0.0) | _ALIGNED_TO_ONE_CLASS
    return {
        "alignments3D/split": (half - 1).astype(np.uint32),
        "alignments3D/shift": (-shift / table.pixel_size[:, None]).astype(np.float32),
        "alignments3D/pose": Rotation.from_quat(quaternion).inv().as_rotvec().astype(np.float32),
        "alignments3D/psize_A": table.pixel_size.astype(np.float32),
        **{f"alignments3D/{name}": np.full(n, value, dtype=np.float32) for name, value in scores.items()},
        "alignments3D/class": np.zeros(n, dtype=np.uint32),
    }
