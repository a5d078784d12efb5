"""Pose and shift priors as maps from standard variates, so that dataset draws and methods share one definition.

A prior is a plain mapping, as stores carry it: ``{"kind": "uniform"}``, ``{"kind": "none"}`` or
``{"kind": "triangular", "half_width": 7.0}`` (angstrom).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.types import Quaternions, Shifts

POSE_KINDS: Final = ("uniform",)
SHIFT_KINDS: Final = ("none", "triangular")


def poses_from_normals(prior: Mapping[str, Any], normals: Tensor) -> Quaternions:
    """Quaternions ``(batch, 4)`` of a pose prior from standard normals ``(batch, 4)``."""
    if prior.get("kind") != "uniform":
        raise InputError(f"expected a pose prior of kind {POSE_KINDS}, got {prior.get('kind')!r}")
    return normals / normals.norm(dim=-1, keepdim=True)


def shifts_from_uniforms(prior: Mapping[str, Any], uniforms: Tensor) -> Shifts:
    """Shifts ``(batch, 2)`` in angstrom of a shift prior from uniforms on [0, 1) ``(batch, 4)``.

    The triangular density on ``[-w, w]`` per axis is that of the sum of two uniforms, as in the CryoGAN study.
    """
    match prior.get("kind"):
        case "none":
            return torch.zeros_like(uniforms[:, :2])
        case "triangular":
            return prior["half_width"] * (uniforms[:, :2] + uniforms[:, 2:] - 1)
        case other:
            raise InputError(f"expected a shift prior of kind {SHIFT_KINDS}, got {other!r}")
