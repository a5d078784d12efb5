"""The report: one self-contained HTML page of a run directory, which opens from disk without a network."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeAlias

import jinja2
import numpy as np
import plotly.graph_objects as go
import plotly.offline
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryobench.conventions import HALVES, origin
from cryobench.dataset.store import open_predicted, open_store
from cryobench.errors import InputError
from cryobench.physics.fourier import fourier_crop_images, fourier_crop_volumes
from cryobench.report import figures
from cryobench.report.table import (
    COMPARISONS,
    THRESHOLD_KEYS,
    format_duration,
    format_length,
    format_number,
    format_resolution,
    format_size,
    remarks,
    resolution_rows,
)
from cryobench.report.views import gather_views
from cryobench.scenario.files import scenario_options

LARGEST_BOX_SHOWN: Final = 128
"""Larger maps and images are Fourier-cropped before they are drawn, which keeps the page small."""

_ALIGNMENTS = {"half2_to_half1": "half 2 to half 1", "mean_to_truth": "mean to truth"}
_EXAMPLES = 6
_POINTS = 500
_SCHEMA = 1
_KEYS = (
    "method", "params", "scenario", "specimen", "seed", "voxel_size", "box", "symmetry", "oracle_poses", "particles",
    "resolution", "fsc", "alignment", "over_time", "snr", "noise", "cost", "provenance",
)  # fmt: skip

Map: TypeAlias = NDArray[np.float32]
Halves: TypeAlias = dict[int, xr.Dataset]


@dataclass(frozen=True)
class Drawing:
    """A figure on the page: its fixed place, what it says to who cannot see it, and its shape (CSS)."""

    name: str
    title: str
    figure: go.Figure
    shape: str
    caption: str = ""

    def script(self) -> str:
        """The figure as JSON that may stand inside a script element."""
        text: str = self.figure.to_json()
        return text.replace("</", "<\\/")


@dataclass(frozen=True)
class _Page:
    """What the template fills in."""

    fsc: Drawing
    maps: list[Drawing]
    images: list[Drawing]
    views: list[Drawing]
    history: list[Drawing]
    over_time: list[Drawing]

    @property
    def drawings(self) -> list[Drawing]:
        """All of them, in the order of the page."""
        return [self.fsc, *self.maps, *self.images, *self.views, *self.history, *self.over_time]


def write_report(directory: Path) -> Path:
    """Write ``report.html`` of an evaluated run.

    Args:
        directory: run directory with ``result.json``, ``observed.zarr``, ``predicted.zarr`` and, if simulated, ``truth.zarr``.

    Returns:
        Path of the page.

    Raises:
        InputError: if there is no result to report, or it is not of this version's form.
        StoreError: if a store is missing, unfinished or damaged.
    """
    result = read_result(directory / "result.json")
    observed = open_store(directory / "observed.zarr", "observed")
    attributes, halves = open_predicted(directory / "predicted.zarr")
    truth = open_store(directory / "truth.zarr", "truth") if (directory / "truth.zarr").exists() else None

    maps = _gather_maps(result, halves, truth)
    curves = figures.fsc_curves(result["fsc"], result["resolution"])
    page = _Page(
        fsc=Drawing("fsc", "Fourier shell correlation curves", curves, "height: 27rem"),
        maps=list(_draw_maps(maps, result["voxel_size"] * result["box"])),
        images=list(_draw_images(observed, halves)),
        views=list(_draw_views(observed, truth)),
        history=list(_draw_history(halves)),
        over_time=list(_draw_over_time(result)),
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(length=format_length, number=format_number, duration=format_duration, size=format_size)
    template = resources.files("cryobench.report").joinpath("page.html.jinja").read_text("utf-8")
    html = environment.from_string(template).render(
        result=result,
        page=page,
        thresholds=THRESHOLD_KEYS,
        rows=[(name, [cell.replace("<=", "≤") for cell in cells]) for name, cells in resolution_rows(result)],
        remarks=remarks(result),
        key_figures=list(_key_figures(result)),
        compared=[name for key, name in COMPARISONS.items() if result["fsc"].get(key) is not None],
        shells=list(_shells(result["fsc"])),
        has_truth_map="truth" in maps,
        has_simulated=any(drawing.name == "images-simulated" for drawing in page.images),
        alignments=[
            (name, found) for key, name in _ALIGNMENTS.items() if (found := result["alignment"][key]) is not None
        ],
        notes=list(dict.fromkeys(note for half in halves.values() for note in half.attrs.get("notes", []))),
        device=attributes.get("device"),
        parameters=list(_flatten(result["params"])),
        provenance=list(_flatten(result["provenance"])),
        command=reproduce(result, directory.name),
        plotly_js=plotly.offline.get_plotlyjs(),
    )
    path = directory / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def read_result(path: Path) -> dict[str, Any]:
    """The contents of a ``result.json`` of this version's schema.

    Raises:
        InputError: if it is missing, no JSON, of another schema, or lacks keys.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"expected a result at {path}, found nothing; evaluate the run first") from None
    except ValueError as error:
        raise InputError(f"expected JSON in {path}, could not read it: {error}; evaluate the run again") from None
    schema = result.get("schema") if isinstance(result, dict) else None
    if schema != _SCHEMA:
        raise InputError(f"expected schema {_SCHEMA} in {path}, got {schema!r}; evaluate the run with this version")
    lacking = [key for key in _KEYS if key not in result]
    if lacking:
        raise InputError(f"expected the keys {lacking} in {path}, found none of them; evaluate the run again")
    return result


def move_map(volume: Map, found: Mapping[str, Any], voxel_size: float, *, back: bool = False) -> Map:
    """A map moved through an alignment of ``result.json``, for looking at: cubic splines in a periodic box.

    The alignment takes ``p`` to ``R M p + t``, with ``M: (x, y, z) -> (x, y, -z)`` if mirrored.

    Args:
        volume: ``(z, y, x)``.
        found: ``quaternion`` (x, y, z, w), ``shift`` (x, y, z) in angstrom, ``mirrored``.
        voxel_size: angstrom.
        back: go from the frame of the reference to that of the map that was aligned.
    """
    mirror = np.diag([1.0, 1.0, -1.0 if found["mirrored"] else 1.0])
    matrix = Rotation.from_quat(found["quaternion"]).as_matrix() @ mirror
    shift = np.asarray(found["shift"], dtype=np.float64) / voxel_size
    if back:
        matrix, shift = matrix.T, -matrix.T @ shift
    centre = np.full(3, origin(len(volume)), dtype=np.float64)
    pull = matrix.T[::-1, ::-1]  # where a voxel's value comes from, in (z, y, x)
    offset = centre - pull @ (centre + shift[::-1])
    return ndimage.affine_transform(volume, pull, offset, order=3, mode="grid-wrap")


def _gather_maps(result: Mapping[str, Any], halves: Halves, truth: xr.Dataset | None) -> dict[str, Map]:
    """Truth (if any), halves and mean in the frame and on the density scale of half 1."""
    box, voxel_size = result["box"], result["voxel_size"]
    one, two = (np.asarray(halves[half]["volume"].values, dtype=np.float32) for half in HALVES)
    two = move_map(two, result["alignment"]["half2_to_half1"], voxel_size)
    # equal spread, not least squares, which would dim a half by the noise of both
    two = (two - two.mean()) * (one.std() / max(float(two.std()), 1e-30)) + one.mean()
    maps = {"half 1": one, "half 2": two, "mean": (one + two) / 2}
    to_truth = result["alignment"]["mean_to_truth"]
    if truth is not None and to_truth is not None:
        native = torch.as_tensor(np.asarray(truth["volume"].values, dtype=np.float32))
        seen = move_map(fourier_crop_volumes(native, box).numpy(), to_truth, voxel_size, back=True)
        maps = {"truth": _fit(seen, maps["mean"]), **maps}
    return maps


def _fit(volume: Map, reference: Map) -> Map:
    """A noise-free volume scaled and offset to the reference by least squares; methods leave the density scale free."""
    centred = volume - volume.mean()
    scale = (centred * (reference - reference.mean())).mean() / max(float((centred**2).mean()), 1e-30)
    return (centred * scale + reference.mean()).astype(np.float32)


def _draw_maps(maps: Mapping[str, Map], side: float) -> Iterator[Drawing]:
    box = min(len(maps["mean"]), LARGEST_BOX_SHOWN)
    small = {name: fourier_crop_volumes(torch.as_tensor(v), box).numpy() for name, v in maps.items()}
    voxel_size, middle = side / box, origin(box)
    shape = f"aspect-ratio: 3 / {len(maps) - 0.05}"  # three columns, and margins for the headings
    slices = {name: [v[middle], v[:, middle], v[:, :, middle]] for name, v in small.items()}
    yield Drawing(
        "slices",
        "Central slices",
        figures.map_panels(slices, ["xy", "xz", "yz"], voxel_size, _grey_limits(slices)),
        shape,
        "Central slices, one voxel thick",
    )
    sums = {name: [v.sum(axis) * voxel_size for axis in range(3)] for name, v in small.items()}
    yield Drawing(
        "projections",
        "Projections",
        figures.map_panels(sums, ["along z", "along y", "along x"], voxel_size, _grey_limits(sums)),
        shape,
        "Projections: the density integrated along each axis",
    )


def _grey_limits(rows: Mapping[str, list[Map]]) -> tuple[float, float]:
    values = np.concatenate([panel.ravel() for name, panels in rows.items() for panel in panels if name != "truth"])
    low, high = np.percentile(values, [0.5, 99.8])
    return float(low), float(max(high, low + 1e-12))


def _draw_images(observed: xr.Dataset, halves: Halves) -> Iterator[Drawing]:
    pixel_size = float(observed.attrs["voxel_size"])
    simulated = [half["example_images"][:_EXAMPLES] for half in halves.values() if "example_images" in half]
    chosen = [("observed", "Observed particles", observed["images"])]
    if simulated:
        chosen.append(("simulated", "Simulated by the method", xr.concat(simulated, "example")))
    chosen.append(("noise", "Noise patches", observed["noise_patches"]))
    for name, title, images in chosen:
        if len(images) == 0:
            continue
        index = np.unique(np.linspace(0, len(images) - 1, _EXAMPLES).round().astype(int))
        values = torch.as_tensor(np.asarray(images[index].values, dtype=np.float32))
        values = torch.stack([(image - image.mean()) / image.std().clamp(min=1e-12) for image in values])
        box = min(values.shape[-1], LARGEST_BOX_SHOWN)
        scale = pixel_size * values.shape[-1] / box
        grid = figures.image_panels(list(fourier_crop_images(values, box).numpy()), scale)
        yield Drawing(f"images-{name}", title, grid, f"aspect-ratio: 3 / {-(-len(index) // 3)}", title)


def _draw_views(observed: xr.Dataset, truth: xr.Dataset | None) -> Iterator[Drawing]:
    """The view directions of the particles, where they are known, and of the prior that the method assumed."""
    for number, (title, caption, figure) in enumerate(gather_views(observed, truth)):
        yield Drawing(f"views-{number}", title, figure, "aspect-ratio: 1.9", caption)


def _draw_history(halves: Halves) -> Iterator[Drawing]:
    """One small figure for each quantity that either half logged."""
    logged = {str(name) for half in halves.values() for name in half.data_vars if half[name].dims == ("record",)}
    for i, name in enumerate(sorted(logged - {"history_step", "history_seconds"})):
        curves = {
            number: _thin(half["history_seconds"].values, half[name].values)
            for number, half in halves.items()
            if name in half and np.isfinite(half[name].values).any()
        }
        if curves:
            title = name.removeprefix("history_").replace("_", " ")
            yield Drawing(f"history-{i}", title, figures.history_curve(curves), "height: 13rem", title)


def _thin(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over equal blocks of records where there are more than can be told apart on a page."""
    block = -(-len(x) // _POINTS)
    edges = np.arange(0, len(x), block)
    counts = np.diff(np.append(edges, len(x)))
    means = [np.add.reduceat(np.asarray(v, dtype=np.float64), edges) / counts for v in (x, y)]
    return means[0], means[1]


def _draw_over_time(result: Mapping[str, Any]) -> Iterator[Drawing]:
    """One figure a threshold: each half against truth, and the half-maps against one another."""
    over_time = result["over_time"] or {}
    sources = (
        ("half_map", "half_map", "half_map"),
        ("truth_half1", "half1", "truth"),
        ("truth_half2", "half2", "truth"),
    )
    for threshold in THRESHOLD_KEYS:
        curves = {}
        for comparison, key, inner in sources:
            points = [p for p in over_time.get(key) or [] if p.get(inner)]
            if points:
                curves[comparison] = [p["seconds"] for p in points], [p[inner][threshold]["value"] for p in points]
        if curves:
            figure = figures.resolution_curves(curves, 2 * result["voxel_size"])
            name, title = f"over-time-{threshold.replace('.', '-')}", f"Resolution at FSC {threshold} over time"
            yield Drawing(name, title, figure, "height: 20rem", f"FSC {threshold}")


def _key_figures(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, threshold, name in (("half_map", "0.143", "Half-maps"), ("truth", "0.5", "Against truth")):
        if (found := result["resolution"].get(key)) is not None:
            text = format_resolution(**found[threshold]).removesuffix(" (Nyquist)").replace("<=", "≤")
            yield f"{name}, FSC {threshold}", text
    yield "Particles", f"{sum(result['particles'].values()):,}"
    yield "Wall time", format_duration(result["cost"]["total_wall_seconds"])


def reproduce(result: Mapping[str, Any], run: str) -> str:
    """The command that makes this result again; for imported particles, the commands after the import into ``run``."""
    given = {k: v if isinstance(v, str) else json.dumps(v) for k, v in result["params"].items() if v is not None}
    params = [f"-p {shlex.quote(f'{key}={value}')}" for key, value in sorted(given.items())]
    method = [f"--method {shlex.quote(result['method'])}"]
    seed = [f"--seed {result['seed']}"]
    budget = [f"--budget {result['budget_seconds']:g}s"] if result["budget_seconds"] else []
    if result["scenario"] is None:
        return " \\\n  ".join([f"cryobench reconstruct {shlex.quote(run)}", *method, *seed, *budget, *params]) + (
            f"\ncryobench evaluate {shlex.quote(run)}"
        )
    dataset = result["dataset"]
    scenario = [f"--scenario {shlex.quote(result['scenario'])}", *scenario_options(dataset["scenario"])]
    if dataset["seed"] == result["seed"]:
        return " \\\n  ".join(["cryobench run", *method, *scenario, *seed, *budget, *params])
    simulate = ["cryobench simulate", *scenario, f"--seed {dataset['seed']}", f"--out {shlex.quote(run)}"]
    solve = [f"cryobench reconstruct {shlex.quote(run)}", *method, *seed, *budget, *params]
    return "\n".join([" \\\n  ".join(simulate), " \\\n  ".join(solve), f"cryobench evaluate {shlex.quote(run)}"])


def _shells(fsc: Mapping[str, Any]) -> Iterator[tuple[int, float, list[float]]]:
    """Number, resolution and correlations of every shell but the first, whose resolution is infinite."""
    curves = [fsc[key] for key in COMPARISONS if fsc.get(key) is not None]
    for shell, frequency, *values in list(zip(fsc["shell"], fsc["spatial_frequency"], *curves, strict=True))[1:]:
        yield shell, 1 / frequency, values


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in sorted(tree.items()):
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}".replace("_", " "), "none" if value is None else str(value)
