"""Resolutions in words, and the small table that ends a run in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cryobench.conventions import THRESHOLDS
from cryobench.report.reading import NOISE_HALVES, Found, find_objection, nyquist_of, read_yardsticks, told_poses

COMPARISONS: Final[dict[str, str]] = {
    "half_map": "half-map",
    "truth": "truth",
    "truth_half1": "half 1 vs truth",
    "truth_half2": "half 2 vs truth",
}
"""What a result compares, in the order and the words of every table and figure."""

THRESHOLD_KEYS: Final = tuple(f"{threshold:g}" for threshold in THRESHOLDS)


def method_label(name: str, params: Mapping[str, Any] | None) -> str:
    """A method with its preset, as every table names it: ``"cryogan[fast]"``; the name alone where there is none."""
    preset = (params or {}).get("preset")
    return name if preset is None else f"{name}[{preset}]"


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


def format_plainly(value: Any) -> str:
    """Any value in a list of settings; ``"none"`` for None."""
    return "none" if value is None else str(value)


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


def format_found(found: Found) -> str:
    """A resolution in a narrow column whose table states the Nyquist limit: ``"14.7 Å"``, ``"≤ 14.7 Å"``, ``"not reached"``."""
    return format_resolution(found["value"], found["state"]).removesuffix(" (Nyquist)").replace("<=", "≤")


def format_range(finest: float | None, coarsest: float | None, nyquist: float) -> str:
    """An interval of resolutions: ``"11.9–12.8"``, ``"≤ 14.7–15.3"`` from Nyquist on, ``"14.1–none"`` where an end has none.

    Args:
        finest: angstrom; None where not even this end was reached.
        coarsest: angstrom, or None.
        nyquist: angstrom.
    """

    def end(value: float | None) -> str:
        if value is None:
            return "none"
        return ("≤ " if value <= nyquist * (1 + 1e-5) else "") + format_length(value).removesuffix(" Å")

    low, high = end(finest), end(coarsest)
    return low if low == high else f"{low}\N{EN DASH}{high}"


@dataclass(frozen=True)
class HeadlineRow:
    """A row of the headline: what was compared, and what came out at 0.143 and at 0.5.

    Attributes:
        name: such as ``"half-map, mask-corrected"``.
        cells: a resolution in words for each threshold.
        ranges: its interval in words for each threshold; empty where there is none.
        yardstick: whether it is something to hold the others against.
        counted: False for half-map figures that the truth does not bear out.
    """

    name: str
    cells: tuple[str, ...]
    ranges: tuple[str, ...] = ("",) * len(THRESHOLD_KEYS)
    yardstick: bool = False
    counted: bool = True


def headline_rows(result: Mapping[str, Any]) -> list[HeadlineRow]:
    """The headline of a run, for the terminal and the page alike: half-maps, truth, and under them the yardsticks.

    Args:
        result: contents of ``result.json``.
    """
    counted = find_objection(result) is None
    rows = []
    for key, name in COMPARISONS.items():
        found = result["resolution"].get(key)
        if found is None:
            continue
        counts = counted or key != "half_map"
        rows.append(HeadlineRow(name, _cells(found), _ranges(result, key), counted=counts))
        masked = (result.get("masked") or {}).get(key)
        if masked is not None:
            cells = _cells(masked["resolution"]["corrected"])
            rows.append(HeadlineRow(f"{name}, mask-corrected", cells, counted=counts))
    for name, comparison, found in read_yardsticks(result):
        of = "" if name == NOISE_HALVES else f", {COMPARISONS[comparison]}"
        rows.append(HeadlineRow(f"{name}{of}", _cells(found), yardstick=True))
    return rows


def _cells(found: Mapping[str, Found]) -> tuple[str, ...]:
    return tuple(format_found(found[threshold]) for threshold in THRESHOLD_KEYS)


def _ranges(result: Mapping[str, Any], key: str) -> tuple[str, ...]:
    interval = (result.get("intervals") or {}).get(key)
    if interval is None:
        return ("",) * len(THRESHOLD_KEYS)
    limit = nyquist_of(result)
    return tuple(format_range(interval[t]["finest"], interval[t]["coarsest"], limit) for t in THRESHOLD_KEYS)


def remarks(result: Mapping[str, Any]) -> list[str]:
    """Sentences that must stand with the resolutions: what does not count, the hallucination gap, evaluation's warnings."""
    return [*_statements(result), *result.get("warnings", [])]


def _statements(result: Mapping[str, Any]) -> Iterator[str]:
    if result["resolution"].get("half_map") is not None and (objection := find_objection(result)) is not None:
        yield f"half-map figures in parentheses are not counted: {objection}"
    gap = (result.get("hallucination") or {}).get("mean_gap")
    if gap is not None:
        interval = (result.get("intervals") or {}).get("mean_gap")
        within = "" if interval is None else f" ({interval['low']:+.3f} to {interval['high']:+.3f})"
        yield f"hallucination gap {gap:+.3f}{within}: mean FSC that the half-maps promise beyond the truth's"
    if not result.get("yardsticks"):
        yield "yardsticks were not measured: what an ellipsoid, noise or true poses would score is not known"


def headline(result: Mapping[str, Any]) -> Group:
    """The resolutions of a run for the terminal, at most 80 columns wide, and the remarks that belong to them.

    A method that was told poses is marked "oracle poses" or "imported poses"; half-map figures that do not count stand in
    parentheses.

    Args:
        result: contents of ``result.json``.
    """
    table = Table(
        title=Text(name_run(result)),
        caption=f"box {result['box']}, Nyquist {format_length(nyquist_of(result))}, symmetry {result['symmetry']}; "
        f"unmasked unless said; intervals {_level(result)}",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("resolution", overflow="fold")
    for threshold in THRESHOLD_KEYS:
        table.add_column(f"FSC {threshold}", justify="right", no_wrap=True)
        table.add_column("interval", justify="right", no_wrap=True, style="dim")
    rows = headline_rows(result)
    for i, row in enumerate(rows):
        cells = [cell if row.counted else f"({cell})" for cell in row.cells]
        style = "dim" if row.yardstick or not row.counted else None
        pairs = zip(cells, row.ranges, strict=True)
        last_measured = not row.yardstick and i + 1 < len(rows) and rows[i + 1].yardstick
        table.add_row(row.name, *(text for pair in pairs for text in pair), style=style, end_section=last_measured)
    return Group(table, list_remarks(remarks(result)))


def name_run(result: Mapping[str, Any]) -> str:
    """What was run on what, for a title: ``"backproject (oracle poses) · snr-20"``."""
    told = told_poses(result)
    oracle = "" if told is None else f" ({told})"
    particles = "imported particles" if result["particles"] else f"map against {result['specimen'] or 'a truth'}"
    return f"{method_label(result['method'], result['params'])}{oracle} · {result['scenario'] or particles}"


def list_remarks(sentences: Iterable[str]) -> Table:
    """Sentences under one another for the terminal, each with a dot before it."""
    grid = Table.grid(padding=(0, 1))
    for sentence in sentences:
        grid.add_row("•", Text(sentence))
    return grid


def _level(result: Mapping[str, Any]) -> str:
    intervals = result.get("intervals")
    return "not measured" if intervals is None else f"{100 * intervals['level']:.0f} %"
