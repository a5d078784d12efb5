"""A result computed again from what it says of itself, and held against what it was."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import torch

from cryobench.conventions import HALVES, THRESHOLDS
from cryobench.dataset.store import digest, open_predicted, open_store
from cryobench.errors import InputError, StoreError
from cryobench.evaluate.describe import describe_file
from cryobench.evaluate.measure import correlation
from cryobench.evaluate.options import Options
from cryobench.evaluate.truth import open_truth
from cryobench.interop.atomic import written_whole
from cryobench.pipeline import Listener, Method, ignore, judge, prepare, solve
from cryobench.reconstruct.checks import check_method
from cryobench.report.reading import flatten, read_result
from cryobench.scenario.spec import Scenario
from cryobench.specimens.catalogue import files_of

Verdict = Literal["identical", "within intervals", "different"]
VOLATILE: Final = ("cost", "provenance", "over_time", "quality_over_time")
"""Parts of a result that tell of the machine and its clock, and that no second run repeats."""
STORES: Final = ("observed.zarr", "truth.zarr", "oracle.zarr")


def reproduce(
    path: Path,
    directory: Path | None = None,
    *,
    data: Path | None = None,
    truth: str | None = None,
    mask: Path | None = None,
    listener: Listener = ignore,
) -> tuple[dict[str, Any], Path]:
    """Simulate, reconstruct and evaluate again as a result says it was done, and compare.

    Args:
        path: a ``result.json``, or the run directory that holds one.
        directory: gets the second run and ``reproduction.json``; ``runs/reproduce-NAME`` if not given. One that was stopped there
            is completed.
        data: directory of the dataset, needed where it was imported; simulated anew if not given.
        truth: the file that the result was held against, where there was one.
        mask: the file of the mask, where there was one.
        listener: told of progress.

    Returns:
        The content of ``reproduction.json`` (see :func:`compare`), and the directory.

    Raises:
        InputError: if the result does not say how it was made, or what it was made from is not given, or another thing is.
        StoreError: if the dataset is missing or damaged, or the directory holds another run.
        UnknownName: if its method is not installed here.
        Declined: if its method's needs are not met here.
    """
    file = path / "result.json" if path.is_dir() else path
    then = read_result(file)
    if then["provenance"] is None:
        raise InputError(
            f"expected the result of a run in {file}, got that of the bare map {then['method']!r}, which does not say how it was "
            "made; `cryobench evaluate` measures it again"
        )
    directory = directory or Path("runs") / f"reproduce-{file.resolve().parent.name}"
    if directory.resolve() == file.resolve().parent:
        raise InputError(f"expected another directory than {directory}, which holds the result; name one with --out")
    method = Method(
        then["method"],
        then["params"],
        "cpu" if then["provenance"]["device"] == "cpu" else None,
        then["budget_seconds"] or math.inf,
    )
    check_method(method.name, method.params, method.device)
    options = _read_options(then, mask)
    truth = _check_truth(then, truth)
    if data is not None or then["dataset"] is None:
        _take_dataset(then, data, directory)
    else:
        _simulate(then, directory, listener)
    solve(directory, method, seed=then["seed"], listener=listener)
    now = judge(directory, truth=truth, options=options, listener=listener)
    compared = compare(then, now, _correlate_volumes(file.parent, directory))
    with written_whole(directory / "reproduction.json") as partial:
        partial.write_text(json.dumps(compared, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return compared, directory


def _read_options(then: Mapping[str, Any], mask: Path | None) -> Options:
    said = {name: value for name, value in (then.get("options") or {}).items() if name != "truth"}
    if isinstance(said.get("mask"), Mapping):
        if mask is None or describe_file(mask)["sha256"] != said["mask"]["sha256"]:
            raise InputError(
                f"expected the mask {said['mask']['file']} (SHA-256 {said['mask']['sha256'][:16]}…) that the result was "
                f"evaluated with, got {mask or 'none'}; give it with --mask"
            )
        said["mask"] = mask
    return Options(**said)


def _check_truth(then: Mapping[str, Any], truth: str | None) -> str | None:
    """The truth to compare with: None for a dataset's own, the name of one that needs no file, or the file or store given."""
    said = (then.get("options") or {}).get("truth")
    if said is None:
        return None
    if said.get("files") == []:
        return str(said["name"])
    if truth is None:
        raise InputError(f"expected the truth {said['name']} that the result was held against; give it with --truth")
    path = Path(truth).expanduser()
    what, same = "file", False
    if path.is_dir():
        what, same = "store", digest(open_truth(path)) == said.get("digest")
    elif "files" in said:
        same = [describe_file(file) for file in files_of(truth)] == said["files"]
    if not same:
        raise InputError(
            f"expected the truth {said['name']} that the result was held against, got another {what}, {truth}, for --truth"
        )
    return truth


def _simulate(then: Mapping[str, Any], directory: Path, listener: Listener) -> None:
    scenario = Scenario.model_validate(then["dataset"]["scenario"])
    oracle = bool((then.get("yardsticks") or {}).get("oracle_poses"))
    prepare(scenario, directory, seed=then["dataset"]["seed"], oracle=oracle, listener=listener)


def _take_dataset(then: Mapping[str, Any], data: Path | None, directory: Path) -> None:
    """Link to a dataset that is there, if it is the one that the result was made from."""
    if data is None:
        raise InputError(
            "expected the dataset, which was imported and cannot be simulated; name its directory with --data"
        )
    found = digest(open_store(data / "observed.zarr", "observed"))
    if found != then["digests"]["observed"]:
        raise StoreError(
            f"expected the dataset of digest {then['digests']['observed'][:16]}… that the result was made from, got one of "
            f"digest {found[:16]}… in {data}; import it as it was imported then"
        )
    directory.mkdir(parents=True, exist_ok=True)
    for name in STORES:
        if (data / name).exists() and not (directory / name).exists():
            (directory / name).symlink_to((data / name).resolve(), target_is_directory=True)


def _correlate_volumes(first: Path, second: Path) -> dict[str, float | None]:
    """Correlation of each half's volume with that of the second run as they lie; None where the first is not kept."""
    if not (first / "predicted.zarr").exists():
        return {f"half{half}": None for half in HALVES}
    runs = [open_predicted(directory / "predicted.zarr")[1] for directory in (first, second)]
    volumes = {half: [torch.from_numpy(run[half]["volume"].values).double() for run in runs] for half in HALVES}
    return {f"half{half}": correlation(one, two) for half, (one, two) in volumes.items()}


def compare(
    then: Mapping[str, Any], now: Mapping[str, Any], correlations: Mapping[str, float | None]
) -> dict[str, Any]:
    """What differs between two results of the same request.

    Args:
        then: contents of the first ``result.json``.
        now: of the second.
        correlations: of their volumes, by half.

    Returns:
        Plain data: ``verdict`` (``"identical"``: everything but cost and provenance is the same; ``"within intervals"``:
        resolutions and hallucination gap lie in the first result's intervals; ``"different"``), ``environment`` (what differs in
        it), ``dataset``, ``resolutions``, ``hallucination_gap``, ``fsc`` (largest differences), ``volumes``, ``steps`` and
        ``remarks``.
    """
    resolutions = list(_compare_resolutions(then, now))
    gaps = [(result["hallucination"] or {}).get("mean_gap") for result in (then, now)]
    gap = {"then": gaps[0], "now": gaps[1], "within": _gap_within(then, *gaps)}
    kept = [{name: value for name, value in result.items() if name not in VOLATILE} for result in (then, now)]
    verdict: Verdict = "different"
    if kept[0] == kept[1]:
        verdict = "identical"
    elif gap["within"] and all(row["within"] for row in resolutions):
        verdict = "within intervals"
    digests = [result.get("digests") or {} for result in (then, now)]
    same = {name: digests[0].get(name) == digests[1].get(name) for name in ("observed", "half1", "half2")}
    return {
        "verdict": verdict,
        "environment": list(_compare_environment(then["provenance"], now["provenance"])),
        "dataset": {"same": same["observed"], "then": digests[0].get("observed"), "now": digests[1].get("observed")},
        "resolutions": resolutions,
        "hallucination_gap": gap,
        "fsc": {
            name: max(abs(a - b) for a, b in zip(curve, now["fsc"][name], strict=True))
            for name, curve in then["fsc"].items()
            if name not in ("shell", "spatial_frequency") and curve is not None and now["fsc"][name] is not None
        },
        "volumes": {name: {"same": same[name], "correlation": value} for name, value in correlations.items()},
        "steps": {name: [result["cost"][name]["steps"] for result in (then, now)] for name in ("half1", "half2")},
        "remarks": list(_remarks(then, same["observed"])),
    }


def _compare_resolutions(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("half_map", "truth"):
        for threshold in (f"{t:g}" for t in THRESHOLDS):
            before, after = (result["resolution"][name] for result in (then, now))
            if before is None or after is None:
                continue
            interval = ((then["intervals"] or {}).get(name) or {}).get(threshold)
            yield {
                "comparison": name,
                "threshold": threshold,
                "then": before[threshold],
                "now": after[threshold],
                "interval": interval,
                "within": before[threshold] == after[threshold]
                or (interval is not None and _within(after[threshold]["value"], interval)),
            }


def _within(value: float | None, interval: Mapping[str, float | None]) -> bool:
    """Whether a resolution lies in an interval, whose coarse end is None where some draw reached nothing, both where all did."""
    finest, coarsest = interval["finest"], interval["coarsest"]
    if value is None:
        return coarsest is None
    return finest is not None and value >= finest and (coarsest is None or value <= coarsest)


def _gap_within(then: Mapping[str, Any], before: float | None, after: float | None) -> bool:
    interval = (then["intervals"] or {}).get("mean_gap")
    return before == after or (
        interval is not None and after is not None and interval["low"] <= after <= interval["high"]
    )


def _compare_environment(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    before, after = (dict(flatten(provenance)) for provenance in (then, now))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield {"what": name, "then": before.get(name), "now": after.get(name)}


def _remarks(then: Mapping[str, Any], same_dataset: bool) -> Iterator[str]:
    if then["budget_seconds"] is not None:
        yield (
            f"each half ran for {then['budget_seconds']:g} s of wall-clock time: how many steps fit into it depends on the "
            "machine and on what else it did, so the result cannot be repeated exactly"
        )
    if not same_dataset:
        yield "the dataset came out different: versions, processor or files differ, and everything after it may"
    git = then["provenance"].get("git")
    if git is not None and git["modified"]:
        yield "the result was made by a checkout with changes that were not committed: its commit does not tell its code"
