"""Many results side by side: what a suite or a leaderboard hands to its tables and its page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from cryobench.report.table import method_label

State: TypeAlias = Literal["finished", "failed", "declined", "waiting"]
RankedBy: TypeAlias = Literal["truth 0.5", "truth 0.143"]


@dataclass(frozen=True)
class Cell:
    """One run of a comparison, whether it came to an end or not.

    Attributes:
        scenario: label of the row, such as ``"-20 dB, no shifts"``.
        method: name of the method.
        params: its validated parameters.
        seed: of the run; None for a map whose making is not known.
        state: how far it is.
        reason: why it failed or declined.
        result: content of ``result.json`` where it is finished.
        published: resolutions in angstrom of the same experiment, by ``"half_map 0.143"``, ``"half_map 0.5"``,
            ``"truth 0.143"`` and ``"truth 0.5"``; as many of them as there are.
        notes: what must be said of this cell.
        directory: of the run.
        place: row and column in a square of scenarios, such as ``("uniform", "sigma 2")`` for the true and the assumed prior.
    """

    scenario: str
    method: str
    params: Mapping[str, Any]
    seed: int | None
    state: State
    reason: str | None = None
    result: Mapping[str, Any] | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    directory: Path | None = None
    place: tuple[str, str] | None = None


@dataclass(frozen=True)
class Comparison:
    """Cells that are told together.

    Attributes:
        name: such as ``"betagal-imaging"``.
        description: one sentence.
        size: such as ``"desk"`` or ``"paper"``; may be empty.
        source: of the published values; None where there are none.
        cells: in the order of the table.
        notes: what must be said of all.
        axes: what the row and the column of a cell's ``place`` are, such as ``("true prior", "assumed prior")``.
        command: that makes it again.
        ranked_by: ``"truth 0.5"`` or ``"truth 0.143"``, to put the methods of each scenario in order; never a half-map figure.
    """

    name: str
    description: str
    size: str
    source: str | None
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    axes: tuple[str, str] | None = None
    command: str | None = None
    ranked_by: RankedBy | None = None

    @property
    def title(self) -> str:
        """Name and size."""
        return f"{self.name} · {self.size}" if self.size else self.name


def name_methods(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Cells by method, preset and parameters; parameters are named where they tell cells of one preset apart."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        key = method_label(cell.method, cell.params), json.dumps(cell.params, sort_keys=True, default=str)
        groups.setdefault(key, []).append(cell)
    named = {}
    for (label, _), members in groups.items():
        others = [group[0].params for (other, _), group in groups.items() if other == label]
        own = members[0].params
        telling = [key for key in sorted(own) if any(other.get(key) != own[key] for other in others)]
        said = ", ".join(f"{key}={own[key]}" for key in telling)
        named[f"{label} ({said})" if said else label] = members
    return named
