"""Finding the image stacks that a particle table names, and checking that they are what it says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.mrc import open_stack
from cryobench.interop.particles import ParticleTable
from cryobench.interop.star import wrong


def _field(table: ParticleTable) -> str:
    """What names the images in the table's file."""
    return "field blob/path" if table.source.suffix == ".cs" else "column rlnImageName"


def _check_rows(
    table: ParticleTable, rows: NDArray[np.intp], bad: NDArray[np.bool_], got: NDArray[np.int64], expected: str
) -> None:
    if bad.any():
        worst = int(np.argmax(bad))
        where = f", particle row {rows[worst] + 1}, {_field(table)}"
        raise wrong(table.source, expected, f"{got[worst]}; the stack is cut short or of another file", where)


def locate_stacks(table: ParticleTable, stack_directory: str | Path | None = None) -> dict[str, Path]:
    """Find every image stack of a table, and check that it has the sections the table asks for.

    A name is tried in ``stack_directory`` if given (as written, then the file name alone); else relative to the STAR file's
    directory, then to each directory above it (one of them is the RELION project), then to the working directory.

    Raises:
        InputError: if a stack is missing or too short, or its images are not square.
    """
    here = table.source.resolve().parent
    roots = [here, *here.parents, Path.cwd()] if stack_directory is None else [Path(stack_directory)]
    names, first_rows, which = np.unique(table.stack.astype(str), return_index=True, return_inverse=True)
    found: dict[str, Path] = {}
    for i, name in enumerate(names.tolist()):
        tried = [root / name for root in roots] + ([roots[0] / Path(name).name] if stack_directory is not None else [])
        present = [path for path in tried if os.path.isfile(path)]  # False for a name that no file can have
        if not present:
            place = f"{roots[0]}{' or a directory above' if stack_directory is None else ''}"
            where = f", particle row {first_rows[i] + 1}, {_field(table)}"
            raise wrong(
                table.source,
                f"the stack {name} in {place}",
                "nothing; say where the stacks are (`--stacks DIRECTORY`)",
                where,
            )
        sections, height, width = open_stack(present[0])[0].shape
        rows = np.flatnonzero(which == i)
        index, box = table.index[rows], table.box[rows]
        _check_rows(table, rows, index >= sections, index + 1, f"an image of the {sections} in {name}")
        _check_rows(table, rows, (box != 0) & (box != width), box, f"a box of {width} px as in {name}")
        if height != width:
            raise InputError(f"{name}: expected square images, got {height} x {width} px")
        found[name] = present[0]
    return found


def compare_pixel_sizes(table: ParticleTable, paths: Mapping[str, Path]) -> list[str]:
    """A sentence on stacks whose headers state another pixel size than the table, which is the one that counts; or none.

    RELION and cryoSPARC leave the header as it was, so that real stacks state 0 or 1 Å beside the right value in the table.
    """
    _, first_rows = np.unique(table.stack.astype(str), return_index=True)
    other = [
        f"{stated:.5g} Å in {table.stack[row]}, {table.pixel_size[row]:.5g} Å in {table.source.name}"
        for row in first_rows.tolist()
        if (stated := open_stack(paths[table.stack[row]])[1]) and abs(stated / table.pixel_size[row] - 1) > 0.01
    ]
    if not other:
        return []
    return [f"the headers of {len(other)} stacks state another pixel size than the table, whose was taken ({other[0]})"]
