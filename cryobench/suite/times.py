"""Times as people write them."""

from __future__ import annotations

import math

from cryobench.errors import InputError


def parse_seconds(text: str) -> float:
    """A time such as ``90s``, ``10m`` or ``2h`` in seconds; a bare number is seconds.

    Raises:
        InputError: if it is none, or not above zero.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "s")
    try:
        value = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except (ValueError, KeyError):
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"expected a time such as 90s, 10m or 2h, got {text!r}")
    return value
