"""Pose and shift priors from standard variates, held against closed forms and against scipy's rotations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.physics.priors import poses_from_normals, shifts_from_uniforms
from cryobench.physics.rotation import (
    euler_to_quaternion,
    multiply_quaternions,
    quaternion_to_matrix,
    rotation_to_relion,
)

COUNT = 20_000
POLE = [2.0, -1.0, 2.0]  # of length 3
PRIORS = {
    "uniform": {"kind": "uniform"},
    "euler-gaussian": {"kind": "euler-gaussian", "deviations": [1.4, 1.4, 1.0]},
    "mixture": {
        "kind": "mixture",
        "components": [
            {"kind": "uniform", "weight": 0.25},
            {"kind": "von-mises-fisher", "direction": POLE, "kappa": 20.0, "weight": 0.5},
            {"kind": "belt", "axis": [0.0, 0.0, 1.0], "width": 0.3, "weight": 0.25},
        ],
    },
    "empirical": {
        "kind": "empirical",
        "jitter": 0.05,
        "quaternions": Rotation.random(7, rng=np.random.default_rng(0)).as_quat(),
    },
}


def uniforms() -> torch.Tensor:
    return torch.rand(COUNT, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def normals(count: int = COUNT, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def views(prior: dict[str, object]) -> np.ndarray:
    """Directions of the beam in the specimen, ``R^T z``."""
    return quaternion_to_matrix(poses_from_normals(prior, normals()))[:, 2].numpy()


def in_plane(prior: dict[str, object]) -> np.ndarray:
    poses = Rotation.from_quat(poses_from_normals(prior, normals()).numpy())
    return np.deg2rad(rotation_to_relion(poses)[:, 2]) % (2 * np.pi)


def mixture(kind: str, **settings: object) -> dict[str, object]:
    return {"kind": "mixture", "components": [{"kind": kind, "weight": 1.0, **settings}]}


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


def test_gaussian_shifts_are_gaussian_and_finite_at_the_ends() -> None:
    shifts = shifts_from_uniforms({"kind": "gaussian", "sigma": 3.0}, uniforms())
    for axis in range(2):
        assert stats.kstest(shifts[:, axis].numpy() / 3, "norm").pvalue > 0.001
    assert abs(float(torch.corrcoef(shifts.T)[0, 1])) < 5 / math.sqrt(COUNT)
    for dtype in (torch.float32, torch.float64):
        ends = torch.tensor([[0.0, 1.0, 0.0, 0.0]], dtype=dtype)
        assert shifts_from_uniforms({"kind": "gaussian", "sigma": 3.0}, ends).isfinite().all()


def test_no_shift_is_zero_in_the_dtype_of_the_variates() -> None:
    shifts = shifts_from_uniforms({"kind": "none"}, uniforms().float())
    assert torch.equal(shifts, torch.zeros(COUNT, 2))


def test_uniform_poses_are_normalised_variates() -> None:
    drawn = normals(50)
    poses = poses_from_normals({"kind": "uniform"}, drawn)
    assert torch.allclose(poses.norm(dim=1), torch.ones(50, dtype=torch.float64))
    assert torch.allclose(poses * drawn.norm(dim=1, keepdim=True), drawn)


def test_quaternion_product_and_euler_angles_are_scipys() -> None:
    angles = normals(30)[:, :3] * 2
    ours = euler_to_quaternion(*angles.T)
    theirs = Rotation.from_euler("ZYZ", angles.numpy()).inv()
    np.testing.assert_allclose(quaternion_to_matrix(ours).numpy(), theirs.as_matrix(), atol=1e-14)
    product = Rotation.from_quat(multiply_quaternions(ours[:15], ours[15:]).numpy())
    np.testing.assert_allclose(product.as_matrix(), (theirs[:15] * theirs[15:]).as_matrix(), atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", PRIORS)
def test_every_prior_gives_unit_quaternions_where_its_variates_are(
    kind: str, dtype: torch.dtype, device: torch.device
) -> None:
    drawn = normals(500, dtype).to(device)
    drawn[0], drawn[1] = 9.0, -9.0  # where a normal's distribution function rounds to one and to nothing
    poses = poses_from_normals(PRIORS[kind], drawn)
    assert (poses.shape, poses.dtype, poses.device) == ((500, 4), dtype, drawn.device)
    assert float((poses.norm(dim=1) - 1).abs().max()) < 1e-6
    # row by row: what is drawn for one particle does not depend on the others
    torch.testing.assert_close(poses_from_normals(PRIORS[kind], drawn[7:9]), poses[7:9], rtol=0, atol=0)
    if dtype is torch.float32:
        exact = quaternion_to_matrix(poses_from_normals(PRIORS[kind], drawn.cpu().double()))
        worst = (quaternion_to_matrix(poses).cpu().double() - exact).abs().amax((1, 2))
        assert float(worst.quantile(0.99)) < 1e-4


def test_euler_gaussian_is_scipys_rotation_of_gaussian_angles() -> None:
    deviations = np.array([math.sqrt(3), math.sqrt(2), 1.0])
    ours = quaternion_to_matrix(poses_from_normals({"kind": "euler-gaussian", "deviations": deviations}, normals()))
    angles = np.random.default_rng(5).standard_normal((COUNT, 3)) * deviations
    theirs = Rotation.from_euler("ZYZ", angles).inv().as_matrix()
    # first and second moments of the matrices of two independent samples, and E cos(angle) = exp(-variance / 2)
    noise = 5 * math.sqrt(2 / COUNT)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=noise)
    np.testing.assert_allclose(ours.square().mean(0), (theirs**2).mean(0), atol=noise)
    assert float(ours[:, 2, 2].mean()) == pytest.approx(math.exp(-1), abs=noise)
    # E sin(tilt) cos(rot) is nothing, E (sin(tilt) cos(rot))^2 the product of (1 -+ exp(-2 variance)) / 2
    assert float(ours[:, 2, 0].mean()) == pytest.approx(0, abs=noise)
    square = (1 - math.exp(-4)) * (1 + math.exp(-6)) / 4
    assert float(ours[:, 2, 0].square().mean()) == pytest.approx(square, abs=noise)


@pytest.mark.parametrize("kappa", [0.5, 10.0, 1000.0])
def test_von_mises_fisher_views_have_their_mean_and_distribution(kappa: float) -> None:
    """Mean resultant length ``coth k - 1/k``; ``P(cos < c) = (e^(k c) - e^-k) / (e^k - e^-k)``; azimuth uniform."""
    drawn = views(mixture("von-mises-fisher", direction=POLE, kappa=kappa))
    pole = np.array(POLE) / 3
    length = 1 / math.tanh(kappa) - 1 / kappa
    np.testing.assert_allclose(drawn.mean(0), length * pole, atol=5 * math.sqrt((1 - length**2) / COUNT))
    cosine = drawn @ pole
    expected = 1 - np.expm1(-kappa * (1 - cosine)) / np.expm1(-2 * kappa)
    assert stats.kstest(expected, "uniform").pvalue > 0.001
    across = np.cross(pole, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across)
    azimuth = np.arctan2(drawn @ across, drawn @ np.cross(pole, across))
    assert stats.kstest(azimuth, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 0.001


def test_a_belt_is_uniform_over_its_band_and_nowhere_else() -> None:
    drawn = views(mixture("belt", axis=POLE, width=0.4)) @ (np.array(POLE) / 3)
    edge = math.sin(0.2)
    assert np.abs(drawn).max() <= edge + 1e-12
    assert stats.kstest(drawn, stats.uniform(-edge, 2 * edge).cdf).pvalue > 0.001


@pytest.mark.parametrize("kind", ["uniform", "von-mises-fisher", "belt"])
def test_the_in_plane_angle_of_a_component_is_uniform(kind: str) -> None:
    settings = {"direction": POLE, "kappa": 5.0, "axis": POLE, "width": 0.4}
    angle = in_plane(mixture(kind, **settings))
    assert stats.kstest(angle, stats.uniform(0, 2 * np.pi).cdf).pvalue > 0.001


def test_a_mixture_of_uniform_is_uniform_and_weights_are_shares() -> None:
    matrices = quaternion_to_matrix(poses_from_normals(mixture("uniform"), normals()))
    assert matrices.mean(0).abs().max() < 5 / math.sqrt(3 * COUNT)
    assert (matrices.var(0) - 1 / 3).abs().max() < 0.015
    near = views(PRIORS["mixture"]) @ (np.array(POLE) / 3) > 0.8
    # the uniform part has 10 % of its views there, the belt none, and of kappa 20 all but e^-4
    assert near.mean() == pytest.approx(0.25 * 0.1 + 0.5 * (1 - math.exp(-4)), abs=5 * 0.5 / math.sqrt(COUNT))


def test_an_empirical_prior_draws_every_pose_alike_and_jitters_it() -> None:
    prior = PRIORS["empirical"]
    table = Rotation.from_quat(np.asarray(prior["quaternions"]))
    exact = Rotation.from_quat(poses_from_normals(prior | {"jitter": 0.0}, normals()).numpy())
    distance = np.stack([(exact * pose.inv()).magnitude() for pose in table])
    assert distance.min(0).max() < 1e-7
    share = np.bincount(distance.argmin(0), minlength=7) / COUNT
    np.testing.assert_allclose(share, 1 / 7, atol=5 * math.sqrt(6 / 49 / COUNT))
    jittered = Rotation.from_quat(poses_from_normals(prior, normals()).numpy())
    vector = (jittered * exact.inv()).as_rotvec()
    np.testing.assert_allclose(vector.std(0), 0.05, rtol=0.03)
    assert np.abs(np.corrcoef(vector.T) - np.eye(3)).max() < 5 / math.sqrt(COUNT)


def test_unknown_priors_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected a shift prior of kind .* got 'square'"):
        shifts_from_uniforms({"kind": "square"}, uniforms())
    with pytest.raises(InputError, match=r"expected a pose prior of kind .* got None"):
        poses_from_normals({}, uniforms())
    with pytest.raises(InputError, match=r"expected a component of kind .* got 'cap'"):
        poses_from_normals(mixture("cap"), normals(5))
