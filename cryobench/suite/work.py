"""The process of one cell or one dataset: ``python -m cryobench.suite.work DIRECTORY``, started by :mod:`cryobench.suite.task`.

A process of its own is bound to its cores and its GPU, can start the processes of its two halves, and takes nobody along when it
is killed. It stops when whoever holds its standard input is gone.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryobench.errors import CryobenchError, Declined, InputError, StoreError
from cryobench.suite.states import PATIENCE, TRACEBACK, Clock, locked

if TYPE_CHECKING:
    from cryobench.suite.plan import DatasetPlan

CELL: Final = "cell.json"
DATASET: Final = "dataset.json"
STORES: Final = ("observed.zarr", "truth.zarr", "oracle.zarr")


def work(directory: Path) -> None:
    """Do what ``cell.json`` or ``dataset.json`` of ``directory`` says, and keep how it ended in its ``state.json``."""
    with locked(directory, PATIENCE, "the work in"):
        clock = Clock(directory)
        (directory / TRACEBACK).unlink(missing_ok=True)
        try:
            _run_cell(directory, clock) if (directory / CELL).is_file() else _make_dataset(directory, clock)
        except KeyboardInterrupt:
            clock.interrupt()
            raise
        except Declined as error:
            clock.stop("declined", str(error))
        except Exception as error:
            (directory / TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8")
            ours = isinstance(error, CryobenchError)
            clock.stop("failed", str(error) if ours else f"{type(error).__name__}: {error}")
        else:
            clock.stop("finished")


def _run_cell(directory: Path, clock: Clock) -> None:
    from cryobench.evaluate.options import Options
    from cryobench.pipeline import Method, judge, solve
    from cryobench.suite.plan import CellPlan

    job = json.loads((directory / CELL).read_text(encoding="utf-8"))
    cell = CellPlan.model_validate(job["cell"])
    for name in STORES:
        store = directory.parent.parent / "datasets" / str(cell.dataset) / name
        link = directory / name
        link.unlink(missing_ok=True)
        if store.is_dir():
            link.symlink_to(os.path.relpath(store.parent.resolve() / name, directory.resolve()))
    budget = math.inf if cell.budget is None else cell.budget
    # the directory is the cell's own: what lies there of another identity was left by another version
    method = Method(cell.method, cell.params, cell.device, budget, overwrite="other", workers=job["workers"])
    solve(directory, method, seed=cell.seed, listener=clock)
    # a truth of real data lies on a grid of its own; the table says that it was resampled
    judge(directory, truth=cell.truth, options=Options(resample=True), listener=clock)


def _make_dataset(directory: Path, clock: Clock) -> None:
    from cryobench.pipeline import prepare
    from cryobench.scenario.spec import parse_scenario
    from cryobench.suite.plan import DatasetPlan

    job = json.loads((directory / DATASET).read_text(encoding="utf-8"))
    data = DatasetPlan.model_validate(job["dataset"])
    if data.scenario is not None:
        prepare(
            parse_scenario(data.scenario, str(directory / DATASET)),
            directory,
            seed=data.seed,
            workers=job["workers"],
            listener=clock,
        )
    elif data.imported is not None:
        link = directory / "observed.zarr"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(data.imported) / "observed.zarr")
    else:
        _import_by_recipe(data, directory, clock)


def _import_by_recipe(data: DatasetPlan, directory: Path, clock: Clock) -> None:
    """Let the recipe's script write ``particles.star``, and import that."""
    from cryobench.dataset.store import open_store
    from cryobench.ingest.options import ImportOptions
    from cryobench.ingest.relion import import_relion

    try:
        open_store(directory / "observed.zarr", "observed")
        return
    except StoreError:
        pass  # not there, or begun: the import completes it
    recipe = data.recipe or {}
    command = [sys.executable, recipe["script"], "--data", recipe["data"], "--out", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise InputError(f"{recipe['script']} failed: {done.stderr.strip() or done.stdout.strip()}")
    options = ImportOptions(recipe["symmetry"], data.box, seed=data.seed, shift_half_width=recipe["shift_half_width"])
    import_relion(
        directory / "particles.star",
        directory,
        options,
        invert=recipe["invert"],
        on_progress=lambda stage, done, total: clock(stage, done, total, {}),
    )


def _leave_with_parent() -> None:
    """Stop as Ctrl-C would when standard input is closed, which only the end of whoever started this process does."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
    os._exit(1)


def main() -> None:
    """Work, and say how it ended by the exit code: 0 whenever the state says the rest, 130 when stopped."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        work(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
