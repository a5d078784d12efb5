"""What is asked of a suite, made into a plan of cells."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cryobench import __version__
from cryobench.errors import Declined, InputError, UnknownName
from cryobench.evaluate.describe import describe_file
from cryobench.reconstruct.checks import parse_params
from cryobench.reconstruct.provenance import method_version
from cryobench.reconstruct.registry import load_method, methods
from cryobench.report.table import format_duration, method_label
from cryobench.specimens.catalogue import files_of
from cryobench.suite.plan import CellPlan, DatasetPlan, Plan, content_key
from cryobench.suite.resolve import Conditions, Resolved, resolve
from cryobench.suite.spec import MethodEntry, Row, Size, Suite
from cryobench.suite.times import parse_seconds


@dataclass(frozen=True)
class Request:
    """A suite, and what is asked for in place of its own.

    Attributes:
        suite: which.
        size: name of one of its sizes.
        box: pixels of the images.
        particles: how many.
        budget: longest time for each half, seconds.
        methods: names, or labels such as ``cryogan[paper]`` of those that the suite has at any size; those that it has at this
            size if none is given. A method that it has not is run with its defaults.
        params: of every chosen method that has a parameter of that name.
        seeds: of dataset and method.
        device: ``"cpu"``, ``"cuda"``, or the best that is there.
        data: directories of imported particles by the names of the rows' data.
        named: how to ask for the suite again: its name if not given, or its file's path.
    """

    suite: Suite
    size: str = "desk"
    box: int | None = None
    particles: int | None = None
    budget: float | None = None
    methods: Sequence[str] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    device: str | None = None
    data: Mapping[str, Path] = field(default_factory=dict)
    named: str | None = None

    def sized(self) -> Size:
        """The size, with box and particles as asked for."""
        own = self.suite.size(self.size)
        changed = {"box": self.box, "particles": self.particles}
        return own.model_copy(update={name: value for name, value in changed.items() if value is not None})

    def directory(self) -> Path:
        """Where it goes by default: a directory of its own for every set of conditions that make one table."""
        parts = [self.suite.name, self.size]
        own = self.suite.size(self.size)
        if self.box not in (None, own.box):
            parts.append(f"box{self.box}")
        if self.particles not in (None, own.particles):
            parts.append(f"n{self.particles}")
        if self.budget is not None and (own.budget is None or self.budget != parse_seconds(own.budget)):
            parts.append(f"{self.budget:g}s")
        return Path("runs") / "suites" / "-".join(parts)

    def command(self, directory: Path) -> str:
        """The command line that asks for the same in the same directory."""
        options = [f"--size {self.size}"]
        options += [f"--box {self.box}"] if self.box is not None else []
        options += [f"--particles {self.particles}"] if self.particles is not None else []
        options += [f"--budget {self.budget:g}s"] if self.budget is not None else []
        options += [f"--method {shlex.quote(name)}" for name in self.methods]
        options += [f"--param {shlex.quote(f'{name}={json.dumps(value)}')}" for name, value in self.params.items()]
        options += [f"--seed {seed}" for seed in self.seeds]
        options += [f"--device {self.device}"] if self.device else []
        options += [f"--data {shlex.quote(f'{name}={path}')}" for name, path in self.data.items()]
        options += [f"--out {shlex.quote(str(directory))}"] if directory != self.directory() else []
        return " ".join(["cryobench suite run", shlex.quote(self.named or self.suite.name), *options])


@dataclass(frozen=True)
class _Chosen:
    """A method with its validated parameters, or why it cannot be run here."""

    entry: MethodEntry
    params: dict[str, Any]
    declined: str | None


def make_plan(request: Request, directory: Path) -> Plan:
    """Resolve every cell that is asked for. Specimens are downloaded if need be; nothing else is done.

    Args:
        request: what is asked for.
        directory: of the suite's run.

    Raises:
        UnknownName: if a size, method or parameter of that name does not exist.
        InputError: if a value is not what is needed.
    """
    suite, size = request.suite, request.sized()
    if request.device not in (None, "cpu", "cuda"):
        raise InputError(
            f"expected --device cpu or cuda, got {request.device!r}; each GPU is given to one cell at a time"
        )
    known = {row.data.name for row in suite.rows if row.data is not None}
    for name in request.data:
        if name not in known:
            raise UnknownName(f"dataset of suite {suite.name!r}", name, known)
    chosen = _choose_methods(request)
    conditions = Conditions(suite, size, request.data, directory)
    datasets: dict[str, DatasetPlan] = {}
    cells: dict[tuple[str, str], CellPlan] = {}
    for row in suite.rows:
        for seed in request.seeds or suite.seeds:
            found, reason = _resolve(row, seed, conditions)
            if found is not None:
                datasets[found.dataset.key] = found.dataset
            for method in chosen:
                if method.entry.rows is None or row.label in method.entry.rows:
                    cell = _plan_cell(row, seed, method, found, reason, request, size)
                    cells.setdefault((cell.label, cell.key), cell)  # asked for twice, it is one run and not two seeds
    return Plan(
        suite=suite.name,
        description=suite.description,
        source=suite.source,
        notes=[*suite.notes, _describe_conditions(request, size)],
        axes=suite.axes,
        size=request.size,
        box=str(size.box),
        particles=size.particles,
        command=request.command(directory),
        datasets=datasets,
        cells=list(cells.values()),
    )


def _describe_conditions(request: Request, size: Size) -> str:
    """What the cells have in common here, which may not be what the suite says of the size."""
    box = "native box" if size.box == "native" else f"box of {size.box} px"
    budget = format_duration(request.budget) if request.budget is not None else size.budget
    simulated = any(row.scenario is not None for row in request.suite.rows)
    images = f", {size.particles:,} images" if simulated else ""
    return f"here: {box}{images}" + (f", at most {budget} a half" if budget else "")


def _resolve(row: Row, seed: int, conditions: Conditions) -> tuple[Resolved | None, str | None]:
    try:
        return resolve(row, seed, conditions), None
    except Declined as error:
        return None, str(error)


def _plan_cell(
    row: Row, seed: int, method: _Chosen, found: Resolved | None, reason: str | None, request: Request, size: Size
) -> CellPlan:
    entry = method.entry
    stated = entry.budget or size.budget
    budget = request.budget if request.budget is not None else parse_seconds(stated) if stated else None
    decided: dict[str, Any] = {
        "dataset": None if found is None else found.dataset.key,
        "label": row.label if found is None else None,
        "truth": None if found is None else _address_of_truth(found.truth),
        "method": entry.name,
        "params": method.params,
        "seed": seed,
        "budget": None if budget is None or math.isinf(budget) else budget,
        "device": request.device,
        "versions": {
            "cryobench": __version__,
            "method": method_version(entry.name),
            "torch": re.sub(r"\+.*", "", torch.__version__),  # builds for CPU and CUDA are one version
        },
    }
    return CellPlan(
        key=content_key(decided),
        label=row.label,
        method=entry.name,
        params=method.params,
        seed=seed,
        budget=decided["budget"],
        device=request.device,
        dataset=decided["dataset"],
        truth=None if found is None else found.truth,
        published={str(name): value for name, value in row.published.items()},
        notes=[*row.notes, *(found.notes if found else ())],
        place=row.place,
        declined=method.declined or reason,
    )


def _address_of_truth(truth: str | None) -> str | list[str] | None:
    """What decides a truth: its name, and the content of the files that it names by their path."""
    files = [] if truth is None else [describe_file(file)["sha256"] for file in files_of(truth)]
    return [str(truth), *files] if files else truth


def _choose_methods(request: Request) -> list[_Chosen]:
    """The methods that are asked for, their parameters validated."""
    own = [entry for entry in request.suite.methods if entry.sizes is None or request.size in entry.sizes]
    entries = own
    if request.methods:
        entries = []
        for name in dict.fromkeys(request.methods):
            named = [entry for entry in own if entry.name == name]
            named = named or [entry for entry in request.suite.methods if name == _label(entry)]
            if not named:
                load_method(name)  # says which there are if there is none of that name
                named = [MethodEntry(name=name)]
            entries += named
    used: set[str] = set()
    chosen = [_validate(entry, request, used) for entry in entries]
    if unused := [name for name in request.params if name not in used]:
        fields = {name for c in chosen if not c.declined for name in load_method(c.entry.name).Params.model_fields}
        raise UnknownName("parameter of any chosen method", unused[0], fields)
    return chosen


def _label(entry: MethodEntry) -> str:
    """As tables name it, with the preset that it has by default."""
    if entry.name not in methods():
        return entry.name
    return method_label(entry.name, parse_params(load_method(entry.name), entry.params).model_dump(mode="json"))


def _validate(entry: MethodEntry, request: Request, used: set[str]) -> _Chosen:
    if entry.name not in methods():
        return _Chosen(
            entry, entry.params, f"method {entry.name!r} is not installed; pip install cryobench-{entry.name}"
        )
    method = load_method(entry.name)
    changed = {name: value for name, value in request.params.items() if name in method.Params.model_fields}
    used.update(changed)
    params = parse_params(method, {**entry.params, **changed}).model_dump(mode="json")
    return _Chosen(entry, params, None)
