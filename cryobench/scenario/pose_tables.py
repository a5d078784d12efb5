"""Poses of real particles, from the files of RELION and cryoSPARC."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop import cryosparc, relion


def read_quaternions(path: str) -> NDArray[np.float64]:
    """Poses ``(pose, 4)``, scalar last, of a particle STAR file or of a cryoSPARC ``.cs`` file.

    Raises:
        InputError: if there is no such file, it cannot be read, or it holds no poses.
    """
    file = Path(path)
    return _read(file, file.stat().st_mtime_ns if file.is_file() else 0)


@lru_cache(maxsize=8)
def _read(path: Path, _modified: int) -> NDArray[np.float64]:
    """Remembered until the file changes: priors are asked for at every block of draws."""
    # of a STAR file only the poses are used
    is_cs = path.suffix == ".cs"
    table = cryosparc.read_particles(path) if is_cs else relion.read_particles(path, amplitude_contrast=0.1)
    if table.quaternion is None:
        raise InputError(
            f"{path.name}: expected the poses of particles, found none; give a file of refined particles "
            "(rlnAngleRot, rlnAngleTilt and rlnAnglePsi, or alignments3D/pose)"
        )
    return table.quaternion
