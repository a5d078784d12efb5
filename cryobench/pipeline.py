"""READ FIRST: the whole flow. A scenario is simulated, reconstructed, evaluated and reported; stages meet only on disk.

scenario ──▶ simulate ──▶ observed.zarr ──▶ reconstruct (plugin) ──▶ predicted.zarr ─┐
                └───────▶ truth.zarr ────────────────────────────────────────────────┴▶ evaluate ──▶ report
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryobench.dataset.store import open_store
from cryobench.errors import StoreError
from cryobench.evaluate.run import evaluate
from cryobench.reconstruct.run import check_method, reconstruct
from cryobench.report.page import write_report
from cryobench.scenario.spec import Scenario
from cryobench.simulate import simulate
from cryobench.specimens.catalogue import find

Listener = Callable[[str, int, int, Mapping[str, float]], None]
"""Called with (stage, step, total, scalars)."""


def ignore(*_: Any) -> None:
    """A listener that does nothing."""


@dataclass(frozen=True)
class Method:
    """A method by name, with what it is told."""

    name: str
    params: Mapping[str, Any]
    device: str | None = None
    budget: float = math.inf
    overwrite: bool = False
    workers: int | None = None


def run(
    scenario: Scenario,
    method: Method,
    directory: Path,
    *,
    seed: int = 0,
    dask: str | None = None,
    listener: Listener = ignore,
) -> dict[str, Any]:
    """Simulate, reconstruct both half-sets, evaluate and report, all into ``directory``; completes a run begun there.

    Args:
        scenario: what to simulate.
        method: what to reconstruct with.
        directory: of the run.
        seed: of every draw.
        dask: where to simulate, see :func:`cryobench.simulate.simulate`; here if not given.
        listener: told of progress.

    Returns:
        The result, as in ``result.json``.
    """
    check_method(method.name, method.params, method.device)  # a wrong name or value must not cost a simulation
    directory.mkdir(parents=True, exist_ok=True)
    simulate(
        scenario,
        directory,
        seed=seed,
        dask=dask,
        on_progress=lambda stage, done, total: listener(stage, done, total, {}),
    )
    solve(directory, method, seed=seed, listener=listener)
    return judge(directory, listener=listener)


def solve(directory: Path, method: Method, *, seed: int = 0, listener: Listener = ignore) -> Path:
    """Reconstruct both half-sets of the dataset in ``directory``."""
    return reconstruct(
        directory,
        method.name,
        method.params,
        seed=seed,
        device=method.device,
        budget=method.budget,
        overwrite=method.overwrite,
        workers=method.workers,
        on_progress=lambda half, step, total, scalars: listener(f"reconstruct half {half}", step, total, scalars),
    )


def judge(directory: Path, *, truth: str | None = None, listener: Listener = ignore) -> dict[str, Any]:
    """Evaluate the reconstruction in ``directory`` and write its result, maps and report.

    Args:
        directory: of the run.
        truth: a specimen to compare with where the dataset has no truth of its own (a catalogue name, pdb:ID, or a map's path).
        listener: told of progress.
    """
    truth_map = None
    if truth is not None:
        if (directory / "truth.zarr").exists():
            raise StoreError(f"{directory} has a truth of its own; --truth is for imported data")
        observed = open_store(directory / "observed.zarr", "observed")
        voxel_size = float(observed.attrs["voxel_size"])
        truth_map = (find(truth).density(observed.sizes["x"], voxel_size), voxel_size)
    listener("evaluate", 0, 1, {})
    result = evaluate(directory, truth_map)
    listener("evaluate", 1, 1, {})
    listener("report", 0, 1, {})
    write_report(directory)
    listener("report", 1, 1, {})
    return result
