"""Rotations against scipy, and the angles of RELION and cryoSPARC."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import starfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryobench.physics.rotation import (
    angle_between,
    matrix_to_quaternion,
    quaternion_to_matrix,
    rotation_from_cryosparc,
    rotation_from_relion,
    rotation_to_cryosparc,
    rotation_to_relion,
    spread_quaternions,
    uniform_quaternions,
)

SEEDS = st.integers(0, 2**32 - 1)


def quaternions(count: int, seed: int) -> Tensor:
    return uniform_quaternions(count, torch.Generator().manual_seed(seed), torch.float64)


@given(seed=SEEDS, scale=st.floats(0.01, 100))
def test_matrices_are_those_of_scipy(seed: int, scale: float) -> None:
    q = quaternions(6, seed)
    expected = torch.as_tensor(Rotation.from_quat(q.numpy()).as_matrix())
    assert torch.allclose(quaternion_to_matrix(scale * q), expected, rtol=0, atol=1e-12)
    assert torch.allclose(quaternion_to_matrix(q.reshape(2, 3, 4)), expected.reshape(2, 3, 3, 3), rtol=0, atol=1e-12)
    assert quaternion_to_matrix(q.float()).dtype == torch.float32


@given(seed=SEEDS)
def test_quaternions_come_back_from_matrices(seed: int) -> None:
    q = quaternions(6, seed).reshape(2, 3, 4)
    back = matrix_to_quaternion(quaternion_to_matrix(q))
    assert (back[..., 3] >= 0).all()
    assert torch.allclose(back, q * q[..., 3:].sign(), rtol=0, atol=1e-12)


def test_uniform_quaternions_have_the_moments_of_the_uniform_measure() -> None:
    """Unit, of mean zero and ``E[q q^T] = 1/4``; matrices of mean zero; angles of density ``(1 - cos a) / pi``."""
    count = 20_000
    q = quaternions(count, 0)
    assert torch.allclose(q.norm(dim=-1), torch.ones(count, dtype=torch.float64))
    assert q.mean(0).abs().max() < 5 * 0.5 / math.sqrt(count)
    assert (q.T @ q / count - torch.eye(4) / 4).abs().max() < 5 * 0.25 / math.sqrt(count)
    assert quaternion_to_matrix(q).mean(0).abs().max() < 5 * math.sqrt(1 / 3 / count)
    angles = angle_between(quaternion_to_matrix(q), torch.eye(3, dtype=torch.float64).expand(count, 3, 3))
    assert angles.mean().item() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=5 * 0.65 / math.sqrt(count))
    again = uniform_quaternions(5, torch.Generator().manual_seed(3))
    assert torch.equal(again, uniform_quaternions(5, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("count", [100, 1000, 5000])
def test_spread_quaternions_cover_the_rotations(count: int) -> None:
    """No rotation is far from the set, and no two of the set are close, in units of an even spacing.

    An even spacing ``d`` has ``count`` balls of radius ``d / 2`` fill SO(3), of volume ``8 pi^2``: ``d = (48 pi / count)^(1/3)``
    to leading order (a ball of rotation angle ``a`` has volume ``4 pi a^3 / 3``).
    """
    q = spread_quaternions(count)
    assert q.shape == (count, 4)
    assert np.allclose(np.linalg.norm(q, axis=1), 1)
    spacing = (48 * math.pi / count) ** (1 / 3)
    tree = cKDTree(np.concatenate([q, -q]))
    probes = quaternions(4000, 1).numpy()
    gap = 4 * np.arcsin(tree.query(probes)[0] / 2).max()
    nearest = 4 * np.arcsin(tree.query(q, k=2)[0][:, 1] / 2)
    assert gap <= 1.3 * spacing
    assert nearest.max() <= 1.3 * spacing
    assert nearest.min() >= 0.3 * spacing
    assert np.abs(Rotation.from_quat(q).as_matrix().mean(0)).max() < 2 / count**0.5


@given(seed=SEEDS, exponent=st.floats(-8, 0.4))
def test_angles_are_those_of_scipy_down_to_the_smallest(seed: int, exponent: float) -> None:
    angle = 10**exponent
    axis = quaternions(4, seed)[:, :3]
    step = Rotation.from_rotvec((angle * axis / axis.norm(dim=1, keepdim=True)).numpy())
    start = Rotation.from_quat(quaternions(4, seed + 1).numpy())
    a, b = (torch.as_tensor(r.as_matrix()) for r in (start, start * step))
    assert angle_between(a, b).numpy() == pytest.approx((start.inv() * (start * step)).magnitude(), rel=1e-6, abs=1e-14)
    assert angle_between(a, b).numpy() == pytest.approx(angle, rel=1e-6)
    assert torch.equal(angle_between(a, a), torch.zeros(4, dtype=torch.float64))


@given(seed=SEEDS)
def test_angles_are_bi_invariant(seed: int) -> None:
    a, b, c = quaternion_to_matrix(quaternions(3, seed))
    assert angle_between(c @ a, c @ b).item() == pytest.approx(angle_between(a, b).item(), abs=1e-7)
    assert angle_between(a @ c, b @ c).item() == pytest.approx(angle_between(a, b).item(), abs=1e-7)
    assert angle_between(a, b).item() <= math.pi


@given(seed=SEEDS)
def test_relion_and_cryosparc_angles_round_trip(seed: int) -> None:
    ours = Rotation.from_quat(quaternions(5, seed).numpy())
    for there, back in ((rotation_to_relion, rotation_from_relion), (rotation_to_cryosparc, rotation_from_cryosparc)):
        assert there(ours).shape == (5, 3)
        assert (back(there(ours)).inv() * ours).magnitude().max() < 1e-10
        assert np.allclose(there(back(there(ours))), there(ours))


def test_relion_angles_are_its_euler_matrix() -> None:
    """``A = Rz(psi) Ry(tilt) Rz(rot)`` with rows as RELION writes them out (its ``Euler_angles2matrix``)."""
    rot, tilt, psi = np.radians([30.0, 50.0, 70.0])
    ca, cb, cg, sa, sb, sg = *np.cos([rot, tilt, psi]), *np.sin([rot, tilt, psi])
    expected = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ]
    assert np.allclose(rotation_from_relion([30.0, 50.0, 70.0]).as_matrix(), expected)


@pytest.mark.parametrize("tilt", [0.0, 180.0])
def test_angles_at_the_poles_round_trip_without_a_warning(tilt: float) -> None:
    ours = rotation_from_relion([20.0, tilt, 30.0])
    assert (rotation_from_relion(rotation_to_relion(ours)).inv() * ours).magnitude() < 1e-7


def test_relion_poses_of_a_real_refinement(data_directory: Path) -> None:
    """As cryoDRGN converts them: its matrices take the projection's frame into the volume's, ours back."""
    table = starfile.read(data_directory / "metadata" / "PfCRT_5particles.star")
    oracle = np.load(data_directory / "oracles" / "cryodrgn_pose_from_PfCRT_star.npz")
    angles = table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    assert np.allclose(rotation_from_relion(angles).as_matrix(), oracle["rot"], atol=1e-6)


def test_cryosparc_poses_of_a_real_refinement(data_directory: Path) -> None:
    table = np.load(data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs")
    oracle = np.load(data_directory / "oracles" / "cryodrgn_pose_from_P12_J24_cs.npz")
    assert np.allclose(rotation_from_cryosparc(table["alignments3D/pose"]).as_matrix(), oracle["rot"], atol=1e-5)
