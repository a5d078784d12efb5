"""Micrographs, boxes and CTFs brought together by name, and what is lacking among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.ingest.cutting import PIXEL_TOLERANCE, open_micrograph
from cryobench.ingest.options import ImportOptions
from cryobench.interop.boxes import BoxTable, Matched, micrograph_key, unique_keys
from cryobench.interop.micrograph_ctf import MicrographCtf

LISTED: Final = 5
"""Names of micrographs that a message spells out."""


@dataclass(frozen=True)
class MicrographOptions:
    """How particles are cut from micrographs.

    Attributes:
        extract: side of the cut on the micrograph in pixels; that of the boxes if not given.
        pixel_size: of the micrographs, angstrom; that of the CTF table or the headers if not given.
        protein: contrast of the micrographs; dark ones are inverted.
        normalise: give every image's background the mean 0 and the standard deviation 1.
        remove_ramp: before that, take off the plane fitted to the background, not its mean alone.
        voltage: kV, where the CTF table states none.
        spherical_aberration: mm, likewise.
        amplitude_contrast: likewise.
        max_ctf_resolution: angstrom; micrographs whose CTF was fitted no better than this are left out.
        skip_without_ctf: leave micrographs out that have boxes and no CTF, instead of refusing.
    """

    extract: int | None = None
    pixel_size: float | None = None
    protein: Literal["dark", "bright"] = "dark"
    normalise: bool = True
    remove_ramp: bool = True
    voltage: float | None = None
    spherical_aberration: float | None = None
    amplitude_contrast: float | None = None
    max_ctf_resolution: float | None = None
    skip_without_ctf: bool = False


def find_micrographs(micrographs: Sequence[str | Path]) -> list[Path]:
    """The files among ``micrographs`` and in the directories among them.

    Raises:
        InputError: if there is none, or two have one name.
    """
    files: list[Path] = []
    for given in map(Path, micrographs):
        if not given.exists():
            raise InputError(f"expected a micrograph, or a directory of them, at {given}, found nothing")
        files += sorted(p for p in given.iterdir() if p.suffix.lower() == ".mrc") if given.is_dir() else [given]
    if not files:
        raise InputError(f"expected micrographs (MRC files), found none in {', '.join(map(str, micrographs))}")
    unique_keys(files)
    return files


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def match_ctf(
    files: list[Path], matched: Matched, transfers: MicrographCtf, cutting: MicrographOptions
) -> tuple[list[NDArray[np.intp]], list[int], list[str]]:
    """Boxes of each micrograph (none where its CTF is lacking or poor), its CTF's row (-1 for none), and notes.

    Raises:
        InputError: if a micrograph with boxes has no CTF and is not to be left out.
    """
    of_key, limit = transfers.rows(), cutting.max_ctf_resolution or np.inf
    owner = [of_key.get(micrograph_key(file.name), -1) for file in files]
    lacking = [f.name for f, row, boxes in zip(files, owner, matched.rows, strict=True) if row < 0 and len(boxes)]
    if lacking and not cutting.skip_without_ctf:
        raise InputError(
            f"{transfers.source.name}: expected the CTF of every micrograph with boxes, found none for {len(lacking)} of them "
            f"({some(lacking)}); add their rows, or have such micrographs left out (--skip-no-ctf)"
        )
    fitted = [row >= 0 and bool(transfers.fit_resolution[row] <= limit) for row in owner]
    # an infinite resolution says that the fit failed
    fitted = [ok and bool(np.isfinite(transfers.fit_resolution[row])) for ok, row in zip(fitted, owner, strict=True)]
    poor = [
        f.name
        for f, row, ok, boxes in zip(files, owner, fitted, matched.rows, strict=True)
        if row >= 0 and not ok and len(boxes)
    ]
    none = np.empty(0, dtype=np.intp)
    rows = [boxes if ok else none for ok, boxes in zip(fitted, matched.rows, strict=True)]
    notes = [f"left out for want of a CTF: {len(lacking)} micrographs ({some(lacking)})"] if lacking else []
    if poor:
        than = "that failed" if limit == np.inf else f"no better than {limit:g} Å"
        notes.append(f"left out for a CTF fit {than}: {len(poor)} micrographs ({some(poor)})")
    return rows, owner, notes


def side_of_cut(table: BoxTable, options: ImportOptions, cutting: MicrographOptions) -> int:
    """Side of the cut in pixels of the micrograph.

    Raises:
        InputError: if neither the boxes nor the options say it, or it is smaller than the working box.
    """
    stated = np.unique(table.box[table.box > 0])
    if cutting.extract is not None:
        side = cutting.extract
    elif len(stated) == 1:
        side = int(stated[0])
    elif len(stated) == 0 and options.box is not None:
        side = options.box
    else:
        got = f"sides from {stated[0]} to {stated[-1]} px" if len(stated) else "positions alone"
        raise InputError(
            f"{table.source.name}: expected boxes of one side, got {got}; give the side of the cut in pixels"
        )
    options.working_box(side)
    return side


def read_headers(
    files: list[Path],
    rows: list[NDArray[np.intp]],
    owner: list[int],
    transfers: MicrographCtf,
    cutting: MicrographOptions,
) -> tuple[list[tuple[int, int]], float]:
    """The shape of every micrograph that has boxes, and the one pixel size of all.

    Raises:
        InputError: if a micrograph cannot be read, or the pixel size is not known or not one.
    """
    shapes, sizes = [], {}
    for file, mine, row in zip(files, rows, owner, strict=True):
        if not len(mine):
            shapes.append((0, 0))
            continue
        field, header = open_micrograph(file)
        shapes.append((int(field.shape[0]), int(field.shape[1])))
        stated = float(transfers.pixel_size[row])
        if cutting.pixel_size is None and stated and header and abs(header / stated - 1) > PIXEL_TOLERANCE:
            raise InputError(
                f"{file.name}: expected the pixel size that {transfers.source.name} states, {stated:.5g} Å, its header states "
                f"{header:.5g} Å; say which is right by giving the pixel size"
            )
        sizes[file.name] = cutting.pixel_size or stated or header
    if not sizes:
        return shapes, cutting.pixel_size or 1.0
    first, pixel_size = next(iter(sizes.items()))
    for name, size in sizes.items():
        if not size > 0:
            raise InputError(
                f"{name}: expected a pixel size in its header or in the CTF table, found none; give it (--pixel-size)"
            )
        if abs(size / pixel_size - 1) > PIXEL_TOLERANCE:
            raise InputError(
                f"{name}: expected the pixel size of {first}, {pixel_size:.5g} Å, got {size:.5g} Å; import each by itself"
            )
    return shapes, pixel_size
