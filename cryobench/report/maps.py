"""The maps of a run in one frame and on one density scale, and their slices, projections and surfaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryobench.conventions import HALVES, origin
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.report.document import Drawing
from cryobench.report.images import LARGEST_BOX_SHOWN
from cryobench.report.panels import map_panels, tabulate_panels
from cryobench.report.surface import draw_surfaces

Map: TypeAlias = NDArray[np.float32]
_PLANES: Final = ("xy", "xz", "yz")
_BEAMS: Final = ("along z", "along y", "along x")


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


def gather_maps(
    result: Mapping[str, Any], halves: Mapping[int, xr.Dataset], truth: xr.Dataset | None
) -> dict[str, Map]:
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
        maps = add_truth(maps, seen)
    return maps


def add_truth(maps: Mapping[str, Map], truth: Map) -> dict[str, Map]:
    """The maps and, before them, a truth in their frame on their density scale."""
    return {"truth": _fit(truth, maps["mean"]), **maps}


def _fit(volume: Map, reference: Map) -> Map:
    """A noise-free volume scaled and offset to the reference by least squares; methods leave the density scale free."""
    centred = volume - volume.mean()
    scale = (centred * (reference - reference.mean())).mean() / max(float((centred**2).mean()), 1e-30)
    return (centred * scale + reference.mean()).astype(np.float32)


def draw_maps(maps: Mapping[str, Map], side: float) -> Iterator[Drawing]:
    """Slices, projections and surfaces.

    Args:
        maps: by name, in one frame and on one scale; ``mean`` is among them.
        side: of the box, angstrom.
    """
    yield draw_surfaces({name: maps[name] for name in ("truth", "mean") if name in maps}, side)
    box = min(len(maps["mean"]), LARGEST_BOX_SHOWN)
    small = {name: fourier_crop_volumes(torch.as_tensor(v), box).numpy() for name, v in maps.items()}
    voxel_size, middle = side / box, origin(box)
    shape = f"aspect-ratio: 3 / {len(maps) - 0.05}"  # three columns, and margins for the headings
    slices = {name: [v[middle], v[:, middle], v[:, :, middle]] for name, v in small.items()}
    sums = {name: [v.sum(axis) * voxel_size for axis in range(3)] for name, v in small.items()}
    for name, title, rows, columns, unit, caption in (
        ("slices", "Central slices", slices, _PLANES, "density", "Central slices, one voxel thick"),
        (
            "projections",
            "Projections",
            sums,
            _BEAMS,
            "density Å",
            "Projections: the density integrated along each axis",
        ),
    ):
        figure = map_panels(rows, columns, voxel_size, _grey_limits(rows))
        named = {f"{name} ({unit})": panels for name, panels in rows.items()}
        table = tabulate_panels(named, columns, voxel_size)
        yield Drawing(name, title, figure, shape, caption, "panels", False, table)


def _grey_limits(rows: Mapping[str, list[Map]]) -> tuple[float, float]:
    values = np.concatenate([panel.ravel() for name, panels in rows.items() for panel in panels if name != "truth"])
    low, high = np.percentile(values, [0.5, 99.8])
    return float(low), float(max(high, low + 1e-12))
