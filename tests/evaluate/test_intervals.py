from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cryobench.evaluate.fsc import frequency, fsc, resolution
from cryobench.evaluate.hallucination import measure_gap
from cryobench.evaluate.intervals import (
    bootstrap_curves,
    independent_share,
    interval_over_seeds,
    take_interval,
)
from cryobench.evaluate.shells import Shells, spectrum
from cryobench.physics.grids import radius, soft_sphere
from cryobench.physics.symmetry import symmetrise

BOX, VOXEL = 32, 3.0
LIKE = torch.zeros((), dtype=torch.float64)


def noise(seed: int) -> Tensor:
    return torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Setting:
    """A specimen of known power in noise of known power: where the curves fall in expectation is known."""

    def __init__(self, symmetry: str, mask: Tensor, scale: float) -> None:
        self.symmetry, self.mask = symmetry, mask
        falloff = torch.fft.ifftshift(torch.exp(-((radius(BOX, 3, LIKE) / 5) ** 2)))
        base = torch.fft.fftn(noise(0) * soft_sphere(BOX, 9.0, 3.0, LIKE))
        self.signal = symmetrise(torch.fft.ifftn(base * falloff).real, symmetry) * scale
        power = [
            Shells(BOX).sum(spectrum(v).abs() ** 2) for v in (self.signal, *(self.noise(90_000 + i) for i in range(40)))
        ]
        mean_noise = torch.stack(power[1:]).mean(0)
        self.half_map = power[0] / (power[0] + mean_noise)
        self.truth = (power[0] / (power[0] + mean_noise / 2)).sqrt()

    def noise(self, seed: int) -> Tensor:
        order = {"C1": 1, "D2": 4}[self.symmetry]
        return symmetrise(noise(seed) * self.mask, self.symmetry) * order**0.5


WHOLE = torch.ones(BOX, BOX, BOX, dtype=torch.float64)


@pytest.mark.parametrize(
    ("symmetry", "mask", "scale", "low", "high"),
    [
        ("C1", WHOLE, 12.0, 0.83, 0.97),
        ("D2", WHOLE, 24.0, 0.83, 0.97),
        # noise in a seventh of the box: neighbouring coefficients correlate, and the intervals are known to be a little narrow
        ("C1", soft_sphere(BOX, 8.0, 3.0, LIKE), 8.0, 0.76, 0.97),
    ],
)
def test_intervals_cover_at_their_rate(symmetry: str, mask: Tensor, scale: float, low: float, high: float) -> None:
    """Of 60 data sets, each with its own noise, at 90 %: binomial scatter is 4 %."""
    setting, covered = Setting(symmetry, mask, scale), []
    for seed in range(60):
        first, second = (setting.signal + setting.noise(2 * seed + i) for i in (1, 2))
        pairs = [(first, second), ((first + second) / 2, setting.signal)]
        share = independent_share(first, second)
        drawn = bootstrap_curves(pairs, symmetry, share, draws=100, seed=seed)
        for curves, population, threshold in (
            (drawn[0], setting.half_map, 0.143),
            (drawn[0], setting.half_map, 0.5),
            (drawn[1], setting.truth, 0.5),
        ):
            values = np.array([frequency(resolution(curve, threshold, BOX, VOXEL)) for curve in curves])
            interval = take_interval(values)
            covered.append(interval.low <= frequency(resolution(population, threshold, BOX, VOXEL)) <= interval.high)
    assert low <= np.mean(covered) <= high


def test_the_interval_of_the_gap_holds_zero_for_independent_noise_and_not_for_shared_bias() -> None:
    setting, zero = Setting("C1", WHOLE, 12.0), []
    bias = Setting("C1", WHOLE, 8.0).signal.roll((3, 5, 7), (0, 1, 2))
    for shared in (0.0, 1.0):
        for seed in range(8):
            first, second = (setting.signal + shared * bias + setting.noise(2 * seed + i) for i in (1, 2))
            curves = bootstrap_curves([(first, second), ((first + second) / 2, setting.signal)], draws=100)
            gaps = [measure_gap(half_map, truth).mean for half_map, truth in zip(*curves, strict=True)]
            zero.append(take_interval(np.array([g for g in gaps if g is not None])).low <= 0)
    assert sum(zero[:8]) >= 6
    assert sum(zero[8:]) == 0


def test_bootstrapped_curves_scatter_about_the_curve() -> None:
    first, second = noise(1) + noise(2), noise(1) + noise(3)
    (curves,) = bootstrap_curves([(first, second)], draws=200)
    plain = fsc(first, second)
    count = Shells(BOX).sum(torch.ones(BOX, BOX, BOX // 2 + 1))
    expected = (1 - plain**2) / count.sqrt()
    assert (curves.mean(0) - plain)[4:].abs().max() < 0.02
    # a patch of few coefficients leaves some of the variance out in the small shells
    ratio = (curves.std(0) / expected)[4:]
    assert float(ratio.min()) > 0.75
    assert float(ratio.max()) < 1.35


def test_equal_volumes_have_no_scatter_and_equal_seeds_equal_draws() -> None:
    (curves,) = bootstrap_curves([(noise(1), noise(1))], draws=5)
    torch.testing.assert_close(curves, torch.ones_like(curves))
    again = [bootstrap_curves([(noise(1), noise(2))], "D2", draws=3)[0] for _ in range(2)]
    assert torch.equal(*again)


def test_share_of_independent_coefficients_is_that_of_the_box_that_noise_fills() -> None:
    assert independent_share(noise(1), noise(2)) > 0.95
    mask = soft_sphere(BOX, 9.0, 3.0, LIKE)
    variance = mask**2
    expected = float(variance.sum() ** 2 / variance.square().sum() / mask.numel())
    assert independent_share(noise(1) * mask, noise(2) * mask) == pytest.approx(expected, rel=0.25)
    # signal in both halves is no noise
    signal = 5 * noise(3) * soft_sphere(BOX, 5.0, 2.0, LIKE)
    assert independent_share(signal + noise(1), signal + noise(2)) > 0.9


@pytest.mark.parametrize("count", [3, 5, 12])
def test_intervals_over_seeds_cover_at_their_rate(count: int) -> None:
    draws = np.random.default_rng(count).normal(1.0, 0.2, (300, count))
    covered = 0
    for values in draws:
        interval = interval_over_seeds(values.tolist())
        assert interval is not None
        covered += interval.low <= 1.0 <= interval.high
    assert 0.86 <= covered / 300 <= 0.95


def test_one_seed_has_no_interval_and_equal_ones_one_of_no_width() -> None:
    assert interval_over_seeds([0.1]) is None
    interval = interval_over_seeds([0.1, 0.1, 0.1])
    assert interval is not None
    assert interval.high - interval.low < 1e-12
