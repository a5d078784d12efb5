"""The errors a user may meet. Every message says what was expected, what came, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CryobenchError(Exception):
    """Base of every error that is the input's fault and not the program's; the command line exits with 2 on it."""


class InputError(CryobenchError):
    """A file, array, option or parameter is not what was asked for."""


class UnknownName(CryobenchError):
    """A scenario, method, specimen or parameter of that name does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        super().__init__(f"expected the name of a {kind}, got {name!r}{hint} (known: {', '.join(known) or 'none'})")


class StoreError(CryobenchError):
    """A store is missing, unfinished, damaged, or belongs to something else."""


class Declined(CryobenchError):
    """A method's needs are not met here; it says so before any work is done."""


class PluginError(CryobenchError):
    """A registered plugin could not be imported, or does not keep the contract."""
