"""Particle STAR files of RELION 3.0, 3.1 and later, read into one table of our units and conventions, and written back.

Nothing is computed here beyond units and signs: RELION's degrees become radians, its origins (which say how far to move the
image to centre it) become shifts of the content, the negative, and its ``A(rot, tilt, psi)`` becomes our pose ``R``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.interop.mrc import open_stack
from cryobench.interop.particles import ParticleTable

ANGLES: Final = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
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


def _wrong(path: Path, expected: str, got: str, where: str = "") -> InputError:
    return InputError(f"{path.name}{where}: expected {expected}, got {got}")


@final
class _Columns:
    """Columns of one particle block, checked as they are taken."""

    def __init__(self, path: Path, frame: pd.DataFrame) -> None:
        self.path, self.frame = path, frame

    def __contains__(self, name: str) -> bool:
        return name in self.frame.columns

    def need(self, name: str, fix: str) -> None:
        if name not in self:
            raise _wrong(self.path, f"a column {name}", f"none among {len(self.frame.columns)}; {fix}")

    def fail(self, row: int, name: str, expected: str, fix: str) -> InputError:
        got = self.frame[name].iloc[row]
        return _wrong(self.path, expected, f"{got}; {fix}", f", particle row {row + 1}, column {name}")

    def numbers(self, name: str, default: float | None = None) -> NDArray[np.float64]:
        """A column of finite numbers, or ``default`` where there is no such column."""
        if default is not None and name not in self:
            return np.full(len(self.frame), default)
        self.need(name, "add it, or export the particles again with their CTF")
        values = pd.to_numeric(self.frame[name], errors="coerce").to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise self.fail(int(bad[0]), name, "a number", f"correct or remove the row ({len(bad)} such rows)")
        return values

    def positive(self, name: str) -> NDArray[np.float64]:
        values = self.numbers(name)
        if (values <= 0).any():
            raise self.fail(int(np.argmax(values <= 0)), name, "a positive number", "correct the row")
        return values


def _blocks(path: Path) -> dict[str, pd.DataFrame]:
    if not path.is_file():
        raise InputError(f"expected a STAR file at {path}, found {'a directory' if path.is_dir() else 'nothing'}")
    try:
        blocks = starfile.read(path, always_dict=True, parse_as_string=["rlnImageName", "rlnMicrographName"])
    except (ValueError, IndexError, KeyError) as error:  # a parser's ParserError and UnicodeDecodeError are ValueErrors
        reason = str(error).splitlines()[0]
        raise _wrong(path, "a whole STAR file", f"one that cannot be parsed ({reason})") from error
    frames = {n: pd.DataFrame([b]) if isinstance(b, dict) else b for n, b in blocks.items() if b is not None}
    if not frames:
        raise _wrong(path, "a STAR file with a block of particles", "no data block")
    return frames


def _particles(path: Path, blocks: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The particle block, with the columns of its optics groups (RELION 3.1 and later) joined to every row."""
    optics = blocks.get("optics")
    of_images = {n: b for n, b in blocks.items() if n == "particles" or "rlnImageName" in b.columns}
    frame = of_images.get("particles") if len(of_images) != 1 else next(iter(of_images.values()))
    if frame is None:
        fix = "give the particles' STAR file, such as particles.star or run_data.star"
        raise _wrong(path, "one block of particles with a column rlnImageName", f"the blocks {sorted(blocks)}; {fix}")
    if len(frame) == 0:
        raise _wrong(path, "particles", "none; the block has columns and no rows")
    if optics is None:
        return frame
    columns = _Columns(path, frame)
    columns.need("rlnOpticsGroup", "RELION 3.1 and later name the optics group of every particle")
    group, known = columns.numbers("rlnOpticsGroup"), _Columns(path, optics).numbers("rlnOpticsGroup")
    if len(set(known)) != len(known):
        raise _wrong(path, "each optics group once in data_optics", f"{known.astype(int).tolist()}")
    unknown = np.flatnonzero(~np.isin(group, known))
    if len(unknown):
        fix = f"add it to data_optics, which has {known.astype(int).tolist()}"
        raise columns.fail(int(unknown[0]), "rlnOpticsGroup", "an optics group of this file", fix)
    rows = np.array([np.flatnonzero(known == g)[0] for g in group])
    joined = optics.drop(columns=[c for c in optics.columns if c in frame.columns]).iloc[rows].reset_index(drop=True)
    return pd.concat([frame.reset_index(drop=True), joined], axis=1)


def _names(columns: _Columns) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Stack and section (from 0) of every image: ``000001@path.mrcs``, or a file of one image."""
    columns.need("rlnImageName", "give the particles' STAR file, not the micrographs'")
    stacks, sections = [], []
    for row, name in enumerate(columns.frame["rlnImageName"].astype(str)):
        number, at, stack = name.rpartition("@")
        if not stack or (at and not (number.isdecimal() and int(number) > 0)):
            raise columns.fail(row, "rlnImageName", "a name like 000001@stack.mrcs, counted from 1", "correct the row")
        stacks.append(stack)
        sections.append(int(number) - 1 if at else 0)
    first: dict[tuple[str, int], int] = {}
    for row, key in enumerate(zip(stacks, sections, strict=True)):
        if first.setdefault(key, row) != row:
            once = f"every image once (it is in particle row {first[key] + 1} too)"
            raise columns.fail(row, "rlnImageName", once, "remove one of the rows")
    return np.array(stacks, dtype=object), np.array(sections, dtype=np.int64)


def _pixel_size(columns: _Columns) -> NDArray[np.float64]:
    for name in ("rlnImagePixelSize", "rlnPixelSize"):
        if name in columns:
            return columns.positive(name)
    columns.need("rlnDetectorPixelSize", "add rlnImagePixelSize, or rlnDetectorPixelSize and rlnMagnification")
    return 1e4 * columns.positive("rlnDetectorPixelSize") / columns.positive("rlnMagnification")


def _unmodelled(columns: _Columns) -> list[str]:
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
    columns = _Columns(path, _particles(path, _blocks(path)))
    notes = _unmodelled(columns)
    if (columns.numbers("rlnImageDimensionality", 2) != 2).any() or "rlnTomoParticleName" in columns:
        raise _wrong(path, "single-particle images", "subtomograms, which cannot be imported")
    if (columns.numbers("rlnCtfDataAreCtfPremultiplied", 0) != 0).any():
        raise _wrong(path, "images as taken", "CTF-premultiplied ones; extract them again without that option")
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
        raise _wrong(path, "a fraction from 0 to below 1", f"{contrast[worst]:g}; correct the row", where)
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
    box = columns.numbers("rlnImageSize", 0).astype(np.int64)
    return ParticleTable(path, stack, index, ctf, pixel_size, box, micrograph, quaternion, shift, half, tuple(notes))


def _check_rows(
    table: ParticleTable, rows: NDArray[np.intp], wrong: NDArray[np.bool_], got: NDArray[np.int64], expected: str
) -> None:
    if wrong.any():
        worst = int(np.argmax(wrong))
        where = f", particle row {rows[worst] + 1}, column rlnImageName"
        raise _wrong(table.source, expected, f"{got[worst]}; the stack is cut short or of another file", where)


def locate_stacks(table: ParticleTable, stack_directory: str | Path | None = None) -> dict[str, Path]:
    """Find every image stack of a table, and check that it has the sections the table asks for.

    A name is tried in ``stack_directory`` if given (as written, then the file name alone); else relative to the STAR file's
    directory, then to each directory above it (one of them is the RELION project), then to the working directory.

    Raises:
        InputError: if a stack is missing or too short, or the boxes differ.
    """
    here = table.source.resolve().parent
    roots = [here, *here.parents, Path.cwd()] if stack_directory is None else [Path(stack_directory)]
    names, first_rows, which = np.unique(table.stack.astype(str), return_index=True, return_inverse=True)
    found: dict[str, Path] = {}
    common = 0
    for i, name in enumerate(names.tolist()):
        tried = [root / name for root in roots] + ([roots[0] / Path(name).name] if stack_directory is not None else [])
        present = [path for path in tried if path.is_file()]
        if not present:
            place = f"{roots[0]}{' or a directory above' if stack_directory is None else ''}"
            where = f", particle row {first_rows[i] + 1}, column rlnImageName"
            raise _wrong(table.source, f"the stack {name} in {place}", "nothing; say where the stacks are", where)
        sections, height, width = open_stack(present[0])[0].shape
        common = common or width
        rows = np.flatnonzero(which == i)
        index, box = table.index[rows], table.box[rows]
        _check_rows(table, rows, index >= sections, index + 1, f"an image of the {sections} in {name}")
        _check_rows(table, rows, (box != 0) & (box != width), box, f"a box of {width} px as in {name}")
        if (height, width) != (common, common):
            raise InputError(f"{name}: expected square images of {common} px as in every stack, got {height} x {width}")
        found[name] = present[0]
    return found


def _loop(name: str, columns: dict[str, Sequence[Any]]) -> str:
    lines = ["# version 30001", "", f"data_{name}", "", "loop_"]
    lines += [f"_{column} #{i}" for i, column in enumerate(columns, 1)]
    lines += [
        " ".join(f"{v:.10g}" if isinstance(v, float) else str(v) for v in row)
        for row in zip(*columns.values(), strict=True)
    ]
    return "\n".join([*lines, "", ""])


def write_particles(path: str | Path, table: ParticleTable) -> None:
    """Write a table as a particle STAR file of RELION 3.1 (which 4 and 5 read): an optics table and one row for each image.

    Raises:
        InputError: if the box is not known, or a name holds white space (STAR has no room for it).
    """
    path = Path(path)
    spaced = [n for n in (*table.stack, *table.micrograph) if str(n).split() != [str(n)]]
    if spaced or (table.box <= 0).any():
        raise _wrong(
            path, "a box for every image, and names without white space", repr(spaced[0]) if spaced else "box 0"
        )
    optics = [table.ctf[name] for name in ("voltage", "spherical_aberration", "amplitude_contrast")]
    groups, group = np.unique(np.stack([*optics, table.pixel_size, table.box], -1), axis=0, return_inverse=True)
    voltage, aberration, contrast, pixel_size, box = groups.T
    number = np.arange(1, len(groups) + 1)
    text = _loop(
        "optics",
        {
            "rlnOpticsGroup": number.tolist(),
            "rlnOpticsGroupName": [f"opticsGroup{i}" for i in number],
            "rlnVoltage": voltage.tolist(),
            "rlnSphericalAberration": aberration.tolist(),
            "rlnAmplitudeContrast": contrast.tolist(),
            "rlnImagePixelSize": pixel_size.tolist(),
            "rlnMicrographOriginalPixelSize": pixel_size.tolist(),
            "rlnImageSize": box.astype(int).tolist(),
            "rlnImageDimensionality": [2] * len(groups),
        },
    )
    columns: dict[str, Sequence[Any]] = {
        "rlnImageName": [f"{i + 1:06d}@{name}" for i, name in zip(table.index, table.stack, strict=True)],
        "rlnMicrographName": table.micrograph.tolist(),
        "rlnOpticsGroup": (group.reshape(-1) + 1).tolist(),
        "rlnDefocusU": table.ctf["defocus_u"].tolist(),
        "rlnDefocusV": table.ctf["defocus_v"].tolist(),
        "rlnDefocusAngle": np.rad2deg(table.ctf["defocus_angle"]).tolist(),
        "rlnPhaseShift": np.rad2deg(table.ctf["phase_shift"]).tolist(),
        "rlnCtfBfactor": table.ctf["b_factor"].tolist(),
    }
    if table.quaternion is not None:
        euler = Rotation.from_quat(table.quaternion).inv().as_euler("ZYZ", degrees=True, suppress_warnings=True)
        columns |= {name: euler[:, i].tolist() for i, name in enumerate(ANGLES)}
    if table.shift is not None:
        columns |= {f"rlnOrigin{axis}Angst": (-table.shift[:, i]).tolist() for i, axis in enumerate("XY")}
    if table.half is not None:
        columns["rlnRandomSubset"] = table.half.tolist()
    path.write_text(text + _loop("particles", columns), encoding="utf-8")
