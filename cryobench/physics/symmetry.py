"""Point groups of rotations, and volumes made invariant under them."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from cryobench.conventions import origin
from cryobench.errors import InputError
from cryobench.physics.grids import coordinates
from cryobench.types import Rotations, Volume


@cache
def _group(name: str) -> Rotation:
    if not re.fullmatch(r"[CD][1-9][0-9]*|[TOI]", name):
        raise InputError(f"expected a point group Cn, Dn, T, O or I, got {name!r}; write it like 'C1' or 'D2'")
    return Rotation.create_group(name, axis="Z")  # type: ignore[arg-type]


def symmetry_rotations(name: str, dtype: torch.dtype = torch.float64) -> Rotations:
    """Rotation matrices ``(order, 3, 3)`` of a point group, main axis on z (scipy's ``create_group``)."""
    matrices = _group(name).as_matrix()
    rounded = np.round(matrices)
    exact = np.abs(matrices - rounded).max((1, 2), keepdims=True) < 1e-9
    return torch.as_tensor(np.where(exact, rounded, matrices), dtype=dtype)


def rotate_volume(volume: Volume, rotation: Rotations) -> Volume:
    """``(rotated)(R p) = volume(p)``: exact for rotations that map the grid onto itself (periodic box), trilinear else.

    A rotation that permutes axes only flips and transposes; at an even box voxel 0 stays where it is, as its mirror image
    ``n`` is the same voxel in a periodic box.
    """
    inverse = rotation.T.to(volume.dtype)
    permutation = inverse.round()  # looked at where the rotation is: a GPU that holds the volume is not waited for
    if torch.equal(permutation, inverse):
        return _permute_axes(volume, permutation)
    axis = coordinates(volume.shape[-1], volume)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], -1) @ inverse.T.to(volume)
    n = volume.shape[-1]
    grid = (points + origin(n)) * (2 / (n - 1)) - 1
    return torch.nn.functional.grid_sample(volume[None, None], grid[None], align_corners=True)[0, 0]


def _permute_axes(volume: Volume, inverse: Rotations) -> Volume:
    """``out[p] = volume[inverse p]`` for a signed permutation ``inverse`` in (x, y, z) order; axis a is array dim 2 - a."""
    n = volume.shape[-1]
    source = inverse.abs().argmax(-1).tolist()  # (inverse p)[i] = +- p[source[i]]
    for axis, sign in enumerate(inverse.sum(-1).tolist()):
        if sign < 0:
            volume = volume.flip(2 - axis)
            volume = volume.roll(1, 2 - axis) if n % 2 == 0 else volume
    return volume.permute([2 - source.index(axis) for axis in (2, 1, 0)])


def symmetrise(volume: Volume, name: str) -> Volume:
    """Mean of the volume over the rotations of group ``name``; differentiable. Exact for C1, C2, C4, D2, D4, T and O."""
    rotations = symmetry_rotations(name, volume.dtype)
    if len(rotations) == 1:
        return volume
    return torch.stack([rotate_volume(volume, r) for r in rotations]).mean(0)
