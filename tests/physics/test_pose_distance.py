"""The distance of pose distributions, held against closed forms and against plain sums over pairs."""

from __future__ import annotations

import math

import pytest
import torch

from cryobench.errors import InputError
from cryobench.physics.pose_distance import PoseDistance, draw_prior, pose_distance, prior_distance
from cryobench.physics.symmetry import symmetry_rotations

UNIFORM = {"kind": "uniform"}
MEAN_CHORD = 16 * math.sqrt(2) / (3 * math.pi)
"""``E|R - I|_F`` of uniform rotations: ``|R - I| = sqrt(8) sin(angle / 2)``, and angles have the density ``(1 - cos) / pi``."""


def single_view(kappa: float, direction: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> dict[str, object]:
    component = {"kind": "von-mises-fisher", "weight": 1.0, "direction": list(direction), "kappa": kappa}
    return {"kind": "mixture", "components": [component]}


def gaussian(sigma: float) -> dict[str, object]:
    return {"kind": "euler-gaussian", "deviations": [math.sqrt(sigma), math.sqrt(2.0), 1.0]}


def one_pose(turn: float = 0.0) -> dict[str, object]:
    quaternion = torch.tensor([[0.0, 0.0, math.sin(turn / 2), math.cos(turn / 2)]], dtype=torch.float64)
    return {"kind": "empirical", "jitter": 0.0, "quaternions": quaternion}


def test_equal_priors_are_at_no_distance_and_errors_cover_it() -> None:
    squares = [prior_distance(gaussian(2), gaussian(2), count=400, seed=seed) for seed in range(12)]
    assert sum(d.square <= d.same_square for d in squares) >= 9  # 95 % of them are, in the mean
    assert min(d.square for d in squares) < 0 < max(d.square for d in squares)
    assert "no difference" in str(min(squares, key=lambda d: d.square))


def test_one_pose_against_uniform_ones_is_a_half() -> None:
    """``E|A - B| = E|B - B'|`` and ``E|A - A'| = 0``: the square of the distance is 1/2; of two single poses it is 1."""
    found = prior_distance(one_pose(), UNIFORM, count=1500)
    assert found.square == pytest.approx(0.5, abs=5 * found.standard_error)
    apart = prior_distance(one_pose(), one_pose(1.0), count=50)
    assert apart.value == pytest.approx(1, abs=1e-3)  # equal poses are 1e-3 apart in single precision


def test_the_mean_chord_of_uniform_rotations_has_its_closed_form() -> None:
    poses = draw_prior(UNIFORM, 4000, 3)
    chords = (poses - torch.eye(3)).square().sum((-2, -1)).sqrt()
    assert float(chords.mean()) == pytest.approx(MEAN_CHORD, abs=5 * float(chords.std()) / math.sqrt(4000))


@pytest.mark.parametrize("symmetry", ["C1", "D2", "T"])
def test_it_is_the_sum_over_all_pairs_and_the_group(symmetry: str) -> None:
    a, b = draw_prior(gaussian(3), 30, 1), draw_prior(single_view(4.0), 40, 2)
    group = symmetry_rotations(symmetry)

    def mean(x: torch.Tensor, y: torch.Tensor) -> float:
        total = sum(float((p - q @ g).norm()) for p in x for q in y for g in group if p is not q)
        return total / len(group) / (len(x) * (len(y) - (x is y)))

    a, b = list(a), list(b)
    expected = 1 - (mean(a, a) + mean(b, b)) / (2 * mean(a, b))
    assert pose_distance(torch.stack(a), torch.stack(b), symmetry).square == pytest.approx(expected, abs=2e-6)


def test_poses_that_differ_by_a_symmetry_are_the_same() -> None:
    """Views along z and along -z are one and the same to a particle with a two-fold axis along x or y, and not to another."""
    up, down = single_view(50.0), single_view(50.0, (0.0, 0.0, -1.0))
    assert prior_distance(up, down, "C1", count=800).value > 0.5
    symmetric = prior_distance(up, down, "D2", count=800)
    assert symmetric.square <= max(symmetric.same_square, 4 * symmetric.standard_error)


def test_it_is_symmetric_and_grows_in_proportion_to_the_share_of_strangers() -> None:
    full = prior_distance(UNIFORM, single_view(30.0), count=3000)
    back = prior_distance(single_view(30.0), UNIFORM, count=3000)
    assert abs(full.square - back.square) < 5 * math.hypot(full.standard_error, back.standard_error)
    components = [{"kind": "uniform", "weight": 0.6}, single_view(30.0)["components"][0] | {"weight": 0.4}]
    part = prior_distance(UNIFORM, {"kind": "mixture", "components": components}, count=3000)
    # numerators scale with the square of the share; the denominators differ by the strangers' own chords
    numerator = part.square * 2 * MEAN_CHORD, full.square * 2 * MEAN_CHORD
    assert numerator[0] == pytest.approx(0.16 * numerator[1], rel=0.15)


def test_the_error_is_that_of_repeated_draws() -> None:
    found = [prior_distance(UNIFORM, single_view(5.0), count=300, seed=seed) for seed in range(40)]
    spread = torch.tensor([d.square for d in found]).std().item()
    stated = torch.tensor([d.standard_error for d in found]).mean().item()
    assert stated == pytest.approx(spread, rel=0.35)


def test_the_studys_two_priors_are_nearly_one() -> None:
    """Variances (2, 2, 1) and (3, 2, 1) of the Euler angles: apart by far less than either is from uniform poses."""
    between = prior_distance(gaussian(2), gaussian(3), count=3000)
    uniform = [prior_distance(gaussian(sigma), UNIFORM, count=3000).value for sigma in (2, 3)]
    assert between.value < 0.25 * min(uniform)
    assert min(uniform) > 0.1
    # modulo D2 they cannot be told apart by so many poses
    symmetric = prior_distance(gaussian(2), gaussian(3), "D2", count=1500)
    assert symmetric.value < 0.3 * prior_distance(gaussian(2), UNIFORM, "D2", count=1500).value


def test_too_few_poses_are_refused() -> None:
    with pytest.raises(InputError, match="at least two poses in each sample, got 1 and 5"):
        pose_distance(draw_prior(UNIFORM, 1, 0), draw_prior(UNIFORM, 5, 0))
    assert str(PoseDistance(0.04, 0.004, 0.0001)) == "0.200 ± 0.010 (two samples of one prior stay below 0.010)"
