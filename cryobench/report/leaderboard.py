"""Results from anywhere side by side: runs, cells of suites, and maps of other programs that were evaluated."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryobench.errors import InputError
from cryobench.report.comparison import Cell, Comparison, RankedBy
from cryobench.report.reading import read_result
from cryobench.report.table import format_length
from cryobench.scenario.files import scenario_options

BARE = "a bare map: what images it was made from is not recorded"


def gather_leaderboard(directories: Sequence[Path], by: RankedBy = "truth 0.5") -> Comparison:
    """Every result below some directories, in groups that may be compared, ranked within each.

    Results may be compared where scenario (its seed aside), truth, box, voxel size, symmetry and filter are the same. A bare map
    joins the runs of the dataset whose truth it was measured against, or of the one scenario with the same truth. Results
    that cannot be read are named in the notes.

    Args:
        directories: to search; runs, suites, or directories of such.
        by: figure that ranks.

    Raises:
        InputError: if a directory does not exist, or there is no readable result below any.
    """
    notes: list[str] = []
    results: dict[Path, dict[str, Any]] = {}
    for path in dict.fromkeys(path for directory in directories for path in find_results(directory)):
        try:
            results[path] = read_result(path)
        except InputError as error:
            notes.append(f"skipped: {error}")
    if not results:
        looked = ", ".join(str(directory) for directory in directories)
        raise InputError("; ".join([f"expected results below {looked}, found none that can be read", *notes]))
    labels = _label_groups(results)
    kept = sorted(_gather_cells(results, labels, notes), key=lambda cell: cell.scenario)
    return Comparison(
        name="leaderboard",
        description=f"{len(kept)} results; those under one heading may be compared with each other",
        size="",
        source=None,
        cells=tuple(kept),
        notes=tuple(notes),
        command=shlex.join(["cryobench", "leaderboard", *map(str, directories)]),
        ranked_by=by,
    )


def find_results(directory: Path) -> Iterator[Path]:
    """Every ``result.json`` below a directory, in the order of their paths; stores are not searched.

    Raises:
        InputError: if there is no such directory.
    """
    if directory.name == "result.json" and directory.is_file():
        yield directory
        return
    if not directory.is_dir():
        raise InputError(f"expected a directory with results, found none at {directory}")
    for place, inner, files in os.walk(directory):
        inner[:] = sorted(name for name in inner if not name.endswith(".zarr"))
        if "result.json" in files:
            yield Path(place) / "result.json"


def _label_groups(results: Mapping[Path, Mapping[str, Any]]) -> dict[Path, str]:
    """What each result may be compared within."""
    keys = {path: _key(result) for path, result in results.items()}
    runs = {path: result for path, result in results.items() if result["dataset"] is not None}
    for path, result in results.items():
        if result["particles"] is None:
            keys[path] = _find_kin(result, runs, keys) or keys[path]
    members: dict[str, list[Path]] = {}
    for path, key in keys.items():
        members.setdefault(key, []).append(path)
    labels: dict[Path, str] = {}
    for paths in members.values():
        # a run can say what the images are, a bare map cannot
        label = _describe_group(results[next((path for path in paths if path in runs), paths[0])])
        alike = sum(other == label or other.startswith(f"{label} (") for other in dict.fromkeys(labels.values()))
        labels |= dict.fromkeys(paths, f"{label} ({alike + 1})" if alike else label)
    return labels


def _key(result: Mapping[str, Any]) -> str:
    dataset = result["dataset"]
    of_images = {"scenario": dataset["scenario"]} if dataset else {"images": _digest(result, "observed")}
    return json.dumps({**of_images, **_grid(result), "truth": _digest(result, "truth")}, sort_keys=True)


def _grid(result: Mapping[str, Any]) -> dict[str, Any]:
    names = ("box", "voxel_size", "symmetry", "gaussian_filter")
    return {name: result.get(name) for name in names}


def _digest(result: Mapping[str, Any], what: str) -> str | None:
    return (result.get("digests") or {}).get(what)


def _find_kin(bare: Mapping[str, Any], runs: Mapping[Path, Mapping[str, Any]], keys: Mapping[Path, str]) -> str | None:
    """The group of the dataset whose truth store a map was measured against, or else the one group with an equal truth."""
    for what in ("truth_store", "truth"):
        own = _digest(bare, what)
        kin = {keys[path] for path, run in runs.items() if _digest(run, what) == own and _grid(run) == _grid(bare)}
        if own is not None and len(kin) == 1:
            return kin.pop()
    return None


def _describe_group(result: Mapping[str, Any]) -> str:
    dataset = result["dataset"]
    if dataset:
        options = scenario_options(dataset["scenario"])
        name = " ".join([result["scenario"], *(option for option in options if not option.startswith("--box "))])
    elif result["particles"]:
        name = f"{sum(result['particles'].values()):,} imported particles"
    else:
        name = f"maps against {result['specimen'] or 'no truth'}"
    return f"{name} · box {result['box']} of {format_length(result['voxel_size'])} voxels, {result['symmetry']}"


def _gather_cells(
    results: Mapping[Path, Mapping[str, Any]], labels: Mapping[Path, str], notes: list[str]
) -> Iterator[Cell]:
    """Cells whose seeds may be combined: copies are left out, and other repeats of one seed told apart by their place."""
    repeats: dict[str, list[Path]] = {}
    for path, result in results.items():
        dataset_seed = (result["dataset"] or {}).get("seed")
        same = [labels[path], result["method"], _params(result), result["seed"], dataset_seed]
        repeats.setdefault(json.dumps(same, sort_keys=True), []).append(path)
    for paths in repeats.values():
        distinct: list[Path] = []
        for path in paths:
            copied = next((other for other in distinct if results[other]["fsc"] == results[path]["fsc"]), None)
            if copied is None:
                distinct.append(path)
            else:
                notes.append(f"left out: {path.parent} holds the same result as {copied.parent}")
        for path in distinct:
            place = {"run": str(path.parent)} if len(distinct) > 1 else {}
            yield _cell(path, results[path], labels[path], place)


def _params(result: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, and the budget as one of them."""
    budget = result["budget_seconds"]
    return {**(result["params"] or {}), **({} if budget is None else {"budget": f"{budget:g} s"})}


def _cell(path: Path, result: Mapping[str, Any], label: str, place: Mapping[str, str]) -> Cell:
    return Cell(
        scenario=label,
        method=result["method"],
        params={**_params(result), **place},
        seed=result["seed"],
        state="finished",
        result=result,
        notes=(BARE,) if result["particles"] is None else (),
        directory=path.parent,
    )
