"""Resolutions in words, and the small table that ends a run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.table import Table

from cryobench.conventions import THRESHOLDS

COMPARISONS: Final[dict[str, str]] = {
    "half_map": "half-map",
    "truth": "truth",
    "truth_half1": "half 1 vs truth",
    "truth_half2": "half 2 vs truth",
}
"""What a result compares, in the order and the words of every table and figure."""

THRESHOLD_KEYS: Final = tuple(f"{threshold:g}" for threshold in THRESHOLDS)


def format_length(angstroms: float) -> str:
    """A length to three digits, or to the angstrom: ``"234 Å"``, ``"14.7 Å"``, ``"7.33 Å"``."""
    digits = 0 if angstroms >= 99.95 else 1 if angstroms >= 9.995 else 2
    return f"{angstroms:.{digits}f} Å"


def format_number(value: float, digits: int = 1) -> str:
    """A number with a typographic minus."""
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def format_duration(seconds: float | None) -> str:
    """Seconds as people say them: ``"9.5 s"``, ``"4 min 02 s"``, ``"3 h 20 min"``; ``"none"`` for None."""
    if seconds is None:
        return "none"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def format_size(count: float | None) -> str:
    """Bytes in GiB; ``"not known"`` for None."""
    return "not known" if count is None else f"{count / 2**30:.2f} GiB"


def format_resolution(value: float | None, state: str) -> str:
    """A resolution as people read it: ``"14.7 Å"``, ``"<= 14.7 Å (Nyquist)"`` or ``"not reached"``.

    Args:
        value: angstrom, or None where the state says that there is none.
        state: ``"crossed"``, ``"above_to_nyquist"`` or ``"below_at_first_shell"``.
    """
    if value is None or state == "below_at_first_shell":
        return "not reached"
    if state == "above_to_nyquist":
        return f"<= {format_length(value)} (Nyquist)"
    return format_length(value)


def resolution_rows(result: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Name and formatted resolution at each threshold of every comparison that was made.

    Args:
        result: contents of ``result.json``.
    """
    return [
        (name, [format_resolution(found[t]["value"], found[t]["state"]) for t in THRESHOLD_KEYS])
        for key, name in COMPARISONS.items()
        if (found := result["resolution"].get(key)) is not None
    ]


def remarks(result: Mapping[str, Any]) -> list[str]:
    """Sentences that must stand with the resolutions: the hallucination gap, and what evaluation warns of."""
    gap = (result.get("hallucination") or {}).get("mean_gap")
    stated = (
        [] if gap is None else [f"hallucination gap {gap:+.3f}: mean FSC that the half-maps promise beyond the truth's"]
    )
    return stated + list(result.get("warnings", []))


def headline(result: Mapping[str, Any]) -> Table:
    """The resolutions of a run for the terminal: comparisons down, FSC thresholds across.

    A method that was given the true poses is marked "oracle poses".

    Args:
        result: contents of ``result.json``.
    """
    oracle = " (oracle poses)" if result["oracle_poses"] else ""
    table = Table(
        title=f"{result['method']}{oracle} · {result['scenario'] or 'imported particles'}",
        caption="\n".join(remarks(result)) or None,
        caption_justify="left",
    )
    table.add_column("resolution")
    for threshold in THRESHOLD_KEYS:
        table.add_column(f"FSC {threshold}", justify="right")
    for name, cells in resolution_rows(result):
        table.add_row(name, *cells)
    return table
