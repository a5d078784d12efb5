"""Coordinates and spatial frequencies of boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from cryobench.conventions import origin


def coordinates(n: int, like: Tensor) -> Tensor:
    """Positions of an axis's ``n`` voxels in voxels, zero at ``n // 2``. Shape ``(n,)``, device and dtype of ``like``."""
    return torch.arange(n, device=like.device, dtype=like.dtype) - origin(n)


def radius(box: int, dim: int, like: Tensor) -> Tensor:
    """Distance of every voxel of a cubic (``dim=3``) or square (``dim=2``) box to its origin, in voxels."""
    axis = coordinates(box, like)
    return sum((a**2 for a in torch.meshgrid(*[axis] * dim, indexing="ij")), torch.zeros_like(axis[:1])).sqrt()


def half_frequencies(box: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Integer frequencies ``(kx, ky)`` of a half-space spectrum, cycles per box; each of shape ``(box, box // 2 + 1)``."""
    ky = torch.fft.fftfreq(box, 1 / box, device=like.device, dtype=like.dtype)
    kx = torch.fft.rfftfreq(box, 1 / box, device=like.device, dtype=like.dtype)
    grid_y, grid_x = torch.meshgrid(ky, kx, indexing="ij")
    return grid_x, grid_y


def friedel_weights(box: int, like: Tensor) -> Tensor:
    """How many coefficients of the whole spectrum each of the half-space stands for: 2, or 1 where its partner is there."""
    kx, _ = half_frequencies(box, like)
    return torch.where((kx == 0) | (2 * kx == box), 1.0, 2.0).to(kx)


def half_shells(box: int, like: Tensor) -> Tensor:
    """Integer shell (rounded radius) of every coefficient of a half-space image spectrum."""
    kx, ky = half_frequencies(box, like)
    return (kx**2 + ky**2).sqrt().round().long()


def inside_nyquist(box: int, like: Tensor) -> Tensor:
    """Mask of half-space image frequencies strictly inside the Nyquist disc, where no coefficient lacks its partner."""
    kx, ky = half_frequencies(box, like)
    return kx**2 + ky**2 < (box / 2) ** 2


def soft_sphere(box: int, radius_in_voxels: float, edge_in_voxels: float, like: Tensor) -> Tensor:
    """Spherical mask ``(z, y, x)``: 1 inside, a raised-cosine edge outside ``radius_in_voxels``, then 0."""
    distance = radius(box, 3, like)
    t = ((distance - radius_in_voxels) / max(edge_in_voxels, 1e-6)).clamp(0, 1)
    return 0.5 * (1 + torch.cos(torch.pi * t))
