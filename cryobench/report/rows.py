"""The rows of a comparison: methods with their seeds combined, what was published, and the yardsticks."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from cryobench.conventions import HALVES
from cryobench.report.comparison import Cell, Comparison, RankedBy, name_methods
from cryobench.report.reading import Found, find_objection, nyquist_of, read_yardsticks, spatial_frequency, told_poses
from cryobench.report.seeds import combine_seeds, median_rank
from cryobench.report.table import THRESHOLD_KEYS, method_label

FIGURES: Final = tuple(f"{comparison} {t}" for comparison in ("half_map", "truth") for t in THRESHOLD_KEYS)
"""Names of the figures of every row: ``"half_map 0.143"``, ``"half_map 0.5"``, ``"truth 0.143"``, ``"truth 0.5"``."""


@dataclass(frozen=True)
class Figure:
    """A resolution of a row.

    Attributes:
        found: over the seeds, in the form of ``result.json``.
        finest: fine end of its interval, angstrom; None where it has no number.
        coarsest: coarse end.
        coverage: of the interval; None where there is no interval.
        over_seeds: whether the interval is over seeds, and not over the Fourier coefficients of the one run.
        published: angstrom; None where nothing was published.
        nyquist: of the box, angstrom.
    """

    found: Found
    finest: float | None = None
    coarsest: float | None = None
    coverage: float | None = None
    over_seeds: bool = False
    published: float | None = None
    nyquist: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over published; None where either is missing. An upper limit where ours is ``above_to_nyquist``."""
        return self.found["value"] / self.published if self.published and self.found["value"] else None

    @property
    def is_beyond(self) -> bool:
        """Whether what was published is finer than anything that this box can show."""
        return self.published is not None and self.nyquist is not None and self.published < self.nyquist * (1 - 1e-9)


@dataclass(frozen=True)
class Row:
    """One line of a comparison: a method with its parameters on a scenario, a yardstick, or what was published.

    Attributes:
        scenario: label.
        name: of the method with its preset and what else tells it from its neighbours, or of the yardstick.
        kind: of line.
        figures: those there are, by name.
        cells: the runs behind it; empty for yardsticks and published values.
        gap: hallucination gap, median over seeds; None where there is none.
        gap_range: its interval.
        seconds: wall time of both halves, median over seeds.
        memory: highest peak of a half of any seed, bytes.
        objection: why the half-map figures of a seed, and so of all, do not count; None where they do.
        rank: among the methods of its scenario; None where it has none: oracle poses, no truth, no result.
    """

    scenario: str
    name: str
    kind: Literal["method", "yardstick", "published"]
    figures: Mapping[str, Figure]
    cells: tuple[Cell, ...] = ()
    gap: float | None = None
    gap_range: tuple[float, float] | None = None
    seconds: float | None = None
    memory: float | None = None
    objection: str | None = None
    rank: int | None = None

    @property
    def finished(self) -> tuple[Cell, ...]:
        """Its runs that came to an end."""
        return tuple(cell for cell in self.cells if cell.result is not None)

    @property
    def told_poses(self) -> str | None:
        """What is said of a method that was given poses, true or imported; it is neither ranked nor best."""
        return next((said for cell in self.finished if cell.result and (said := told_poses(cell.result))), None)

    @property
    def label(self) -> str:
        """Its name, marked where the method was told poses."""
        return self.name if self.told_poses is None else f"{self.name} ({self.told_poses})"

    def is_counted(self, figure: str) -> bool:
        """Whether a figure may be held against others'."""
        return self.objection is None or not figure.startswith("half_map")


def gather_rows(comparison: Comparison) -> list[Row]:
    """The rows of every scenario: published values, methods with seeds combined (in order, where they are ranked), yardsticks."""
    rows = []
    for scenario in dict.fromkeys(cell.scenario for cell in comparison.cells):
        cells = [cell for cell in comparison.cells if cell.scenario == scenario]
        methods = _method_rows(scenario, cells)
        if comparison.ranked_by is not None:
            methods = _rank(methods, comparison.ranked_by)
        rows += [*_published_rows(scenario, cells), *methods, *_yardstick_rows(scenario, cells)]
    return rows


def _rank(rows: Sequence[Row], by: RankedBy) -> list[Row]:
    """Rows from the finest to the coarsest, ties broken by the other truth figure; equals share a rank.

    Methods that were given poses stand where they belong, without a rank.
    """
    other = "truth 0.143" if by == "truth 0.5" else "truth 0.5"

    def merit(row: Row) -> tuple[float, ...]:
        return tuple(spatial_frequency(row.figures[key].found) if key in row.figures else -1.0 for key in (by, other))

    ordered = sorted(rows, key=merit, reverse=True)
    merits = [merit(row) for row in ordered if row.told_poses is None]
    return [
        row if row.told_poses or by not in row.figures else replace(row, rank=merits.index(merit(row)) + 1)
        for row in ordered
    ]


def find_best(rows: Sequence[Row], figure: str) -> list[Row]:
    """The methods whose counted figure is the finest of a scenario; several where they are equal, none where fewer than two vie.

    Methods that were given poses, and those whose map is no better than an ellipsoid, cannot be best in anything.
    """
    vying = [r for r in rows if r.kind == "method" and figure in r.figures and r.told_poses is None]
    fit = [row for row in vying if row.objection is None] if len(vying) > 1 else []
    highest = max((spatial_frequency(row.figures[figure].found) for row in fit), default=0.0)
    return [row for row in fit if 0 < highest == spatial_frequency(row.figures[figure].found)]


def _published_rows(scenario: str, cells: Sequence[Cell]) -> list[Row]:
    known: dict[tuple[tuple[str, float], ...], list[Cell]] = {}
    for cell in cells:
        if cell.published:
            known.setdefault(tuple(sorted(cell.published.items())), []).append(cell)
    rows = []
    for values, members in known.items():
        methods = dict.fromkeys(method_label(cell.method, cell.params) for cell in members)
        name = "published" if len(known) == 1 else f"published for {', '.join(methods)}"
        limit = max((nyquist_of(cell.result) for cell in cells if cell.result is not None), default=None)
        figures = {
            figure: Figure({"value": value, "state": "crossed"}, published=value, nyquist=limit)
            for figure, value in values
        }
        rows.append(Row(scenario, name, "published", figures))
    return rows


def _method_rows(scenario: str, cells: Sequence[Cell]) -> list[Row]:
    rows = []
    for name, members in name_methods(cells).items():
        results = [cell.result for cell in members if cell.result is not None]
        gaps = sorted(g for r in results if (g := (r.get("hallucination") or {}).get("mean_gap")) is not None)
        rank = median_rank(len(gaps)) if gaps else 0
        objections = [found for result in results if (found := find_objection(result)) is not None]
        costs = [result["cost"] for result in results if result["cost"]]
        seconds = [cost["total_wall_seconds"] for cost in costs]
        peaks = [
            peak for cost in costs for half in HALVES if (peak := cost[f"half{half}"]["peak_memory_bytes"]) is not None
        ]
        rows.append(
            Row(
                scenario,
                name,
                "method",
                {
                    key: figure
                    for key in FIGURES
                    if (figure := _combine(key, results, members[0].published)) is not None
                },
                tuple(members),
                statistics.median(gaps) if gaps else None,
                _gap_range(results, gaps, rank),
                statistics.median(seconds) if seconds else None,
                max(peaks, default=None),
                objections[0] if objections else None,
            )
        )
    return rows


def _gap_range(results: Sequence[Mapping[str, Any]], gaps: Sequence[float], rank: int) -> tuple[float, float] | None:
    if len(gaps) > 1:
        return gaps[rank - 1], gaps[-rank]
    own = (results[0].get("intervals") or {}).get("mean_gap") if len(results) == 1 else None
    return None if own is None else (own["low"], own["high"])


def _combine(key: str, results: Sequence[Mapping[str, Any]], published: Mapping[str, float]) -> Figure | None:
    comparison, threshold = key.split()
    known = [result for result in results if result["resolution"].get(comparison) is not None]
    if not known:
        return None
    limit, stated = nyquist_of(known[0]), published.get(key)
    founds = [result["resolution"][comparison][threshold] for result in known]
    if len(founds) > 1:
        combined = combine_seeds(founds)
        ends = combined.finest["value"], combined.coarsest["value"]
        return Figure(combined.median, *ends, combined.coverage, True, stated, limit)
    within = known[0].get("intervals") or {}
    if (own := within.get(comparison)) is None:
        return Figure(founds[0], published=stated, nyquist=limit)
    return Figure(
        founds[0], own[threshold]["finest"], own[threshold]["coarsest"], within["level"], False, stated, limit
    )


def _yardstick_rows(scenario: str, cells: Sequence[Cell]) -> list[Row]:
    """Each yardstick over the seeds of its runs: methods share them, so a seed is counted once."""
    by_seed: dict[str, dict[str, dict[int | None, Found]]] = {}
    limit = None
    for cell in cells:
        if cell.result is None:
            continue
        limit = nyquist_of(cell.result)
        for name, comparison, found in read_yardsticks(cell.result):
            for threshold in THRESHOLD_KEYS:
                seeds = by_seed.setdefault(name, {}).setdefault(f"{comparison} {threshold}", {})
                seeds.setdefault(cell.seed, found[threshold])
    rows = []
    for name, figures in by_seed.items():
        combined = {}
        for key, seeds in figures.items():
            over = combine_seeds(list(seeds.values()))
            same = len({json.dumps(dict(found), sort_keys=True) for found in seeds.values()}) == 1
            coverage = None if same else over.coverage
            combined[key] = Figure(
                over.median, over.finest["value"], over.coarsest["value"], coverage, not same, nyquist=limit
            )
        rows.append(Row(scenario, name, "yardstick", combined))
    return rows
