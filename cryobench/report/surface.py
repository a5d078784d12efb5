"""Surfaces of maps side by side, made in the page: volumes of a byte a voxel, one slider, cameras that turn together."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cryobench.conventions import origin
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.report.document import Drawing
from cryobench.report.figures import COLOURS, INK, page_layout

LARGEST_BOX: Final = 64
"""Voxels a side of what a surface is made of, at most: a page keeps a byte a voxel."""
MOST_ENCLOSED: Final = 0.3
"""Of the box, by the lowest level."""
FEWEST_ENCLOSED: Final = 0.001
_DEVIATIONS: Final = 3.0
"""Above the mean, of the first map's level that the page opens with."""
_SHADES: Final = {"truth": COLOURS["truth"], "mean": "#c9a227"}

Map = NDArray[np.float32]


def draw_surfaces(maps: Mapping[str, Map], side: float) -> Drawing:
    """Isosurfaces at one enclosed volume, which means the same for a sharp and for a blurred map, unlike a density.

    The page triangulates them itself (surface nets: Gibson 1998, MICCAI, 888-898), so that a slider may move the level.

    Args:
        maps: cubic, by name.
        side: of the box, angstrom.
    """
    small = {name: _resample(volume) for name, volume in maps.items()}
    box, half = len(next(iter(small.values()))), side / 2
    hidden = {"visible": False, "range": [-half, half], "autorange": False}
    camera = {"eye": {"x": 0.8, "y": 0.64, "z": 0.5}, "projection": {"type": "perspective"}}
    scene = {
        "xaxis": hidden,
        "yaxis": hidden,
        "zaxis": hidden,
        "aspectmode": "cube",
        "camera": camera,
        "dragmode": "orbit",
    }
    figure, scenes, notes = go.Figure(), {}, []
    for i, name in enumerate(small):
        place = "scene" if i == 0 else f"scene{i + 1}"
        figure.add_mesh3d(
            x=[], y=[], z=[], i=[], j=[], k=[], scene=place, color=_SHADES[name], name=name, hoverinfo="skip",
            lighting={"ambient": 0.45, "diffuse": 0.8, "specular": 0.15, "roughness": 0.6, "fresnel": 0.05},
            lightposition={"x": 0.9 * side, "y": -0.3 * side, "z": 1.3 * side}, flatshading=False,
        )  # fmt: skip
        left, right = i / len(small), (i + 1) / len(small)
        scenes[place] = scene | {"domain": {"x": [left, right], "y": [0, 0.95]}}
        notes.append({
            "text": name, "x": (left + right) / 2, "y": 1, "xref": "paper", "yref": "paper", "yanchor": "top",
            "showarrow": False, "font": {"size": 13, "color": INK},
        })  # fmt: skip
    coded = [_code(volume) for volume in small.values()]
    first = next(iter(small.values()))
    enclosed = float(
        np.clip((first > first.mean() + _DEVIATIONS * first.std()).mean(), 2 * FEWEST_ENCLOSED, 0.5 * MOST_ENCLOSED)
    )
    surface = {
        "box": box, "origin": origin(box), "voxel_size": side / box, "volumes": coded, "names": list(small),
        "enclosed": {"least": FEWEST_ENCLOSED, "most": MOST_ENCLOSED, "first": enclosed},
    }  # fmt: skip
    figure.layout = page_layout(
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        showlegend=False,
        annotations=notes,
        meta={"surface": surface},
        **scenes,
    )
    title = "Surfaces of " + " and ".join(small)

    def draw_still() -> go.Figure:
        still = go.Figure(layout=figure.layout)
        for mesh, volume in zip(figure.data, small.values(), strict=True):
            still.add_trace(_triangulate(mesh, volume, enclosed, side))
        return still

    return Drawing(
        "surfaces", title, figure, f"aspect-ratio: {len(small)} / 1; max-height: 32rem", "", "surface", still=draw_still
    )


def _triangulate(mesh: go.Mesh3d, volume: Map, enclosed: float, side: float) -> go.Isosurface:
    """The surface that encloses a share of the box, in the colour and light of a mesh."""
    box = len(volume)
    axis = (np.arange(box) - origin(box)) * side / box
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    level = float(np.quantile(volume, 1 - enclosed))
    colours = [[0, mesh.color], [1, mesh.color]]
    return go.Isosurface(
        x=x.ravel(), y=y.ravel(), z=z.ravel(), value=volume.ravel(), isomin=level, isomax=level, surface={"count": 1},
        caps={"x": {"show": False}, "y": {"show": False}, "z": {"show": False}}, scene=mesh.scene, colorscale=colours,
        showscale=False, lighting=mesh.lighting.to_plotly_json(), lightposition=mesh.lightposition.to_plotly_json(),
    )  # fmt: skip


def _resample(volume: Map) -> Map:
    """A map of a box that the page can make a surface of: coarse ones twice as fine by cubic splines, fine ones cropped."""
    box = len(volume)
    if 2 * box > LARGEST_BOX:
        return np.asarray(fourier_crop_volumes(torch.as_tensor(volume), min(box, LARGEST_BOX)).numpy())
    offset = origin(box) - origin(2 * box) / 2
    return ndimage.affine_transform(volume, np.full(3, 0.5), offset, (2 * box,) * 3, order=3, mode="grid-wrap")


def _code(volume: Map) -> dict[str, Any]:
    """Densities from the lowest level that may be shown up to the highest of all, in 256 steps."""
    low, high = float(np.quantile(volume, 1 - MOST_ENCLOSED)), float(volume.max())
    step = max(high - low, 1e-30) / 255
    steps = np.clip(np.rint((volume - low) / step), 0, 255).astype(np.uint8)
    spread = max(float(volume.std()), 1e-30)
    return {
        "bytes": base64.b64encode(steps.tobytes()).decode(),
        "low": (low - float(volume.mean())) / spread,
        "step": step / spread,
    }
