"""Shards as tasks of dask.distributed: any worker may die, and what it was at is done again by another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from cryobench.errors import CryobenchError, InputError
from cryobench.simulate.images import Recipe, fill_shards, recipe_of_truth
from cryobench.simulate.repair import Todo

if TYPE_CHECKING:
    from distributed import Client

DEATHS: Final = 10
"""Of workers over one shard, before a local run is given up; other schedulers have their own ``allowed-failures``."""
RETRIES: Final = 2
"""Of a shard whose worker lives and reports an error, such as a file that cannot be written."""


def fill_on_cluster(
    client: Client, directory: Path, truth_digest: str, todo: Todo, on_done: Callable[[int], None]
) -> None:
    """Compute and write what is to be written of whole shards, each as one task.

    A task reads the recipe from the truth and writes into the store by itself. One that is run twice writes the same bytes, each
    file being renamed into place whole.

    Args:
        client: of the workers.
        directory: of the dataset, under the same path for every worker.
        truth_digest: of its truth.
        todo: shards, and which of their variables.
        on_done: called with the number of images that were added.

    Raises:
        CryobenchError: if workers keep dying over the same shard.
    """
    from distributed import KilledWorker, as_completed

    place = str(directory.resolve())
    futures = [
        client.submit(_fill_shard, place, truth_digest, span, variables, pure=False, retries=RETRIES)
        for span, variables in todo.items()
    ]
    try:
        for future in as_completed(futures):  # type: ignore[no-untyped-call]
            on_done(future.result())
    except KilledWorker as error:
        raise CryobenchError(
            f"workers kept dying over the same shard, which often means that memory ran out ({error}); "
            "give the same command again with fewer workers, and the run goes on where it was"
        ) from error


@contextmanager
def connect(where: str) -> Iterator[Client]:
    """A client of the workers that ``where`` names; local ones are started, and stopped at the end.

    Raises:
        InputError: if dask is not installed, or nothing is there.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise InputError(
            f"--dask needs dask.distributed, which is not installed ({error}); pip install 'cryobench[dask]'"
        ) from error
    kind, _, count = where.partition(":")
    if kind == "local":
        if not count.isdigit() or int(count) < 1:
            raise InputError(f"expected --dask local:N with N of 1 or more, got {where!r}")
        with (
            dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}),
            # memory is left to the system: a worker that dask stops for its size would be one that only caches
            LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=int(count),
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,  # type: ignore[no-untyped-call]
        ):
            yield client
        return
    try:
        given = {"scheduler_file": where} if Path(where).is_file() else {"address": where, "timeout": 30}
        client = Client(**given)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"expected --dask local:N, a scheduler's address such as tcp://host:8786, or a scheduler file, got {where!r}: {error}"
        ) from error
    with client:
        yield client


def _fill_shard(directory: str, truth_digest: str, span: tuple[int, int], variables: frozenset[str]) -> int:
    """Compute and write one shard; returns how many images were added."""
    torch.set_num_threads(1)
    added = 0

    def count(images: int) -> None:
        nonlocal added
        added += images

    recipe = _recipe(directory, truth_digest)
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        fill_shards(Path(directory) / "observed.zarr", recipe, {span: variables}, pool, count)
    return added


@lru_cache(maxsize=1)
def _recipe(directory: str, _truth_digest: str) -> Recipe:
    """Read once by each worker."""
    return recipe_of_truth(Path(directory) / "truth.zarr")
