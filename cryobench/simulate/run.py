"""The flow of a simulation: the truth first and whole, then the images; what is missing or damaged is made anew."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from cryobench.dataset.check import find_damage
from cryobench.dataset.store import digest, finish_store, open_store, open_unfinished
from cryobench.errors import StoreError
from cryobench.scenario.files import flatten
from cryobench.scenario.imager import Imager, Progress
from cryobench.scenario.noise import noise_sources
from cryobench.scenario.spec import Scenario
from cryobench.simulate.cluster import connect, fill_on_cluster
from cryobench.simulate.images import create_observed, fill_shards, one_thread_each, recipe_of_truth
from cryobench.simulate.inputs import check_inputs
from cryobench.simulate.repair import (
    clear_leftovers,
    particles_of,
    restore_observed,
    restore_truth,
    stated_truth_digest,
)
from cryobench.simulate.truth import prepare_imager, write_truth


def simulate(
    scenario: Scenario,
    directory: Path,
    *,
    seed: int = 0,
    jobs: int | None = None,
    dask: str | None = None,
    on_progress: Progress = lambda *_: None,
) -> tuple[Path, Path]:
    """Simulate a dataset into ``directory``, or complete one that was begun there.

    What is there already is read and checked; what is missing or damaged, and no more, is made anew.

    Args:
        scenario: what to simulate.
        directory: gets ``observed.zarr`` and ``truth.zarr``.
        seed: of every draw.
        jobs: worker threads; all cores if not given. The bytes written do not depend on it.
        dask: where to compute shards instead: ``"local:N"`` for N processes here, a scheduler's address, or a scheduler file.
            All workers must see ``directory`` and the scenario's files under the same paths.
        on_progress: called with (stage, done, total).

    Returns:
        Paths of the two stores.

    Raises:
        StoreError: if the directory holds stores of another scenario or seed, the scenario's files changed since it was begun,
            or the disc is full.
    """
    observed, truth = directory / "observed.zarr", directory / "truth.zarr"
    # an address where nobody answers must not cost a truth
    with one_thread_each(jobs) as pool, nullcontext() if dask is None else connect(dask) as client:
        imager = _complete_truth(scenario, seed, directory, pool, on_progress)
        whole = open_store(truth, "truth")
        truth_digest = digest(whole, salt=str(whole.attrs["salt"]))
        if observed.exists() and stated_truth_digest(observed) not in (truth_digest, None):
            raise StoreError(f"{observed} was not made from the truth beside it; choose another directory with --out")
        recipe = recipe_of_truth(truth, imager)
        deviation = math.sqrt(whole.attrs["working_signal_variance"] + whole.attrs["working_noise_variance"])

        def create(path: Path) -> None:
            create_observed(path, recipe, truth_digest, deviation, pool)

        if not observed.exists():
            check_inputs(scenario, whole.attrs["inputs"], directory)
            create(observed)
        todo = restore_observed(observed, create, partial(on_progress, "check"))
        group = open_unfinished(observed, "observed")
        if group.attrs["complete"] and not todo:
            return observed, truth
        check_inputs(scenario, whole.attrs["inputs"], directory)
        group.attrs["complete"] = False
        count = particles_of(observed)
        done = count - sum(stop - start for (start, stop), names in todo.items() if "images" in names)

        def report(images: int) -> None:
            nonlocal done
            done += images
            on_progress("simulate", done, count)

        if client is None:
            fill_shards(observed, recipe, todo, pool, report)
        else:
            fill_on_cluster(client, directory, truth_digest, todo, report)
        clear_leftovers(directory)
        finish_store(open_unfinished(observed, "observed"))
    return observed, truth


def _complete_truth(
    scenario: Scenario, seed: int, directory: Path, pool: Executor, on_progress: Progress
) -> Imager | None:
    """See that a whole truth of this scenario and seed is there; gives the imager that one was written from, if it was now."""
    truth = directory / "truth.zarr"

    def write(path: Path) -> Imager:
        imager = prepare_imager(scenario, seed)
        write_truth(path, imager, noise_sources(scenario)[0]["noise"], pool, on_progress)
        return imager

    if not truth.exists() and not (directory / "observed.zarr").exists():
        return write(truth)
    damage = find_damage(truth, "truth")
    if not any(item.file == "zarr.json" for item in damage):
        _check_same(truth, scenario, seed)
    if damage or not open_unfinished(truth, "truth").attrs["complete"]:
        restore_truth(directory, write)
    return None


def _check_same(truth_path: Path, scenario: Scenario, seed: int) -> None:
    """Refuse a directory whose truth is of another scenario or seed, and say in what they differ."""
    attrs = open_unfinished(truth_path, "truth").attrs
    fingerprint = scenario.model_dump(mode="json")
    if attrs["scenario"] == fingerprint and attrs["seed"] == seed:
        return
    there = {"seed": attrs["seed"], **dict(flatten(attrs["scenario"]))}  # type: ignore[arg-type]
    asked = {"seed": seed, **dict(flatten(fingerprint))}
    differing = [
        f"{key}: {there.get(key)!r} there, {asked.get(key)!r} asked"
        for key in sorted({*there, *asked})
        if there.get(key) != asked.get(key)
    ]
    raise StoreError(
        f"{truth_path.parent} holds a dataset of another scenario or seed ({'; '.join(differing)}); "
        "choose another directory with --out, or remove it"
    )
