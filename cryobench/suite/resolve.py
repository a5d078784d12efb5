"""A row of a suite resolved: which specimen can be had, which scenario and which data it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryobench import __version__
from cryobench.dataset.store import digest, open_store
from cryobench.errors import Declined, InputError
from cryobench.evaluate.describe import describe_file
from cryobench.interop.atomic import written_whole
from cryobench.scenario.files import adapt_scenario, flatten
from cryobench.scenario.spec import Scenario
from cryobench.simulate.inputs import input_digests
from cryobench.specimens.catalogue import datasets_root, find
from cryobench.specimens.fetch import DATA_VARIABLE
from cryobench.suite.plan import DatasetPlan, content_key
from cryobench.suite.spec import Data, Recipe, Row, Size, SpecimenChoice, Suite

DIGESTS = "digests.json"
TOLD: Final = ("voxel_size", "symmetry", "assumed_pose", "assumed_shift", "detector")
"""Attributes of observed.zarr that a method is told, which a digest of its arrays does not see."""


@dataclass(frozen=True)
class Conditions:
    """What a row is resolved under.

    Attributes:
        suite: that it is of.
        size: of everything.
        data: directories that hold an ``observed.zarr``, by the name that a row gives its data.
        directory: of the suite's run.
    """

    suite: Suite
    size: Size
    data: Mapping[str, Path]
    directory: Path


@dataclass(frozen=True)
class Resolved:
    """A dataset, what to compare with where it has no truth of its own, and what the table must say of it."""

    dataset: DatasetPlan
    truth: str | None
    notes: tuple[str, ...]


def resolve(row: Row, seed: int, conditions: Conditions) -> Resolved:
    """The dataset of a row.

    Raises:
        Declined: if its specimen or its data cannot be had here; says how they could.
        InputError: if its scenario is none.
    """
    if row.data is None:
        choices = row.specimens or conditions.suite.specimens
        specimen, note = choose_specimen(tuple(choices)) if choices else (None, "")
        scenario = scenario_of(row, conditions.size, specimen)
        inputs = input_digests(scenario)
        stated = scenario.model_dump(mode="json")
        key = content_key({"scenario": stated, "inputs": inputs, "seed": seed, "cryobench": __version__})
        return Resolved(DatasetPlan(key=key, seed=seed, scenario=stated), None, (note,) if note else ())
    truth, notes = _truth_of(row.data)
    if row.data.name in conditions.data:
        return Resolved(_imported(row.data.name, conditions), truth, notes)
    if row.data.recipe is None:
        out, box = f"runs/{row.data.name}", row.data.box_at(conditions.size)
        commands = "\n  or\n".join(f"  {command.format(out=out, box=box)}" for command in row.data.commands)
        raise Declined(f"needs particles that you import; then give --data {row.data.name}={out}:\n{commands}")
    return Resolved(_by_recipe(row.data.recipe, seed, row.data.box_at(conditions.size)), truth, notes)


def scenario_of(row: Row, size: Size, specimen: str | None) -> Scenario:
    """The scenario of a row at a size, with its settings and specimen in place.

    Raises:
        InputError: if what comes out is no valid scenario.
    """
    settings = [f"{key}={json.dumps(value)}" for key, value in flatten(row.settings)]
    box = size.box
    if box == "native":
        box = adapt_scenario(str(row.scenario), settings=settings).image.native_box
    try:
        return adapt_scenario(
            str(row.scenario), specimen=specimen, box=box, particles=size.particles, settings=settings
        )
    except InputError as error:
        raise InputError(f"row {row.label!r}: {error}") from error


@cache
def choose_specimen(choices: tuple[SpecimenChoice, ...]) -> tuple[str, str]:
    """The first specimen that can be had, and what to say where it is this one. Downloads it if need be.

    Raises:
        Declined: if none can.
    """
    reasons = []
    for choice in choices:
        try:
            name = _expand(choice.name)
            find(name)
        except InputError as error:
            reasons.append(str(error))
        else:
            return name, choice.note
    raise Declined("none of its specimens can be had: " + "; ".join(reasons))


def data_directory() -> Path:
    """The directory that ``CRYOBENCH_DATA`` names.

    Raises:
        InputError: if it names none.
    """
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        raise InputError(f"expected {DATA_VARIABLE} to name the data directory, it is not set")
    return Path(named)


def _expand(name: str) -> str:
    variable = f"${DATA_VARIABLE}/"
    return f"{data_directory()}/{name.removeprefix(variable)}" if name.startswith(variable) else name


def _truth_of(data: Data) -> tuple[str | None, tuple[str, ...]]:
    if data.truth is None:
        return None, ()
    try:
        name, note = choose_specimen((data.truth,))
    except Declined:
        return None, (f"not compared with a truth: {data.truth.name} could not be had here",)
    return name, (note,) if note else ()


def _imported(name: str, conditions: Conditions) -> DatasetPlan:
    directory = conditions.data[name].resolve()
    store = directory / "observed.zarr"
    if not store.is_dir():
        raise InputError(f"--data {name}={directory}: expected an observed.zarr there, found none; import it first")
    observed = open_store(store, "observed")
    arrays, told = _digest_of_store(store, conditions.directory), {name: observed.attrs.get(name) for name in TOLD}
    key = content_key({"observed": arrays, "told": told, "cryobench": __version__})
    return DatasetPlan(key=key, imported=str(directory), box=int(observed.sizes["x"]))


def _digest_of_store(store: Path, directory: Path) -> str:
    """Of its decoded arrays; read once, and again only if the store was written anew."""
    stat = (store / "zarr.json").stat()
    stamp = f"{store.resolve()} {stat.st_mtime_ns} {stat.st_size}"
    path = directory / DIGESTS
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if stamp not in known:
        known[stamp] = digest(open_store(store, "observed"))
        with written_whole(path) as partial:
            partial.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return known[stamp]


def _by_recipe(recipe: Recipe, seed: int, box: int) -> DatasetPlan:
    try:
        root = data_directory()
    except InputError as error:
        raise Declined(f"{error}; it holds {', '.join(recipe.files)}") from error
    script = datasets_root() / "recipes" / recipe.script
    paths = [root / file for file in recipe.files]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise Declined(f"expected {', '.join(missing)} in the data directory, found nothing there")
    stated: dict[str, Any] = {
        **recipe.model_dump(mode="json"),
        "script": str(script),
        "data": str(paths[0].parent),
    }
    digests = [describe_file(path)["sha256"] for path in (script, *paths)]
    told = recipe.model_dump(mode="json", exclude={"script", "files"})
    key = content_key({"recipe": told, "files": digests, "box": box, "seed": seed, "cryobench": __version__})
    return DatasetPlan(key=key, seed=seed, recipe=stated, box=box)
