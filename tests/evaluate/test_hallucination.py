from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.fsc import fsc, half_map_ssnr, truth_ssnr
from cryobench.evaluate.hallucination import expect_truth_curve, measure_gap
from cryobench.evaluate.shells import Shells, spectrum
from cryobench.physics.grids import radius

BOX = 32


def noise(seed: int) -> Tensor:
    return torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coloured(seed: int, scale: float) -> Tensor:
    falloff = torch.fft.ifftshift(torch.exp(-((radius(BOX, 3, noise(0)) / 6) ** 2)))
    return torch.fft.ifftn(torch.fft.fftn(noise(seed)) * falloff).real * scale


def power(volume: Tensor) -> Tensor:
    return Shells(BOX).sum(spectrum(volume).abs() ** 2)


def halves(seed: int, shared: float) -> tuple[Tensor, Tensor, Tensor]:
    truth = coloured(1, 4.0)
    biased = truth + coloured(2, shared)
    return truth, biased + noise(100 + seed), biased + noise(200 + seed)


def test_is_zero_up_to_sampling_for_independent_noise() -> None:
    found = []
    for seed in range(12):
        truth, first, second = halves(seed, 0.0)
        found.append(measure_gap(fsc(first, second), fsc((first + second) / 2, truth)).mean)
    values = np.array(found, dtype=np.float64)
    assert abs(values.mean()) < 3 * values.std(ddof=1) / np.sqrt(len(values)) + 0.003
    assert np.abs(values).max() < 0.05


def test_of_a_shared_bias_is_what_its_power_says() -> None:
    """``sqrt((T + B) / (T + B + N / 2)) - sqrt(T / (T + B + N / 2))``, shell by shell."""
    gaps, expected = [], None
    for seed in range(6):
        truth, first, second = halves(seed, 3.0)
        gaps.append(measure_gap(fsc(first, second), fsc((first + second) / 2, truth)))
        t, b, n = power(truth), power(coloured(2, 3.0)), power(noise(7))
        expected = ((t + b) / (t + b + n / 2)).sqrt() - (t / (t + b + n / 2)).sqrt()
    assert expected is not None
    by_shell = torch.stack([gap.by_shell for gap in gaps]).mean(0)
    # truth and bias correlate by chance in the small shells
    assert (by_shell - expected)[5:10].abs().max() < 0.06
    means = [gap.mean for gap in gaps if gap.mean is not None]
    assert min(means) > 0.08
    last = gaps[0].last_shell
    assert np.mean(means) == pytest.approx(float(expected[1 : last + 1].mean()), abs=0.06)


def test_the_mean_is_over_the_shells_that_are_promised() -> None:
    half_map = torch.tensor([1.0, 1.0, 0.5, 0.1, 0.9], dtype=torch.float64)
    truth = torch.tensor([1.0, 0.9, 0.5, 0.0, 0.0], dtype=torch.float64)
    gap = measure_gap(half_map, truth)
    assert gap.last_shell == 2
    assert gap.mean == pytest.approx((0.1 + np.sqrt(2 / 3) - 0.5) / 2)
    torch.testing.assert_close(gap.by_shell, gap.expected - truth)


def test_halves_that_promise_nothing_have_no_gap() -> None:
    gap = measure_gap(torch.tensor([1.0, 0.1, 0.9]), torch.tensor([1.0, 0.1, 0.9]))
    assert (gap.mean, gap.last_shell) == (None, 0)


def test_halves_that_promise_all_are_held_to_it_to_the_last_shell() -> None:
    gap = measure_gap(torch.ones(5), torch.zeros(5))
    assert (gap.mean, gap.last_shell) == (1.0, 4)


def test_expected_curve_and_ratios_agree() -> None:
    """The mean of two halves has twice the signal-to-noise ratio of one, and the truth sees as much."""
    half_map = torch.linspace(0, 0.99, 30, dtype=torch.float64)
    torch.testing.assert_close(truth_ssnr(expect_truth_curve(half_map)), half_map_ssnr(half_map))
    assert expect_truth_curve(torch.tensor([-0.5])).item() == 0
    assert half_map_ssnr(torch.tensor([-0.5, 1.0])).tolist() == [0, np.inf]


def test_ssnr_of_noisy_copies_is_their_ratio_of_power() -> None:
    truth, first, second = halves(3, 0.0)
    expected = power(truth) / power(noise(7))
    found = half_map_ssnr(fsc(first, second)) / 2
    np.testing.assert_allclose(found[4:9], expected[4:9], rtol=0.3)
    found = truth_ssnr(fsc(first, truth))
    np.testing.assert_allclose(found[4:9], expected[4:9], rtol=0.3)


def test_refuses_curves_of_two_boxes() -> None:
    with pytest.raises(InputError, match="one box, got 5 and 4 shells"):
        measure_gap(torch.ones(5), torch.ones(4))
