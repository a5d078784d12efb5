"""A plan: the cells of a suite, everything that decides them resolved and hashed; kept as ``plan.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cryobench.errors import InputError, StoreError
from cryobench.interop.atomic import written_whole
from cryobench.scenario.model import Model
from cryobench.scenario.spec import explain

PLAN = "plan.json"


class DatasetPlan(Model):
    """One dataset, shared by all methods: simulated, imported by the user, or imported here by a recipe."""

    key: str
    seed: int = 0
    scenario: dict[str, Any] | None = None
    imported: str | None = None
    recipe: dict[str, Any] | None = None
    box: int | None = None


class CellPlan(Model):
    """One run: a method with its parameters on a dataset. ``declined`` says why it cannot be, where it cannot."""

    key: str
    label: str
    method: str
    params: dict[str, Any]
    seed: int
    budget: float | None
    device: str | None
    dataset: str | None
    truth: str | None
    published: dict[str, float]
    notes: list[str]
    place: tuple[str, str] | None
    declined: str | None = None

    @property
    def slot(self) -> tuple[str, str, str, int]:
        """Its place in the table: of two plans of the same one, the newer counts."""
        return (self.label, self.method, json.dumps(self.params, sort_keys=True), self.seed)


class Plan(Model):
    """All cells of a directory, and what their table says of all of them."""

    suite: str
    description: str
    source: str | None
    notes: list[str]
    axes: tuple[str, str] | None
    size: str
    box: str
    particles: int
    command: str
    datasets: dict[str, DatasetPlan]
    cells: list[CellPlan]


def content_key(content: Mapping[str, Any]) -> str:
    """The address of what ``content`` decides: a hash of it, the same for any order of its names."""
    text = json.dumps(content, sort_keys=True, allow_nan=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_plan(directory: Path) -> Plan | None:
    """The plan of a suite's directory; None where there is none.

    Raises:
        StoreError: if it is damaged.
    """
    path = directory / PLAN
    if not path.is_file():
        return None
    try:
        return Plan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StoreError(
            f"{path}: expected the plan of a suite, got {explain(error)}; remove it and run the suite again, what is "
            "finished is found by its content"
        ) from error


def write_plan(plan: Plan, directory: Path) -> None:
    """Keep a plan, whole or not at all."""
    with written_whole(directory / PLAN) as partial:
        partial.write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")


def merge_plans(old: Plan | None, new: Plan) -> Plan:
    """The new plan, with those cells of the old one whose place in the table it does not take.

    Cells that were declined give way to any of their row, method and seed that can be run: while a method was not installed, its
    parameters could not be validated, and such a cell's place is not the one that it takes later.

    Raises:
        InputError: if the two are of another suite, size, box or number of particles, whose results make no one table.
    """
    if old is None:
        return new
    for what in ("suite", "size", "box", "particles"):
        there, asked = getattr(old, what), getattr(new, what)
        if there != asked:
            raise InputError(
                f"expected a directory of {what} {asked}, it holds results of {what} {there}, and one table would mix "
                "the two; choose another with --out"
            )
    taken = {cell.slot for cell in new.cells}
    possible = {(cell.label, cell.method, cell.seed) for cell in new.cells if cell.declined is None}
    kept = [
        cell
        for cell in old.cells
        if cell.slot not in taken and (cell.declined is None or (cell.label, cell.method, cell.seed) not in possible)
    ]
    labels = list(dict.fromkeys(cell.label for cell in [*new.cells, *kept]))
    cells = sorted([*new.cells, *kept], key=lambda cell: labels.index(cell.label))
    needed = {cell.dataset for cell in cells}
    datasets = {key: data for key, data in {**old.datasets, **new.datasets}.items() if key in needed}
    return new.model_copy(update={"cells": cells, "datasets": datasets})
