from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.correction import correct_for_mask, randomise_phases
from cryobench.evaluate.fsc import fsc
from cryobench.evaluate.shells import Shells, spectrum
from cryobench.physics.grids import radius, soft_sphere

BOX = 48


def noise(seed: int) -> Tensor:
    return torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def specimen() -> Tensor:
    """Random density in the middle of the box that loses power with frequency."""
    falloff = torch.fft.ifftshift(torch.exp(-radius(BOX, 3, noise(0)) / 5))
    coloured = torch.fft.ifftn(torch.fft.fftn(noise(0) * soft_sphere(BOX, 12.0, 3.0, noise(0))) * falloff).real
    return 6 * coloured / coloured.std()


MASK = soft_sphere(BOX, 14.0, 5.0, noise(0))


def test_randomised_phases_keep_every_amplitude_and_the_lower_shells() -> None:
    volume = specimen()
    found = randomise_phases(volume, 9, torch.Generator().manual_seed(1))
    before, after = spectrum(volume), spectrum(found)
    torch.testing.assert_close(after.abs(), before.abs())
    kept = Shells(BOX).index.reshape(before.shape) < 9
    torch.testing.assert_close(after[kept], before[kept])
    curve = fsc(volume, found)
    torch.testing.assert_close(curve[:9], torch.ones(9, dtype=torch.float64))
    # n / 2 independent phases, weighed by powers that vary as their mean: 4 standard deviations
    count = Shells(BOX).sum(torch.ones_like(before.real))
    assert (curve[9:].abs() < 4 * (2 / count[9:]).sqrt()).all()


def test_takes_away_what_a_mask_alone_makes_correlate() -> None:
    """Unrelated maps under one tight mask correlate, and not when corrected."""
    level = 4.0  # a solvent level makes the mask's own spectrum part of both maps
    a, b = noise(1) + level, noise(2) + level
    sharp = soft_sphere(BOX, 8.0, 1.0, a)
    found = correct_for_mask(a, b, sharp)
    assert found.randomised_from == 1
    assert found.masked[4:8].mean() > 0.3
    assert found.corrected[4:8].mean() < 0.1


def test_corrected_is_what_the_signal_in_the_mask_promises() -> None:
    """Signal inside the mask, noise all over the box: masking keeps the signal and a known part of the noise."""
    signal = 0.25 * specimen() * MASK
    power = [Shells(BOX).sum(spectrum(v).abs() ** 2) for v in (signal * MASK, noise(5) * MASK)]
    expected = power[0] / (power[0] + power[1])
    found = correct_for_mask(signal + noise(1), signal + noise(2), MASK)
    assert found.randomised_from is not None
    shells = slice(found.randomised_from + 3, 20)
    assert (found.corrected - expected)[shells].abs().max() < 0.12
    assert abs(float((found.corrected - expected)[shells].mean())) < 0.04
    assert (found.unmasked[shells] < expected[shells]).all()
    torch.testing.assert_close(found.corrected[: found.randomised_from + 2], found.masked[: found.randomised_from + 2])


def test_the_correction_is_the_formula() -> None:
    signal = specimen()
    found = correct_for_mask(signal + noise(1), signal + noise(2), MASK)
    assert found.randomised_from is not None
    start = found.randomised_from + 2
    t, n = found.masked[start:], found.randomised[start:]
    torch.testing.assert_close(found.corrected[start:], torch.where(n > t, 0.0, (t - n) / (1 - n)))


def test_equal_maps_need_no_correction() -> None:
    found = correct_for_mask(noise(1), noise(1), MASK)
    assert found.randomised_from is None
    torch.testing.assert_close(found.corrected, torch.ones(BOX // 2 + 1, dtype=torch.float64))


def test_gives_the_same_numbers_again() -> None:
    first, second = (correct_for_mask(specimen() + noise(1), specimen() + noise(2), MASK) for _ in range(2))
    assert torch.equal(first.corrected, second.corrected)


def test_refuses_a_mask_of_another_box() -> None:
    with pytest.raises(InputError, match=r"a mask of shape \(48, 48, 48\)"):
        correct_for_mask(noise(1), noise(2), torch.ones(8, 8, 8))
