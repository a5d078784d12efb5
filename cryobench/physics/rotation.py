"""Rotations as unit quaternions (scalar last) and matrices; conversions to the Euler angles of other programs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from cryobench.types import Quaternions, Rotations, Scalars


def quaternion_to_matrix(quaternions: Quaternions) -> Rotations:
    """Rotation matrices (acting on x, y, z columns) of quaternions ``(x, y, z, w)``, which need not be normalised."""
    x, y, z, w = torch.unbind(quaternions / quaternions.norm(dim=-1, keepdim=True), -1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def uniform_quaternions(count: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Quaternions:
    """``count`` quaternions uniform on SO(3): normalised four-dimensional Gaussians (Shoemake 1992)."""
    draws = torch.randn(count, 4, generator=generator, device=generator.device, dtype=dtype)
    return draws / draws.norm(dim=-1, keepdim=True)


def spread_quaternions(count: int) -> NDArray[np.float64]:
    """``count`` quaternions spread evenly over SO(3): super-Fibonacci spirals (Alexa, CVPR 2022). Shape ``(count, 4)``."""
    phi, psi = np.sqrt(2.0), 1.533751168755204288118041
    s = np.arange(count) + 0.5
    r, big_r = np.sqrt(s / count), np.sqrt(1 - s / count)
    alpha, beta = 2 * np.pi * s / phi, 2 * np.pi * s / psi
    return np.stack([r * np.sin(alpha), r * np.cos(alpha), big_r * np.sin(beta), big_r * np.cos(beta)], -1)


def euler_to_quaternion(rot: Scalars, tilt: Scalars, psi: Scalars) -> Quaternions:
    """Quaternions of our pose ``R = A(rot, tilt, psi)`` from RELION's ZYZ angles in radians, ``(batch,)`` each.

    ``R = Rz(-psi) Ry(-tilt) Rz(-rot)``; the view direction ``R^T z`` has azimuth ``rot`` and polar angle ``tilt``.
    """
    plus, minus, half = (rot + psi) / 2, (rot - psi) / 2, tilt / 2
    return torch.stack(
        [half.sin() * minus.sin(), -half.sin() * minus.cos(), -half.cos() * plus.sin(), half.cos() * plus.cos()], -1
    )


def multiply_quaternions(a: Quaternions, b: Quaternions) -> Quaternions:
    """The rotation ``b`` and then ``a``: the product whose matrix is that of ``a`` times that of ``b``."""
    x, y, z, w = torch.unbind(a, -1)
    p, q, r, s = torch.unbind(b, -1)
    return torch.stack(
        [
            w * p + x * s + y * r - z * q,
            w * q - x * r + y * s + z * p,
            w * r + x * q - y * p + z * s,
            w * s - x * p - y * q - z * r,
        ],
        -1,
    )


def angle_between(a: Rotations, b: Rotations) -> Scalars:
    """Geodesic distance of rotation matrices in radians, exact for small angles: ``2 asin(|a - b|_F / sqrt(8))``."""
    return 2 * torch.asin(((a - b).square().sum((-2, -1)) / 8).sqrt().clamp(max=1))


def rotation_from_relion(angles: ArrayLike) -> Rotation:
    """RELION's (rot, tilt, psi) in degrees to our pose: the transpose of scipy's intrinsic ZYZ rotation."""
    return Rotation.from_euler("ZYZ", np.asarray(angles, dtype=np.float64), degrees=True).inv()


def rotation_to_relion(rotation: Rotation) -> NDArray[np.float64]:
    """Our pose to RELION's (rot, tilt, psi) in degrees."""
    return rotation.inv().as_euler("ZYZ", degrees=True, suppress_warnings=True)


def rotation_from_cryosparc(pose: ArrayLike) -> Rotation:
    """cryoSPARC's axis-angle pose (radians) to ours: ``expm(pose)`` transposed."""
    return Rotation.from_rotvec(np.asarray(pose, dtype=np.float64)).inv()


def rotation_to_cryosparc(rotation: Rotation) -> NDArray[np.float64]:
    """Our pose to cryoSPARC's axis-angle pose in radians."""
    return rotation.inv().as_rotvec()


def matrix_to_quaternion(rotations: Rotations) -> Quaternions:
    """Unit quaternions, scalar last and not negative, of rotation matrices; computed on the CPU by scipy."""
    flat = rotations.detach().reshape(-1, 3, 3).cpu().double().numpy()
    quaternions = Rotation.from_matrix(flat).as_quat(canonical=True)
    return torch.as_tensor(quaternions).to(rotations).reshape(*rotations.shape[:-2], 4)
