"""Where particles are seen from: densities of view directions on an equal-area map of the sphere, and their figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import plotly.graph_objects as go
import torch
import xarray as xr
from numpy.typing import NDArray

from cryobench.dataset.priors import join_pose_prior
from cryobench.physics.pose_distance import draw_prior, pose_distance
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.report.figures import MUTED, page_layout
from cryobench.types import Rotations

ROWS: Final = 61
"""Pixels of a map from pole to pole; twice as many around."""
POSES_PER_DEGREE: Final = 50
MOST_POSES: Final = 5000
"""More are thinned evenly: the map shows no more."""
COMPARED: Final = 2000
"""Poses of each kind that the distance is estimated from."""
_SCALE: Final = [[0.0, "#ffffff"], [0.35, "#8fc4e6"], [0.7, "#0072b2"], [1.0, "#0b2c4d"]]
_PARALLELS, _MERIDIANS = (30, 60, 90, 120, 150), (-120, -60, 0, 60, 120)

ViewMap = NDArray[np.float32]


def gather_views(observed: xr.Dataset, truth: xr.Dataset | None) -> list[tuple[str, str, go.Figure]]:
    """Maps of the particles' poses, where they are known, and of the prior assumed: title, caption and figure of each."""
    assumed = join_pose_prior(observed)
    prior = f"the prior that the method was told to assume ({assumed['kind']})"
    poses, captions = {prior: draw_prior(assumed, MOST_POSES, 0)}, {prior: prior.capitalize()}
    known = observed.get("given_rotation") if truth is None else truth["rotation"]
    name = "poses that the imported file states" if truth is None else "true poses of the particles"
    if known is not None:
        rows = np.unique(np.linspace(0, len(known) - 1, MOST_POSES).round().astype(int))
        own = quaternion_to_matrix(torch.as_tensor(known.values[rows]))
        every = torch.linspace(0, len(own) - 1, min(len(own), COMPARED)).round().long()
        symmetry = str(observed.attrs["symmetry"])
        distance = pose_distance(own[every], poses[prior][: len(every)], symmetry)
        captions[prior] += f". Distance from the {name}, modulo {symmetry}: {distance}"
        poses = {name: own} | poses
        captions[name] = name.capitalize()
    kappa = smoothing(min(map(len, poses.values())))
    drawn = view_figures({name: view_density(rotations, kappa) for name, rotations in poses.items()})
    return [(f"View directions: {name}", captions[name], figure) for name, figure in drawn.items()]


def smoothing(count: int) -> float:
    """Concentration of the von Mises-Fisher kernel that smooths a map of ``count`` poses: finer, the more there are."""
    return min(max(min(count, MOST_POSES) / POSES_PER_DEGREE, 8.0), 100.0)


def view_density(rotations: Rotations, kappa: float) -> ViewMap:
    """Density of the view directions ``R^T z`` of poses ``(n, 3, 3)``, the uniform density being 1.

    Args:
        rotations: poses, of which :data:`MOST_POSES` are taken.
        kappa: of the von Mises-Fisher kernel; its standard deviation is about ``1 / sqrt(kappa)`` radians.

    Returns:
        A Mollweide map ``(rows, 2 rows)``: rot from -180 to 180 degrees along a row, tilt from 0 in the first row to 180 in the
        last; not a number outside the map's ellipse.
    """
    chosen = torch.linspace(0, len(rotations) - 1, min(len(rotations), MOST_POSES)).round().long()
    views = rotations[chosen, 2].float()
    rot, tilt = _grid()
    inside = np.isfinite(rot)
    points = np.stack([np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)], -1)[inside]
    peak = -2 * kappa / math.expm1(-2 * kappa)
    values = np.full(rot.shape, np.nan, dtype=np.float32)
    sphere = torch.as_tensor(points, dtype=torch.float32)
    parts = (sphere[i : i + 512] @ views.T for i in range(0, len(sphere), 512))  # in blocks, to hold little at once
    values[inside] = torch.cat([(peak * torch.exp(kappa * (cosines - 1))).mean(1) for cosines in parts]).numpy()
    return values


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rot and tilt in radians of every pixel of a map; not numbers outside its ellipse."""
    y = 1 - 2 * (np.arange(ROWS) + 0.5) / ROWS
    x = 2 * (2 * (np.arange(2 * ROWS) + 0.5) / (2 * ROWS) - 1)
    auxiliary = np.arcsin(y)[:, None]
    latitude = np.arcsin((2 * auxiliary + np.sin(2 * auxiliary)) / np.pi)
    rot = np.pi * x / (2 * np.cos(auxiliary))
    rot = np.where(np.abs(rot) <= np.pi, rot, np.nan)
    return rot, np.broadcast_to(np.pi / 2 - latitude, rot.shape)


def project(rot: NDArray[np.float64], tilt: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where directions (radians) lie on the map, x from -2 to 2 and y from -1 to 1."""
    auxiliary = np.linspace(-np.pi / 2, np.pi / 2, 2001)
    latitude = np.arcsin(np.clip((2 * auxiliary + np.sin(2 * auxiliary)) / np.pi, -1, 1))
    found = np.interp(np.pi / 2 - tilt, latitude, auxiliary)
    return 2 / np.pi * rot * np.cos(found), np.sin(found)


def view_figures(densities: Mapping[str, ViewMap]) -> dict[str, go.Figure]:
    """One figure for each map by its name, all on one colour scale.

    Args:
        densities: of :func:`view_density`.
    """
    highest = max(2.0, *(float(np.nanquantile(values, 0.99)) for values in densities.values()))
    return {name: _figure(values, highest) for name, values in densities.items()}


def _figure(values: ViewMap, highest: float) -> go.Figure:
    rot, tilt = np.degrees(_grid())
    step = 4 / values.shape[1]
    figure = go.Figure()
    figure.add_heatmap(
        z=values,
        x0=-2 + step / 2,
        dx=step,
        y0=1 - step / 2,
        dy=-step,
        zmin=0,
        zmax=highest,
        colorscale=_SCALE,
        customdata=np.stack([rot, tilt], -1).round(),
        hovertemplate="rot %{customdata[0]:.0f}°, tilt %{customdata[1]:.0f}°<br>%{z:.2f} of uniform<extra></extra>",
        hoverongaps=False,
        colorbar={"thickness": 10, "len": 0.9, "outlinewidth": 0, "tickfont": {"size": 11, "color": MUTED}},
    )
    around, along = np.radians(np.linspace(-180, 180, 91)), np.radians(np.linspace(0, 180, 61))
    lines = [project(around, np.full(91, np.radians(t))) for t in _PARALLELS]
    lines += [project(np.full(61, np.radians(r)), along) for r in _MERIDIANS]
    for x, y in lines:
        _add_line(figure, x, y, "rgba(27, 42, 58, 0.18)")
    turn = np.linspace(0, 2 * np.pi, 181)
    _add_line(figure, 2 * np.cos(turn), np.sin(turn), "#b8c1ca")
    note = {"showarrow": False, "font": {"size": 11, "color": MUTED}}
    corners = (("rot \N{MINUS SIGN}180°", -1.8, -0.8, "top"), ("rot 180°", 1.8, -0.8, "top"))
    for text, at_x, at_y, anchor in (("tilt 0°", 0, 1.02, "bottom"), ("tilt 180°", 0, -1.02, "top"), *corners):
        figure.add_annotation(text=text, x=at_x, y=at_y, yanchor=anchor, **note)
    hidden = {"visible": False, "fixedrange": True}
    figure.layout = page_layout(
        margin={"l": 2, "r": 2, "t": 2, "b": 2},
        showlegend=False,
        annotations=figure.layout.annotations,
        xaxis=hidden | {"range": [-2.05, 2.05]},
        yaxis=hidden | {"range": [-1.2, 1.2], "scaleanchor": "x"},
    )
    return figure


def _add_line(figure: go.Figure, x: NDArray[np.float64], y: NDArray[np.float64], colour: str) -> None:
    figure.add_scatter(x=x.round(4), y=y.round(4), mode="lines", line={"color": colour, "width": 1}, hoverinfo="skip")
