"""Particle STAR files of RELION 3.0, 3.1 and later, read into one table of our units and conventions.

Nothing is computed here beyond units and signs: RELION's degrees become radians, its origins (which say how far to move the
image to centre it) become shifts of the content, the negative, and its ``A(rot, tilt, psi)`` becomes our pose ``R``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.interop.particles import ParticleTable, find_repeated
from cryobench.interop.relion_write import ANGLES, write_particles
from cryobench.interop.stacks import locate_stacks
from cryobench.interop.star import Columns, format_loop, join_optics, read_blocks, wrong

__all__ = ["Columns", "format_loop", "locate_stacks", "read_blocks", "read_particles", "write_particles"]

UNMODELLED: Final = {
    "rlnBeamTiltX": ("beam tilt", 0.0),
    "rlnBeamTiltY": ("beam tilt", 0.0),
    "rlnOddZernike": ("antisymmetrical aberrations", None),
    "rlnEvenZernike": ("symmetrical aberrations", None),
    "rlnMagMat00": ("anisotropic magnification", 1.0),
    "rlnMagMat01": ("anisotropic magnification", 0.0),
    "rlnMagMat10": ("anisotropic magnification", 0.0),
    "rlnMagMat11": ("anisotropic magnification", 1.0),
    "rlnCtfScalefactor": ("CTF scale factors", 1.0),
}
"""What a STAR may state and our images do not know, with the value that means nothing (None: any list of zeros)."""


def _particles(path: Path, blocks: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The particle block, with the columns of its optics groups (RELION 3.1 and later) joined to every row."""
    optics = blocks.get("optics")
    of_images = {n: b for n, b in blocks.items() if n == "particles" or "rlnImageName" in b.columns}
    frame = of_images.get("particles") if len(of_images) != 1 else next(iter(of_images.values()))
    if frame is None:
        fix = "give the particles' STAR file, such as particles.star or run_data.star"
        raise wrong(path, "one block of particles with a column rlnImageName", f"the blocks {sorted(blocks)}; {fix}")
    if len(frame) == 0:
        raise wrong(path, "particles", "none; the block has columns and no rows")
    return frame if optics is None else join_optics(path, frame, optics)


def _names(columns: Columns) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Stack and section (from 0) of every image: ``000001@path.mrcs``, or a file of one image."""
    columns.need("rlnImageName", "give the particles' STAR file, not the micrographs'")
    stacks, sections = [], []
    for row, name in enumerate(columns.frame["rlnImageName"].astype(str)):
        number, at, stack = name.rpartition("@")
        if not stack or (at and not (number.isdecimal() and len(number) <= 9 and int(number) > 0)):
            raise columns.fail(row, "rlnImageName", "a name like 000001@stack.mrcs, counted from 1", "correct the row")
        stacks.append(stack)
        sections.append(int(number) - 1 if at else 0)
    names, index = np.array(stacks, dtype=object), np.array(sections, dtype=np.int64)
    repeated = find_repeated(names, index)
    if repeated is not None:
        once = f"every image once (it is in particle row {repeated[1] + 1} too)"
        raise columns.fail(repeated[0], "rlnImageName", once, "remove one of the rows")
    return names, index


def _pixel_size(columns: Columns) -> NDArray[np.float64]:
    for name in ("rlnImagePixelSize", "rlnPixelSize"):
        if name in columns:
            return columns.positive(name)
    columns.need("rlnDetectorPixelSize", "add rlnImagePixelSize, or rlnDetectorPixelSize and rlnMagnification")
    return 1e4 * columns.positive("rlnDetectorPixelSize") / columns.positive("rlnMagnification")


def _unmodelled(columns: Columns) -> list[str]:
    """Sentences on what the file states and our images do not know."""
    found = set()
    for name, (what, nothing) in UNMODELLED.items():
        if name not in columns:
            continue
        values = columns.frame[name].astype(str)
        if nothing is not None:
            means_something = bool((np.abs(columns.numbers(name) - nothing) > 1e-6).any())
        else:
            means_something = bool(values.str.contains("[1-9]", regex=True).any())
        if means_something:
            found.add(what)
    return [f"the file states {', '.join(sorted(found))}, which the images here do not model"] if found else []


def read_particles(path: str | Path, *, amplitude_contrast: float | None = None) -> ParticleTable:
    """Read a particle STAR file of RELION 3.0 (one block), 3.1, 4 or 5 (optics groups).

    The image stacks need not be there yet; :func:`locate_stacks` finds and checks them.

    Args:
        path: of the STAR file.
        amplitude_contrast: fraction to take where the file lacks ``rlnAmplitudeContrast``.

    Raises:
        InputError: naming file, row and column, if something is missing, not a number, or there twice.
    """
    path = Path(path)
    columns = Columns(path, _particles(path, read_blocks(path)))
    notes = _unmodelled(columns)
    if (columns.numbers("rlnImageDimensionality", 2) != 2).any() or "rlnTomoParticleName" in columns:
        raise wrong(path, "single-particle images", "subtomograms, which cannot be imported")
    if (columns.numbers("rlnCtfDataAreCtfPremultiplied", 0) != 0).any():
        raise wrong(path, "images as taken", "CTF-premultiplied ones; extract them again without that option")
    stack, index = _names(columns)
    pixel_size = _pixel_size(columns)
    if "rlnAmplitudeContrast" not in columns:
        if amplitude_contrast is None:
            columns.need("rlnAmplitudeContrast", "add it, or state the value to take (usually 0.07 or 0.1)")
        notes.append(f"the file lacks rlnAmplitudeContrast; {amplitude_contrast:g} was taken")
    ctf = {
        "defocus_u": columns.numbers("rlnDefocusU"),
        "defocus_v": columns.numbers("rlnDefocusV"),
        "defocus_angle": np.deg2rad(columns.numbers("rlnDefocusAngle")),
        "voltage": columns.positive("rlnVoltage"),
        "spherical_aberration": columns.numbers("rlnSphericalAberration"),
        "amplitude_contrast": columns.numbers("rlnAmplitudeContrast", amplitude_contrast),
        "phase_shift": np.deg2rad(columns.numbers("rlnPhaseShift", 0.0)),
        "b_factor": columns.numbers("rlnCtfBfactor", 0.0),
    }
    contrast = ctf["amplitude_contrast"]
    if ((contrast < 0) | (contrast >= 1)).any():
        worst = int(np.argmax((contrast < 0) | (contrast >= 1)))
        where = f", particle row {worst + 1}, amplitude contrast"
        raise wrong(path, "a fraction from 0 to below 1", f"{contrast[worst]:g}; correct the row", where)
    if "rlnMicrographName" in columns:
        micrograph = columns.frame["rlnMicrographName"].astype(str).to_numpy(dtype=object)
    else:
        micrograph = stack
        notes.append("the file names no micrographs; each image stack counts as one")
    quaternion = None
    if all(name in columns for name in ANGLES):
        angles = np.stack([columns.numbers(name) for name in ANGLES], -1)
        if (angles[:, :2] != 0).any():
            quaternion = Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_quat()
        else:
            notes.append("rot and tilt are zero everywhere (2D classification): the angles were not taken as poses")
    shift = None
    if "rlnOriginXAngst" in columns:
        shift = -np.stack([columns.numbers("rlnOriginXAngst"), columns.numbers("rlnOriginYAngst")], -1)
    elif "rlnOriginX" in columns:
        shift = -np.stack([columns.numbers("rlnOriginX"), columns.numbers("rlnOriginY")], -1) * pixel_size[:, None]
    half = None
    if "rlnRandomSubset" in columns:
        subset = columns.numbers("rlnRandomSubset")
        if (~np.isin(subset, (1, 2))).any():
            raise columns.fail(int(np.argmax(~np.isin(subset, (1, 2)))), "rlnRandomSubset", "1 or 2", "correct the row")
        half = subset.astype(np.int8)
    box = columns.integers("rlnImageSize", 0)
    return ParticleTable(path, stack, index, ctf, pixel_size, box, micrograph, quaternion, shift, half, tuple(notes))
