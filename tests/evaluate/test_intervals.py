from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.fsc import frequency, fsc, resolution
from cryobench.evaluate.hallucination import measure_gap
from cryobench.evaluate.independent import chance_to_reach, count_independent
from cryobench.evaluate.intervals import Interval, bootstrap_curves, take_interval
from cryobench.evaluate.shells import Shells, spectrum
from cryobench.evaluate.uncertainty import measure_intervals
from cryobench.physics.grids import radius, soft_sphere
from cryobench.physics.symmetry import symmetrise, symmetry_rotations

BOX, VOXEL = 32, 3.0
LIKE = torch.zeros((), dtype=torch.float64)
WHOLE = torch.ones(BOX, BOX, BOX, dtype=torch.float64)
SPHERE = soft_sphere(BOX, 8.0, 3.0, LIKE)


def noise(seed: int) -> Tensor:
    return torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass(frozen=True)
class Trial:
    """Two noisy half-maps of a specimen, and the curves that they have in expectation."""

    first: Tensor
    second: Tensor
    truth: Tensor
    half_map: Tensor
    against_truth: Tensor


class Setting:
    """Specimens of one kind in noise of known power: of each, where the curves fall in expectation is known."""

    def __init__(self, symmetry: str, mask: Tensor, scale: float) -> None:
        self.symmetry, self.mask, self.scale = symmetry, mask, scale
        self.falloff = torch.fft.ifftshift(torch.exp(-((radius(BOX, 3, LIKE) / 5) ** 2)))
        noises = (self.noise(900_000 + i) for i in range(100))
        self.power = torch.stack([self.power_of(n) for n in noises]).mean(0)

    def power_of(self, volume: Tensor) -> Tensor:
        return Shells(BOX).sum(spectrum(volume).abs() ** 2)

    def noise(self, seed: int) -> Tensor:
        return symmetrise(noise(seed) * self.mask, self.symmetry) * len(symmetry_rotations(self.symmetry)) ** 0.5

    def draw(self, seed: int) -> Trial:
        base = torch.fft.fftn(noise(500_000 + seed) * soft_sphere(BOX, 9.0, 3.0, LIKE))
        truth = symmetrise(torch.fft.ifftn(base * self.falloff).real, self.symmetry) * self.scale
        power = self.power_of(truth)
        first, second = (truth + self.noise(2 * seed + i) for i in (1, 2))
        return Trial(first, second, truth, power / (power + self.power), (power / (power + self.power / 2)).sqrt())


def covers(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


def cover(setting: Setting, seeds: range) -> dict[str, float]:
    """How often the 90 % intervals hold what they are about."""
    held: dict[str, list[bool]] = {}
    for seed in seeds:
        trial = setting.draw(seed)
        measured = fsc(trial.first, trial.second), fsc((trial.first + trial.second) / 2, trial.truth)
        independent = count_independent(trial.first, trial.second, setting.symmetry)
        half_maps, truths = bootstrap_curves(*measured, independent, draws=200, seed=seed)
        assert half_maps is not None
        assert truths is not None
        for name, curves, expected, threshold in (
            ("half-map 0.143", half_maps, trial.half_map, 0.143),
            ("half-map 0.5", half_maps, trial.half_map, 0.5),
            ("truth 0.143", truths, trial.against_truth, 0.143),
            ("truth 0.5", truths, trial.against_truth, 0.5),
        ):
            values = np.array([frequency(resolution(curve, threshold, BOX, VOXEL)) for curve in curves])
            wanted = frequency(resolution(expected, threshold, BOX, VOXEL))
            held.setdefault(name, []).append(covers(take_interval(values), wanted))
        gaps = [measure_gap(*both).mean for both in zip(half_maps, truths, strict=True)]
        found = measure_gap(*measured).mean
        interval = take_interval(np.array([gap for gap in gaps if gap is not None]), found)
        held.setdefault("mean gap", []).append(covers(interval, 0.0))
    return {name: float(np.mean(values)) for name, values in held.items()}


SETTINGS = [("C1", WHOLE, 12.0), ("D2", WHOLE, 24.0), ("C1", SPHERE, 8.0)]


@pytest.mark.parametrize(("symmetry", "mask", "scale"), SETTINGS)
def test_intervals_cover_at_their_rate(symmetry: str, mask: Tensor, scale: float) -> None:
    """Each data set with a specimen and noise of its own; of 60 the binomial scatter is 4 %, of the five figures together 2 %."""
    rates = cover(Setting(symmetry, mask, scale), range(60))
    assert 0.85 <= np.mean(list(rates.values())) <= 0.95
    assert min(rates.values()) >= 0.77


@pytest.mark.slow
@pytest.mark.parametrize(("symmetry", "mask", "scale"), SETTINGS)
def test_every_interval_covers_at_its_rate(symmetry: str, mask: Tensor, scale: float) -> None:
    """Of 600 data sets: binomial scatter is 1.2 %."""
    rates = cover(Setting(symmetry, mask, scale), range(1000, 1600))
    assert all(0.87 <= rate <= 0.93 for rate in rates.values()), rates


@pytest.mark.parametrize(("symmetry", "mask"), [("C1", WHOLE), ("C1", SPHERE), ("D2", SPHERE)])
def test_as_many_coefficients_are_independent_as_the_scatter_of_noise_says(symmetry: str, mask: Tensor) -> None:
    """Maps of noise alone correlate by chance: with a variance of one over the count, and shells with one another."""
    setting = Setting(symmetry, mask, 1.0)
    curves = torch.stack([fsc(setting.noise(2 * i), setting.noise(2 * i + 1)) for i in range(150)])[:, 3:-1].numpy()
    found = count_independent(setting.noise(1), setting.noise(2), symmetry)
    ratio = curves.var(0) * found.count[3:-1]
    assert ratio.mean() == pytest.approx(1.0, abs=0.1)
    assert ratio.min() > 0.6
    assert ratio.max() < 1.5
    measured = np.corrcoef(curves.T)
    for apart in (1, 2):
        expected = np.diagonal(found.correlation[3:-1, 3:-1], apart).mean()
        assert np.diagonal(measured, apart).mean() == pytest.approx(expected, abs=0.07)


@pytest.mark.parametrize("radius_in_voxels", [5.0, 9.0])
def test_the_share_is_that_of_the_box_that_noise_fills(radius_in_voxels: float) -> None:
    mask = soft_sphere(BOX, radius_in_voxels, 3.0, LIKE)
    variance = mask**2
    expected = float(variance.sum() ** 2 / variance.square().sum() / mask.numel())
    assert count_independent(noise(1) * mask, noise(2) * mask).share == pytest.approx(expected, rel=0.1)


def test_signal_in_both_halves_is_no_noise() -> None:
    signal = 5 * noise(3) * soft_sphere(BOX, 5.0, 2.0, LIKE)
    assert count_independent(signal + noise(1), signal + noise(2)).share > 0.95
    assert count_independent(signal, signal).share == 1


@pytest.mark.parametrize("step", [1.0, np.sqrt(5), 6.0])
def test_a_step_reaches_the_shell_that_a_lattice_says(step: float) -> None:
    """A second implementation: every lattice point and every lattice step of that length."""
    found = chance_to_reach(24, np.array([0.0, step]))[1]
    np.testing.assert_allclose(found[:6].sum(1), 1)
    axis = np.arange(-15, 16)
    points = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    lengths = np.linalg.norm(points, axis=1)
    steps = points[np.abs(lengths - step) < 1e-9]
    reached = np.zeros(13)
    start = points[np.round(lengths) == 8]
    for move in steps:
        ends = np.round(np.linalg.norm(start + move, axis=1)).astype(int)
        reached += np.bincount(ends, minlength=40)[:13] / len(start) / len(steps)
    np.testing.assert_allclose(found[8][:12], reached[:12], atol=0.05)


def test_the_interval_of_the_gap_holds_zero_for_independent_noise_and_not_for_shared_bias() -> None:
    setting, zero = Setting("C1", WHOLE, 12.0), []
    bias = Setting("C1", WHOLE, 8.0).draw(77).truth
    for shared in (0.0, 1.0):
        for seed in range(8):
            trial = setting.draw(seed)
            halves = trial.first + shared * bias, trial.second + shared * bias
            pairs = {"half_map": halves, "truth": ((halves[0] + halves[1]) / 2, trial.truth)}
            curves = {name: fsc(*pair) for name, pair in pairs.items()}
            said = measure_intervals(pairs, curves, VOXEL, "C1", 200)
            assert said is not None
            zero.append(said["mean_gap"]["low"] <= 0)
    assert sum(zero[:8]) >= 6
    assert sum(zero[8:]) == 0


def test_bootstrapped_curves_scatter_about_the_curve_as_theory_says() -> None:
    """For a given signal: ``(1 - F)^2 (1 + 2 F - F^2) / n``, and against the truth ``(1 - C^2)^2 (1 - C^2 / 2) / n``."""
    first, second = noise(1) + noise(2), noise(1) + noise(3)
    half_map, truth = fsc(first, second), fsc((first + second) / 2, noise(1))
    independent = count_independent(first, second)
    half_maps, truths = bootstrap_curves(half_map, truth, independent, draws=400)
    assert half_maps is not None
    assert truths is not None
    count = torch.from_numpy(independent.count)
    for curve, drawn, variance in (
        (half_map, half_maps, (1 - half_map) ** 2 * (1 + 2 * half_map - half_map**2)),
        (truth, truths, (1 - truth**2) ** 2 * (1 - truth**2 / 2)),
    ):
        expected = (variance / count).sqrt()
        assert ((drawn.mean(0) - curve)[4:].abs() < 0.5 * expected[4:]).all()
        torch.testing.assert_close(drawn.std(0)[4:], expected[4:], rtol=0.2, atol=0)
        assert (drawn[:, 0] == curve[0]).all()


def test_a_bare_map_has_the_interval_of_its_curve_with_the_truth() -> None:
    trial = Setting("C1", WHOLE, 12.0).draw(3)
    mean = (trial.first + trial.second) / 2
    curve = fsc(mean, trial.truth)
    said = measure_intervals({"truth": (mean, trial.truth)}, {"truth": curve}, VOXEL, "C1", 200)
    assert said is not None
    assert (said["half_map"], said["mean_gap"]) == (None, None)
    measured = resolution(curve, 0.5, BOX, VOXEL).value
    assert measured is not None
    assert said["truth"]["0.5"]["finest"] < measured < said["truth"]["0.5"]["coarsest"]
    assert measure_intervals({"truth": (mean, 0 * mean)}, {"truth": 0 * curve}, VOXEL, "C1", 200) is None


def test_equal_volumes_have_no_scatter_and_equal_seeds_equal_draws() -> None:
    independent = count_independent(noise(1), noise(1))
    (curves, _) = bootstrap_curves(fsc(noise(1), noise(1)), None, independent, draws=5)
    assert curves is not None
    torch.testing.assert_close(curves, torch.ones_like(curves), rtol=0, atol=1e-5)
    curve = fsc(noise(1), noise(2))
    again = [bootstrap_curves(curve, None, independent, draws=3)[0] for _ in range(2)]
    assert again[0] is not None
    assert again[1] is not None
    assert torch.equal(again[0], again[1])


def test_refuses_curves_of_another_box_and_none() -> None:
    independent = count_independent(noise(1), noise(2))
    with pytest.raises(InputError, match=r"curves of 17 shells, got \[5\]"):
        bootstrap_curves(torch.ones(5), None, independent)
    with pytest.raises(InputError, match=r"curves of 17 shells, got \[\]"):
        bootstrap_curves(None, None, independent)


def test_an_interval_may_be_put_about_what_was_measured() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    plain, about = take_interval(values), take_interval(values, 0.25)
    assert (plain.low, plain.high) == pytest.approx((-1.645, 1.645), abs=0.05)
    # of normal values the correction moves both ends by twice the median's bias
    assert (about.low, about.high) == pytest.approx((-1.645 + 0.5, 1.645 + 0.5), abs=0.07)
