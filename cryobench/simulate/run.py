"""The flow of a simulation: the truth first and whole, then the images; what is missing or damaged is made anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path

import torch

from cryobench.dataset.check import find_damage
from cryobench.dataset.store import digest, finish_store, open_store, open_unfinished
from cryobench.errors import InputError, StoreError
from cryobench.scenario.files import flatten
from cryobench.scenario.imager import Imager, Progress
from cryobench.scenario.noise import noise_sources
from cryobench.scenario.spec import Scenario
from cryobench.simulate.cluster import connect, fill_on_cluster
from cryobench.simulate.images import Recipe, create_observed, fill_shards, one_thread_each, recipe_of_truth
from cryobench.simulate.inputs import check_inputs
from cryobench.simulate.repair import (
    clear_leftovers,
    particles_of,
    restore_observed,
    restore_truth,
    stated_truth_digest,
)
from cryobench.simulate.truth import imager_of_truth, prepare_imager, write_truth


def simulate(
    scenario: Scenario,
    directory: Path,
    *,
    seed: int = 0,
    jobs: int | None = None,
    dask: str | None = None,
    device: str = "cpu",
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
        device: where clean images are formed, such as ``"cuda"``; not with ``dask``. Images of another device are the same but
            for rounding.
        on_progress: called with (stage, done, total).

    Returns:
        Paths of the two stores.

    Raises:
        InputError: if workers of dask are asked to compute on a device, or one is asked for that is not here.
        StoreError: if the directory holds stores of another scenario or seed, the scenario's files changed since it was begun,
            or the disc is full.
    """
    observed, truth = directory / "observed.zarr", directory / "truth.zarr"
    place = _find_device(device, dask)
    # read and tested once, and only where there is something to do
    noise = cache(partial(noise_sources, scenario))
    # an address where nobody answers must not cost a truth
    with one_thread_each(jobs) as pool, nullcontext() if dask is None else connect(dask) as client:

        def write(path: Path) -> Imager:
            made = prepare_imager(scenario, seed, place)
            write_truth(path, made, noise()[0]["noise"], pool, on_progress)
            return made

        imager = _complete_truth(scenario, seed, directory, write)
        whole = open_store(truth, "truth")
        truth_digest = digest(whole, salt=str(whole.attrs["salt"]))
        if observed.exists() and stated_truth_digest(observed) not in (truth_digest, None):
            raise StoreError(f"{observed} was not made from the truth beside it; choose another directory with --out")
        deviation = math.sqrt(whole.attrs["working_signal_variance"] + whole.attrs["working_noise_variance"])

        @cache
        def recipe() -> Recipe:
            return recipe_of_truth(truth, imager or imager_of_truth(truth, place), noise())

        def create(path: Path) -> None:
            create_observed(path, recipe(), truth_digest, deviation, pool)

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
            fill_shards(observed, recipe(), todo, pool, report)
        else:
            fill_on_cluster(client, directory, truth_digest, todo, report)
        clear_leftovers(directory)
        finish_store(open_unfinished(observed, "observed"))
    return observed, truth


def _find_device(name: str, dask: str | None) -> torch.device:
    """The device of that name, if clean images can be formed there."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # a build without CUDA asserts
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise InputError(
            f"expected a device of this machine, such as 'cpu' or 'cuda', got {name!r}: {reason}"
        ) from error
    if dask is not None and device.type != "cpu":
        raise InputError(f"expected a device or workers of dask, got {name!r} and {dask!r}; workers compute on the CPU")
    return device


def _complete_truth(scenario: Scenario, seed: int, directory: Path, write: Callable[[Path], Imager]) -> Imager | None:
    """See that a whole truth of this scenario and seed is there; gives the imager that one was written from, if it was now."""
    truth = directory / "truth.zarr"
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
