"""Where particles are seen from: densities of view directions on an equal-area map of the sphere; errors of poses found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
import torch
import xarray as xr
from numpy.typing import NDArray

from cryobench.conventions import HALVES
from cryobench.dataset.priors import join_pose_prior
from cryobench.physics.pose_distance import draw_prior, pose_distance
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.report.document import Drawing
from cryobench.report.figures import HALF_COLOURS, MUTED, page_axis, page_layout
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


def draw_views(
    observed: xr.Dataset, truth: xr.Dataset | None, halves: Mapping[int, xr.Dataset], alignment: Mapping[str, Any]
) -> Iterator[Drawing]:
    """Maps of the particles' poses where they are known, of those that the method found, and of the prior assumed.

    Args:
        observed: of the run.
        truth: of the run, if there is one.
        halves: predicted, with ``rotation`` where the method returned poses.
        alignment: of ``result.json``: the poses found are turned into the frame of the truth, or of half 1.
    """
    assumed = join_pose_prior(observed)
    prior = f"the prior that the method was told to assume ({assumed['kind']})"
    poses = {prior: draw_prior(assumed, MOST_POSES, 0)}
    captions = {prior: prior.capitalize()}
    estimated = [turn_poses(half, number, alignment) for number, half in halves.items() if "rotation" in half]
    if estimated:
        name = "poses that the method found"
        poses = {name: _thin(torch.cat(estimated))} | poses
        captions[name] = f"{name.capitalize()}, in the frame of {'half 1' if truth is None else 'the truth'}"
    known = observed.get("given_rotation") if truth is None else truth["rotation"]
    if known is not None:
        name = "poses that the imported file states" if truth is None else "true poses of the particles"
        own = _thin(quaternion_to_matrix(torch.as_tensor(known.values)))
        every = torch.linspace(0, len(own) - 1, min(len(own), COMPARED)).round().long()
        symmetry = str(observed.attrs["symmetry"])
        distance = pose_distance(own[every], poses[prior][: len(every)], symmetry)
        captions[prior] += f". Distance from the {name}, modulo {symmetry}: {distance}"
        poses = {name: own} | poses
        captions[name] = name.capitalize()
    kappa = smoothing(min(map(len, poses.values())))
    densities = {name: view_density(rotations, kappa) for name, rotations in poses.items()}
    rot, tilt = np.degrees(_grid())
    for number, (name, figure) in enumerate(view_figures(densities).items()):
        inside = np.isfinite(rot)
        columns = {
            "rot (degrees)": rot[inside].round(3).tolist(),
            "tilt (degrees)": tilt[inside].round(3).tolist(),
            "density (of uniform)": densities[name][inside].tolist(),
        }
        title = f"View directions: {name}"
        yield Drawing(f"views-{number}", title, figure, "aspect-ratio: 1.9", captions[name], "views", False, columns)


def _thin(rotations: Rotations) -> Rotations:
    return rotations[torch.linspace(0, len(rotations) - 1, min(len(rotations), MOST_POSES)).round().long()]


def turn_poses(half: xr.Dataset, number: int, alignment: Mapping[str, Any]) -> Rotations:
    """Poses of a half turned as its map is to be compared: ``R Q^T``, or ``M R M Q^T`` if mirrored, ``M = diag(1, 1, -1)``.

    Args:
        half: with ``rotation (particle, quaternion)``.
        number: of the half.
        alignment: of ``result.json``; into the frame of the truth, or of half 1 where there is none.
    """
    rotations = quaternion_to_matrix(torch.as_tensor(half["rotation"].values.astype(np.float64)))
    found = alignment.get(f"half{number}_to_truth") or (alignment["half2_to_half1"] if number == 2 else None)
    if found is None:
        return rotations
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0 if found["mirrored"] else 1.0], dtype=rotations.dtype))
    turned = quaternion_to_matrix(torch.tensor(found["quaternion"], dtype=rotations.dtype)).T
    return mirror @ rotations @ mirror @ turned


def draw_pose_errors(poses: Mapping[str, Any] | None) -> Iterator[Drawing]:
    """Share of the particles whose pose, or shift, is off by at most so much; from the percentiles of ``result.json``."""
    for key, name, axis in (
        ("rotation_degrees", "pose-errors", "rotation error (degrees)"),
        ("shift", "shift-errors", "shift error (Å)"),
    ):
        found = {half: ((poses or {}).get(f"half{half}") or {}).get(key) or {} for half in HALVES}
        curves = {half: spread["percentiles"] for half, spread in found.items() if spread.get("percentiles")}
        if not curves:
            continue
        figure = go.Figure()
        columns: dict[str, list[float]] = {}
        for half, values in curves.items():
            share = np.linspace(0, 100, len(values)).tolist()
            line = {"color": HALF_COLOURS[half], "width": 2}
            said = "%{y:.0f} % within %{x:.3g}"
            figure.add_scatter(x=values, y=share, name=f"half {half}", mode="lines", line=line, hovertemplate=said)
            columns |= {"share of particles (%)": share, f"half {half}, {axis}": list(values)}
        figure.layout = page_layout(
            margin={"l": 8, "r": 12, "t": 6, "b": 8},
            showlegend=False,
            xaxis=page_axis(axis, rangemode="tozero"),
            yaxis=page_axis("% of particles", range=[0, 101], dtick=25),
        )
        title = axis.split(" (")[0].capitalize()
        yield Drawing(name, title, figure, "height: 18rem", title, "pose-errors", False, columns)


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
    views = _thin(rotations)[:, 2].float()
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
    corners = (("rot \N{MINUS SIGN}180°", -1.75, -0.85, "top"), ("rot 180°", 1.75, -0.85, "top"))
    for text, at_x, at_y, anchor in (("tilt 0°", 0, 1.02, "bottom"), ("tilt 180°", 0, -1.02, "top"), *corners):
        figure.add_annotation(text=text, x=at_x, y=at_y, yanchor=anchor, **note)
    hidden = {"visible": False, "fixedrange": True}
    figure.layout = page_layout(
        margin={"l": 2, "r": 2, "t": 2, "b": 2},
        showlegend=False,
        annotations=figure.layout.annotations,
        xaxis=hidden | {"range": [-2.15, 2.15]},
        yaxis=hidden | {"range": [-1.2, 1.2], "scaleanchor": "x"},
    )
    return figure


def _add_line(figure: go.Figure, x: NDArray[np.float64], y: NDArray[np.float64], colour: str) -> None:
    figure.add_scatter(x=x.round(4), y=y.round(4), mode="lines", line={"color": colour, "width": 1}, hoverinfo="skip")
