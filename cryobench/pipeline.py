"""READ FIRST: the whole flow. A scenario is simulated, reconstructed, evaluated and reported; stages meet only on disk.

scenario ──▶ simulate ──▶ observed.zarr ──▶ reconstruct (plugin) ──▶ predicted.zarr ─┐
                └───────▶ truth.zarr ────────────────────────────────────────────────┼▶ evaluate ──▶ report
                              └─▶ backproject, told the true poses ──▶ oracle.zarr ──┘
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from cryobench.conventions import HALVES, WHOLE
from cryobench.dataset.store import open_predicted
from cryobench.errors import InputError
from cryobench.evaluate.bare import evaluate_map
from cryobench.evaluate.options import Options
from cryobench.evaluate.run import evaluate, write_result
from cryobench.interop.mrc import write_map
from cryobench.reconstruct.checks import check_method
from cryobench.reconstruct.registry import methods
from cryobench.reconstruct.run import Progress, reconstruct
from cryobench.report.page import write_report
from cryobench.scenario.spec import Scenario
from cryobench.simulate import simulate

Listener = Callable[[str, int, int, Mapping[str, float]], None]
"""Called with (stage, step, total, scalars)."""


ORACLE_METHOD: Final = "backproject"
"""What the yardstick of the true poses is reconstructed with."""


def ignore(*_: Any) -> None:
    """A listener that does nothing."""


@dataclass(frozen=True)
class Method:
    """A method by name, with what it is told."""

    name: str
    params: Mapping[str, Any]
    device: str | None = None
    budget: float = math.inf
    overwrite: bool | Literal["other"] = False
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
    # a wrong name or value must not cost a simulation
    kind, _, _ = check_method(method.name, method.params, method.device)
    # a method that is told the poses is a yardstick itself
    oracle = not kind.needs.poses
    prepare(scenario, directory, seed=seed, dask=dask, oracle=oracle, workers=method.workers, listener=listener)
    solve(directory, method, seed=seed, listener=listener)
    return judge(directory, listener=listener)


def prepare(
    scenario: Scenario,
    directory: Path,
    *,
    seed: int = 0,
    dask: str | None = None,
    oracle: bool = True,
    workers: int | None = None,
    listener: Listener = ignore,
) -> None:
    """Simulate a dataset and reconstruct it with its true poses, a yardstick for every method; completes what was begun.

    Args:
        scenario: what to simulate.
        directory: gets ``observed.zarr``, ``truth.zarr`` and, where the method ``backproject`` is installed, ``oracle.zarr``.
        seed: of every draw.
        dask: where to simulate, see :func:`cryobench.simulate.simulate`; here if not given.
        oracle: also reconstruct with the true poses.
        workers: halves to reconstruct at once, see :func:`cryobench.reconstruct.run.reconstruct`.
        listener: told of progress.
    """
    directory.mkdir(parents=True, exist_ok=True)
    simulate(
        scenario,
        directory,
        seed=seed,
        dask=dask,
        on_progress=lambda stage, done, total: listener(stage, done, total, {}),
    )
    if oracle and ORACLE_METHOD in methods():
        reconstruct(
            directory,
            ORACLE_METHOD,
            overwrite="other",
            workers=workers,
            store="oracle.zarr",
            on_progress=lambda half, step, total, scalars: listener(f"oracle poses half {half}", step, total, scalars),
        )


def solve(directory: Path, method: Method, *, seed: int = 0, listener: Listener = ignore) -> Path:
    """Reconstruct both half-sets of the dataset in ``directory``."""
    return _solve(
        directory,
        method,
        seed,
        "predicted.zarr",
        HALVES,
        lambda half, step, total, scalars: listener(f"reconstruct half {half}", step, total, scalars),
    )


def solve_whole(directory: Path, method: Method, *, seed: int = 0, listener: Listener = ignore) -> Path:
    """Reconstruct all particles of the dataset in ``directory`` as one set, into ``whole.zarr`` and ``whole.mrc``.

    No half-map figure goes with such a map; ``evaluate whole.mrc --truth`` compares it with a structure.
    """
    store = _solve(
        directory,
        method,
        seed,
        "whole.zarr",
        (WHOLE,),
        lambda _, step, total, scalars: listener("reconstruct", step, total, scalars),
    )
    attributes, sets = open_predicted(store, (WHOLE,))
    path = directory / "whole.mrc"
    write_map(path, torch.as_tensor(sets[WHOLE]["volume"].values), float(attributes["voxel_size"]))
    return path


def _solve(
    directory: Path, method: Method, seed: int, store: str, halves: tuple[int, ...], on_progress: Progress
) -> Path:
    return reconstruct(
        directory,
        method.name,
        method.params,
        seed=seed,
        device=method.device,
        budget=method.budget,
        overwrite=method.overwrite,
        workers=method.workers,
        store=store,
        halves=halves,
        on_progress=on_progress,
    )


def judge(
    directory: Path, *, truth: str | None = None, options: Options | None = None, listener: Listener = ignore
) -> dict[str, Any]:
    """Evaluate the reconstruction in ``directory`` and write its result, maps and report.

    Args:
        directory: of the run.
        truth: what to compare with where the dataset has no truth of its own, see :func:`cryobench.evaluate.truth.read_truth`.
        options: how to compare.
        listener: told of progress.
    """
    listener("evaluate", 0, 1, {})
    result = evaluate(directory, truth, options)
    listener("evaluate", 1, 1, {})
    _report(directory, listener)
    return result


@dataclass(frozen=True)
class BareMap:
    """What a map of another program cannot say itself.

    Attributes:
        half1: its first half-map, if there is one.
        half2: its second.
        symmetry: point group, main axis on z; C1 if not given.
        name: what to call it; the file's name if not given.
        directory: gets the result; ``runs/evaluate-NAME`` if not given.
    """

    half1: Path | None = None
    half2: Path | None = None
    symmetry: str | None = None
    name: str | None = None
    directory: Path | None = None


def assess(
    path: Path, bare: BareMap, *, truth: str | None = None, options: Options | None = None, listener: Listener = ignore
) -> tuple[dict[str, Any], Path]:
    """:func:`judge` a run directory, or evaluate a map file of any program.

    Args:
        path: of either.
        bare: of a map file.
        truth: see :func:`judge`.
        options: how to compare.
        listener: told of progress.

    Returns:
        The result, and the directory that it was written into.

    Raises:
        InputError: if what is given for a map is given for a run, or half of a pair is, or what is read would be written over.
    """
    if not path.exists():
        raise InputError(f"expected a run directory or a map at {path}, found nothing there")
    if path.is_dir():
        if bare != BareMap():
            raise InputError(
                f"expected no half-maps, symmetry, name or --out for the run in {path}, which says them itself; they are for maps"
            )
        return judge(path, truth=truth, options=options, listener=listener), path
    halves = None
    if bare.half1 is not None and bare.half2 is not None:
        halves = (bare.half1, bare.half2)
    elif bare.half1 is not None or bare.half2 is not None:
        raise InputError("expected both half-maps or none of them, got one; give --half1 and --half2")
    directory = bare.directory or Path("runs") / f"evaluate-{path.name.split('.')[0]}"
    read = {given.resolve().parent for given in (path, *(halves or ()))}
    if directory.resolve() in read or (directory / "predicted.zarr").exists():
        raise InputError(
            f"expected a directory of its own for the result, got {directory}, whose maps would be written over; name "
            "another with --out"
        )
    listener("evaluate", 0, 1, {})
    evaluation = evaluate_map(path, truth, halves, bare.symmetry or "C1", bare.name, options)
    write_result(evaluation, directory)
    listener("evaluate", 1, 1, {})
    _report(directory, listener)
    return evaluation.result, directory


def _report(directory: Path, listener: Listener) -> None:
    listener("report", 0, 1, {})
    write_report(directory)
    listener("report", 1, 1, {})
