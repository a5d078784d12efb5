"""Pose and shift priors from standard variates."""

from __future__ import annotations

import math

import pytest
import torch

from cryobench.errors import InputError
from cryobench.physics.priors import poses_from_normals, shifts_from_uniforms

COUNT = 20_000


def uniforms() -> torch.Tensor:
    return torch.rand(COUNT, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_triangular_shifts_have_the_bounds_and_moments_of_their_density() -> None:
    """``p(t) = (1 - |t| / w) / w`` on ``[-w, w]``: mean 0, variance ``w^2 / 6``, ``E|t| = w / 3``, axes independent."""
    width = 7.0
    shifts = shifts_from_uniforms({"kind": "triangular", "half_width": width}, uniforms())
    assert shifts.shape == (COUNT, 2)
    assert shifts.abs().max() <= width
    assert shifts.abs().max() > 0.97 * width
    spread = width / math.sqrt(6)
    assert shifts.mean(0).abs().max() < 5 * spread / math.sqrt(COUNT)
    assert shifts.var(0).tolist() == pytest.approx([width**2 / 6] * 2, rel=0.04)
    assert shifts.abs().mean(0).tolist() == pytest.approx([width / 3] * 2, rel=0.04)
    assert abs((shifts[:, 0] * shifts[:, 1]).mean()) < 5 * spread**2 / math.sqrt(COUNT)
    # the distribution itself: F(t) = (1 + t / w)^2 / 2 below zero
    for t in (-0.75, -0.5, -0.25, 0.0):
        assert (shifts < t * width).double().mean().item() == pytest.approx((1 + t) ** 2 / 2, abs=0.02)


def test_no_shift_is_zero_in_the_dtype_of_the_variates() -> None:
    shifts = shifts_from_uniforms({"kind": "none"}, uniforms().float())
    assert torch.equal(shifts, torch.zeros(COUNT, 2))


def test_uniform_poses_are_normalised_variates() -> None:
    normals = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    poses = poses_from_normals({"kind": "uniform"}, normals)
    assert torch.allclose(poses.norm(dim=1), torch.ones(50, dtype=torch.float64))
    assert torch.allclose(poses * normals.norm(dim=1, keepdim=True), normals)


def test_unknown_priors_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected a shift prior of kind .* got 'gaussian'"):
        shifts_from_uniforms({"kind": "gaussian"}, uniforms())
    with pytest.raises(InputError, match=r"expected a pose prior of kind .* got None"):
        poses_from_normals({}, uniforms())
