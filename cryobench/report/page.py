"""The report: one self-contained HTML page of a run directory, which opens from disk without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import xarray as xr

from cryobench.conventions import HALVES
from cryobench.dataset.store import open_predicted, open_store
from cryobench.interop.mrc import read_map
from cryobench.report.commands import reproduce
from cryobench.report.correlations import draw_correlations
from cryobench.report.course import draw_course, draw_history
from cryobench.report.document import Drawing, render
from cryobench.report.images import draw_images
from cryobench.report.maps import Map, add_truth, draw_maps, gather_maps
from cryobench.report.reading import find_objection, flatten, read_result
from cryobench.report.table import (
    COMPARISONS,
    THRESHOLD_KEYS,
    format_duration,
    format_found,
    format_plainly,
    headline_rows,
    name_run,
    remarks,
)
from cryobench.report.views import draw_pose_errors, draw_views

_OPTIONAL: Final = (
    "intervals", "masked", "correlation", "hallucination", "directional", "poses", "quality_over_time", "given_poses",
)  # fmt: skip
"""What a result may lack."""
_ALIGNMENTS: Final = {
    "half2_to_half1": "half 2 to half 1",
    "mean_to_truth": "mean to truth",
    "half1_to_truth": "half 1 to truth",
    "half2_to_truth": "half 2 to truth",
}


@dataclass(frozen=True)
class Run:
    """What a page is made of.

    Attributes:
        result: contents of ``result.json``.
        observed: the dataset; None for a map that another program made.
        truth: of the dataset, if there is one.
        halves: what the method returned, by half; empty for a map that another program made.
        device: that the method ran on, if it is known.
        maps: in one frame, by name.
    """

    result: Mapping[str, Any]
    observed: xr.Dataset | None
    truth: xr.Dataset | None
    halves: Mapping[int, xr.Dataset]
    device: str | None
    maps: Mapping[str, Map]


def write_report(directory: Path) -> Path:
    """Write ``report.html`` of an evaluated run, or of a bare map that was evaluated.

    Args:
        directory: with ``result.json``, and the stores ``observed.zarr``, ``predicted.zarr`` and, if simulated,
            ``truth.zarr``; of a bare map with ``mean.mrc``. A truth that was given for the comparison is ``truth.mrc``.

    Returns:
        Path of the page.

    Raises:
        InputError: if there is no result to report, or it is not of this version's form.
        StoreError: if a store is missing, unfinished or damaged.
    """
    run = open_run(directory)
    path = directory / "report.html"
    path.write_text(compose(run, directory.name), encoding="utf-8")
    return path


def open_run(directory: Path) -> Run:
    """The parts of a page, as the directory holds them.

    Raises:
        InputError: if there is no result, or it is not of this version's form.
        StoreError: if a store is missing, unfinished or damaged.
    """
    result = read_result(directory / "result.json")
    if result["particles"] is None:  # a map of another program has no stores
        maps = {name.replace("half", "half "): volume for name in ("half1", "half2", "mean")
                if (volume := _read_map(directory, name)) is not None}  # fmt: skip
        return Run(result, None, None, {}, None, _with_given_truth(maps, result, directory))
    observed = open_store(directory / "observed.zarr", "observed")
    attributes, halves = open_predicted(directory / "predicted.zarr")
    truth = open_store(directory / "truth.zarr", "truth") if (directory / "truth.zarr").exists() else None
    maps = gather_maps(result, halves, truth)
    if truth is None:
        maps = _with_given_truth(maps, result, directory)
    return Run(result, observed, truth, halves, attributes.get("device"), maps)


def _read_map(directory: Path, name: str) -> Map | None:
    path = directory / f"{name}.mrc"
    return read_map(path).volume if path.exists() else None


def _with_given_truth(maps: dict[str, Map], result: Mapping[str, Any], directory: Path) -> dict[str, Map]:
    """The maps with the truth that they were compared with, which evaluation left beside them in their frame."""
    truth = _read_map(directory, "truth") if result["resolution"].get("truth") is not None else None
    return maps if truth is None or "mean" not in maps else add_truth(maps, truth)


def draw_run(run: Run) -> Iterator[Drawing]:
    """Every figure that there is something to draw for, in the order of the page."""
    yield from draw_correlations(run.result)
    if "mean" in run.maps:
        yield from draw_maps(run.maps, run.result["voxel_size"] * run.result["box"])
    if run.observed is not None:
        yield from draw_images(run.observed, run.halves)
        yield from draw_views(run.observed, run.truth, run.halves, run.result["alignment"])
    yield from draw_pose_errors(run.result.get("poses"))
    yield from draw_course(run.result)
    yield from draw_history(run.halves)


def compose(run: Run, name: str) -> str:
    """The page as text.

    Args:
        run: to report.
        name: of its directory, for the commands.
    """
    result: dict[str, Any] = dict.fromkeys(_OPTIONAL) | dict(run.result)
    return render(
        "page.html.jinja",
        title=name_run(result),
        drawings=list(draw_run(run)),
        result=result,
        directory=name,
        thresholds=THRESHOLD_KEYS,
        rows=headline_rows(result),
        noise=_sentence(result["noise"] or ""),
        warnings=result.get("warnings", []),
        remarks=[said for said in remarks(result) if said not in result.get("warnings", [])],
        key_figures=list(_key_figures(result)),
        compared=[said for key, said in COMPARISONS.items() if result["fsc"].get(key) is not None],
        comparisons=COMPARISONS,
        shells=list(_shells(result["fsc"])),
        has_truth_map="truth" in run.maps,
        alignments=[(said, found) for key, said in _ALIGNMENTS.items() if (found := result["alignment"].get(key))],
        directional=[(key, t, spread[t]) for key, spread in (result.get("directional") or {}).items()
                     if spread for t in THRESHOLD_KEYS],
        uncounted=() if find_objection(result) is None else ("half_map", "half_map_0.143"),
        targets=_targets(result),
        notes=list(dict.fromkeys(note for half in run.halves.values() for note in half.attrs.get("notes", []))),
        device=run.device,
        halves=HALVES,
        parameters=_list(result["params"]),
        options=_list(result.get("options")),
        provenance=_list(result["provenance"]),
        command=None if result["particles"] is None else reproduce(result, name),
    )  # fmt: skip


def _sentence(text: str) -> str:
    """With a capital and a full stop, whatever it came with."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _key_figures(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, threshold, name in (("truth", "0.5", "Against truth"), ("half_map", "0.143", "Half-maps")):
        if (found := result["resolution"].get(key)) is not None:
            text = format_found(found[threshold])
            counts = key == "truth" or find_objection(result) is None
            yield f"{name}, FSC {threshold}", text if counts else f"({text})"
    gap = (result.get("hallucination") or {}).get("mean_gap")
    if gap is not None:
        yield "Hallucination gap", f"{gap:+.3f}".replace("-", "\N{MINUS SIGN}")
    if result["particles"]:
        yield "Particles", f"{sum(result['particles'].values()):,}"
    if result["cost"]:
        yield "Wall time", format_duration(result["cost"]["total_wall_seconds"])


def _shells(fsc: Mapping[str, Any]) -> Iterator[tuple[int, float, list[float]]]:
    """Number, resolution and correlations of every shell but the first, whose resolution is infinite."""
    curves = [fsc[key] for key in COMPARISONS if fsc.get(key) is not None]
    for shell, frequency, *values in list(zip(fsc["shell"], fsc["spatial_frequency"], *curves, strict=True))[1:]:
        yield shell, 1 / frequency, values


def _targets(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Targets with the time that they were met after; the finer ones that none met are left out but for the first."""
    targets = list((result.get("quality_over_time") or {}).get("time_to_target") or [])
    missed = [i for i, target in enumerate(targets) if target["seconds"] is None]
    return targets[: missed[0] + 1] if missed else targets


def _list(tree: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    return [(name, format_plainly(value)) for name, value in flatten(tree or {})]
