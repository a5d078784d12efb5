"""The flow of a suite: plan, skip what is finished, run the rest on dask, keep every outcome."""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from cryobench.errors import InputError
from cryobench.interop.atomic import written_whole
from cryobench.reconstruct.registry import load_method
from cryobench.suite.cells import cell_directory, is_running, state_of, title_of
from cryobench.suite.gather import write_tables
from cryobench.suite.plan import CellPlan, Plan, merge_plans, read_plan, write_plan
from cryobench.suite.request import Request, make_plan
from cryobench.suite.states import State, locked, read_state, write_state
from cryobench.suite.task import run_task
from cryobench.suite.work import CELL, DATASET
from cryobench.suite.workers import start_workers

if TYPE_CHECKING:
    from distributed import Client, Future

POLL_SECONDS: Final = 0.5


class Watcher(Protocol):
    """Told of what happens, for people."""

    def ended(self, title: str, state: State, directory: Path) -> None:
        """A cell has come to an end."""
        ...

    def running(self, now: Sequence[tuple[str, State]], done: int, total: int) -> None:
        """What is being worked on, and how many cells of all have ended."""
        ...


@dataclass(frozen=True)
class Unwatched:
    """Nobody is told."""

    def ended(self, title: str, state: State, directory: Path) -> None:
        """Say nothing."""

    def running(self, now: Sequence[tuple[str, State]], done: int, total: int) -> None:
        """Say nothing."""


def run_suite(
    request: Request,
    directory: Path,
    *,
    dask: str | None = None,
    retry_failed: bool = False,
    only: str | None = None,
    workers: int | None = None,
    watcher: Watcher | None = None,
) -> Plan:
    """Run those cells of a suite that are not finished; tables are written anew whenever one ends.

    A cell's address is a hash of all that decides it: the whole scenario with the content of its files (or the imported data and
    the truth given for them), seed, method, its version and validated parameters, budget, requested device, and the versions of
    cryobench and torch. What is finished under its address is never touched again. Failed cells keep their reason and are left
    alone; those that declined are looked at again. A run that was killed is completed by the same call.

    Args:
        request: what is asked for.
        directory: of the suite's run.
        dask: where to compute: this machine if not given, ``"local:N"`` for N cells at once here, a scheduler's address or file.
            Workers elsewhere must see ``directory``, and every file that a scenario names, under the same path.
        retry_failed: run failed cells again.
        only: run only cells whose title (row · method · seed) has this in it, or matches it as a pattern with ``*``.
        workers: halves of a cell at once, 1 or 2; 2 on a CPU if not given.
        watcher: told of what happens.

    Raises:
        UnknownName: if a name is none.
        InputError: if a value is not what is needed, no cell has ``only`` in its title, or the directory is another suite's.
        StoreError: if another process runs in the same directory.
    """
    watcher = watcher or Unwatched()
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory, 2.0, "the suite in"):
        plan = make_plan(request, directory)
        write_plan(merge_plans(read_plan(directory), plan), directory)
        chosen = [cell for cell in plan.cells if only is None or _matches(cell, only)]
        if not chosen:
            titles = "; ".join(map(title_of, plan.cells))
            raise InputError(f"expected --cells to be part of the title of a cell, got {only!r}; there are: {titles}")
        left = [cell for cell in chosen if cell.declined is None and _is_left(state_of(directory, cell), retry_failed)]
        for cell in chosen:
            if cell not in left:
                watcher.ended(title_of(cell), state_of(directory, cell), cell_directory(directory, cell))
        unique = list({cell.key: cell for cell in left}.values())
        if unique:
            _compute(plan, unique, directory, dask, workers, watcher)
        write_tables(directory)
    return plan


def _matches(cell: CellPlan, only: str) -> bool:
    title = title_of(cell).lower()
    return only.lower() in title or fnmatch.fnmatch(title, only.lower())


def _is_left(state: State, retry_failed: bool) -> bool:
    if state.state == "failed":
        return retry_failed
    return state.state != "finished"


def _compute(
    plan: Plan, cells: Sequence[CellPlan], directory: Path, dask: str | None, workers: int | None, watcher: Watcher
) -> None:
    """Run cells, each after its dataset, and write the tables anew as they end."""
    keys = list(dict.fromkeys(str(cell.dataset) for cell in cells))
    on_gpu = [cell for cell in cells if _can_use_gpu(cell)]
    with start_workers(dask, len(on_gpu), len(keys) + len(cells) - len(on_gpu)) as (client, resources):
        first = {key: next(i for i, cell in enumerate(cells) if cell.dataset == key) for key in keys}
        datasets = {key: _submit_dataset(client, plan, key, directory, workers, -first[key]) for key in keys}
        running: dict[Future[State], CellPlan] = {}
        for cell in cells:
            wanted = ("GPU", "CPU") if cell in on_gpu else ("CPU",)
            resource = next((name for name in wanted if name in resources), None)
            running[_submit_cell(client, cell, directory, workers, datasets[str(cell.dataset)], resource)] = cell
        total = len(running)
        while running:
            ended = [future for future in running if future.done()]  # type: ignore[no-untyped-call]
            for future in ended:
                cell = running.pop(future)
                watcher.ended(title_of(cell), _outcome(future, cell, directory), cell_directory(directory, cell))
            if ended and running:  # after the last one they are written at the end of the run
                with suppress(Exception):  # no drawing stops a computation; the one at the end says what is wrong
                    write_tables(directory)
            watcher.running(_now(keys, list(running.values()), directory), total - len(running), total)
            if running:
                time.sleep(POLL_SECONDS)


def _can_use_gpu(cell: CellPlan) -> bool:
    return cell.device != "cpu" and load_method(cell.method).needs.gpu != "none"


def _submit_dataset(
    client: Client, plan: Plan, key: str, directory: Path, workers: int | None, priority: int
) -> Future[State]:
    """Make a dataset, those of earlier rows first; cells that are ready do not wait for the datasets of later rows."""
    place = directory / "datasets" / key
    _write_job(place / DATASET, {"dataset": plan.datasets[key].model_dump(mode="json"), "workers": workers})
    return client.submit(run_task, str(place.resolve()), key=_task(place), priority=priority, pure=False)


def _submit_cell(
    client: Client, cell: CellPlan, directory: Path, workers: int | None, dataset: Future[State], resource: str | None
) -> Future[State]:
    place = cell_directory(directory, cell)
    _write_job(place / CELL, {"cell": cell.model_dump(mode="json"), "workers": workers})
    resources = None if resource is None else {resource: 1}
    return client.submit(run_task, str(place.resolve()), dataset, key=_task(place), resources=resources, pure=False)


def _task(place: Path) -> str:
    """Name of a task: by its place, as a scheduler that several runs share does tasks of one name once, wherever they lie."""
    return f"suite-{place.resolve()}"


def _write_job(path: Path, job: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_text(json.dumps(job, indent=1) + "\n", encoding="utf-8")


def _outcome(future: Future[State], cell: CellPlan, directory: Path) -> State:
    """How a task ended; one whose workers keep dying is a failed cell like any other."""
    error = future.exception()  # type: ignore[no-untyped-call]
    if error is None:
        return future.result()
    place = cell_directory(directory, cell)
    reason = f"its worker died or could not run it: {type(error).__name__}: {error}"
    state = State("failed", reason, seconds=read_state(place).seconds)
    write_state(place, state)
    return state


def _now(keys: Sequence[str], cells: Sequence[CellPlan], directory: Path) -> list[tuple[str, State]]:
    """What is being worked on: datasets by the rows that wait for them, and cells."""
    found = []
    for key in keys:
        place = directory / "datasets" / key
        labels = dict.fromkeys(cell.label for cell in cells if cell.dataset == key)
        if labels and is_running(place):
            found.append((f"{', '.join(labels)} · data", read_state(place)))
    for cell in cells:
        place = cell_directory(directory, cell)
        if is_running(place):
            found.append((title_of(cell), read_state(place)))
    return found
