"""Pose and shift priors as maps from standard variates, so that dataset draws and methods share one definition.

A prior is a plain mapping, as stores carry it, with angles in radians and lengths in angstrom. Poses:

- ``{"kind": "uniform"}`` on SO(3);
- ``{"kind": "euler-gaussian", "deviations": [rot, tilt, psi]}``: RELION's ZYZ angles of our pose, independent Gaussians of
  zero mean;
- ``{"kind": "mixture", "components": [...]}``: each with a ``weight`` (they sum to 1), the in-plane angle uniform, and one of
  ``{"kind": "uniform"}``, ``{"kind": "von-mises-fisher", "direction": [x, y, z], "kappa": k}`` (views around a direction) and
  ``{"kind": "belt", "axis": [x, y, z], "width": w}`` (views uniform over the band of that full width around the great circle
  perpendicular to the axis);
- ``{"kind": "empirical", "jitter": s, "quaternions": table (pose, 4)}``: a row of the table, turned by a random rotation whose
  vector has the standard deviation ``s`` on each axis.

A view direction is where the beam's axis lies in the specimen, ``R^T z``: azimuth rot and polar angle tilt.

Shifts: ``{"kind": "none"}``, ``{"kind": "triangular", "half_width": w}`` and ``{"kind": "gaussian", "sigma": s}``, on each axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.rotation import euler_to_quaternion, multiply_quaternions
from cryobench.types import Quaternions, Scalars, Shifts

POSE_KINDS: Final = ("uniform", "euler-gaussian", "mixture", "empirical")
COMPONENT_KINDS: Final = ("uniform", "von-mises-fisher", "belt")
SHIFT_KINDS: Final = ("none", "triangular", "gaussian")


def poses_from_normals(prior: Mapping[str, Any], normals: Tensor) -> Quaternions:
    """Unit quaternions ``(batch, 4)`` of a pose prior from standard normals ``(batch, 4)``, in their dtype, on their device."""
    match prior.get("kind"):
        case "uniform":
            poses = normals
        case "euler-gaussian":
            poses = euler_to_quaternion(*(s * normals[:, i] for i, s in enumerate(prior["deviations"])))
        case "mixture":
            poses = _mixed(prior["components"], torch.special.ndtr(normals))
        case "empirical":
            poses = _from_table(prior, normals)
        case other:
            raise InputError(f"expected a pose prior of kind {POSE_KINDS}, got {other!r}")
    return poses / poses.norm(dim=-1, keepdim=True)


def _mixed(components: Sequence[Mapping[str, Any]], uniforms: Tensor) -> Quaternions:
    """Of the four uniforms, the first chooses the component, the others are polar angle, azimuth and in-plane angle."""
    bounds = uniforms.new_tensor([c["weight"] for c in components]).cumsum(0)
    chosen = torch.searchsorted(bounds, uniforms[:, 0].contiguous(), right=True).clamp(max=len(components) - 1)
    azimuth, psi = (2 * math.pi * uniforms[:, i] for i in (2, 3))
    poses = torch.empty_like(uniforms)
    for number, component in enumerate(components):
        rows = chosen == number
        tilt = _polar_angle(component, uniforms[rows, 1])
        local = euler_to_quaternion(azimuth[rows], tilt, psi[rows])
        pole = component.get("direction", component.get("axis", (0.0, 0.0, 1.0)))
        # R = (R around z) (turn z to the pole)^T: its view is the local view turned to the pole
        poses[rows] = multiply_quaternions(local, _pole_to_z(pole, local).expand_as(local))
    return poses


def _polar_angle(component: Mapping[str, Any], uniform: Scalars) -> Scalars:
    """Angle between view and pole, by the inverse of its distribution function; from ``1 - cos``, exact near the pole."""
    match component.get("kind"):
        case "uniform":
            versine = 2 * uniform
        case "von-mises-fisher":
            # cos has the density kappa exp(kappa cos) / (2 sinh kappa) on the sphere (Ulrich 1984)
            kappa = component["kappa"]
            versine = -torch.log1p(uniform * math.expm1(-2 * kappa)) / kappa
        case "belt":
            versine = 1 - (2 * uniform - 1) * math.sin(component["width"] / 2)
        case other:
            raise InputError(f"expected a component of kind {COMPONENT_KINDS}, got {other!r}")
    return 2 * torch.asin((versine / 2).clamp(0, 1).sqrt())


def _pole_to_z(pole: Sequence[float], like: Tensor) -> Quaternions:
    """A rotation that takes a direction to z, as a quaternion ``(4,)``."""
    x, y, z = pole
    azimuth, polar = math.atan2(y, x), math.atan2(math.hypot(x, y), z)
    return euler_to_quaternion(like.new_tensor(azimuth), like.new_tensor(polar), like.new_tensor(0.0))


def _from_table(prior: Mapping[str, Any], normals: Tensor) -> Quaternions:
    table = torch.as_tensor(prior["quaternions"])
    row = (torch.special.ndtr(normals[:, 0]) * len(table)).long().clamp(max=len(table) - 1)
    poses = table[row.to(table.device)].to(normals)
    vector = prior["jitter"] * normals[:, 1:]
    angle = vector.norm(dim=-1, keepdim=True)
    turn = torch.cat([vector * torch.sinc(angle / (2 * math.pi)) / 2, (angle / 2).cos()], -1)
    return multiply_quaternions(turn, poses)


def shifts_from_uniforms(prior: Mapping[str, Any], uniforms: Tensor) -> Shifts:
    """Shifts ``(batch, 2)`` in angstrom of a shift prior from uniforms on [0, 1) ``(batch, 4)``.

    The triangular density on ``[-w, w]`` per axis is that of the sum of two uniforms, as in the CryoGAN study.
    """
    match prior.get("kind"):
        case "none":
            return torch.zeros_like(uniforms[:, :2])
        case "triangular":
            return prior["half_width"] * (uniforms[:, :2] + uniforms[:, 2:] - 1)
        case "gaussian":
            smallest = torch.finfo(uniforms.dtype).eps  # a uniform may be exactly zero, a shift is finite
            return prior["sigma"] * torch.special.ndtri(uniforms[:, :2].clamp(smallest, 1 - smallest))
        case other:
            raise InputError(f"expected a shift prior of kind {SHIFT_KINDS}, got {other!r}")
