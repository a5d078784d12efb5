"""Whose particle file this is, so that one given to the wrong command is sent to the right one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

from cryobench.errors import InputError

HEAD: Final = 4096
"""Bytes at the beginning of a file that tell what it is."""
_BLOCK = re.compile(rb"^\s*data_", re.MULTILINE)


def check_program(path: str | Path, expected: Literal["relion", "cryosparc"]) -> None:
    """Refuse a particle file of the other program. One that is missing or is of neither is left to its reader.

    Raises:
        InputError: naming the command that imports it.
    """
    path = Path(path)
    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(HEAD)
    if expected == "relion" and head.startswith(b"\x93NUMPY"):
        found, command = "an array of NumPy, as cryoSPARC's .cs files are", "cryosparc"
    elif expected == "cryosparc" and _BLOCK.search(head):
        found, command = "a STAR file, as RELION writes", "relion"
    else:
        return
    wanted = "a STAR file of RELION" if expected == "relion" else "a .cs file of cryoSPARC"
    raise InputError(f"{path.name}: expected {wanted}, got {found}; `cryobench import {command}` takes it")
