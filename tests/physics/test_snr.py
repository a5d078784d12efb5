"""Signal and noise power of images that are known only with their noise, where both are known here."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.background import BackgroundNormalisation
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.grids import radius
from cryobench.physics.noise import colour
from cryobench.physics.snr import SignalMeter, SignalToNoise, decibels

COUNT, BOX = 2000, 32
SHELLS = torch.arange(BOX + 1) / 2
SPECTRA = {
    "white": torch.ones(BOX + 1),
    "red": 0.05 + 1 / (1 + (SHELLS / 3) ** 2),
    "blue": 0.1 + (SHELLS / 16) ** 2,
}


def noise(kind: str, box: int = BOX, count: int = COUNT) -> Tensor:
    """Cut from larger fields, so that nothing is periodic."""
    white = torch.randn(count, 2 * BOX, 2 * BOX, generator=torch.Generator().manual_seed(4))
    return colour(white, SPECTRA[kind])[:, :box, :box]


def measure(images: Tensor, fraction: float) -> SignalToNoise:
    meter = SignalMeter(images.shape[-1], fraction * images.shape[-1])
    for block in images.split(700):
        meter.add(block)
    return meter.measure()


@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize(("box", "fraction"), [(32, 0.45), (31, 0.4), (16, 0.45)])
def test_noise_alone_has_no_signal(kind: str, box: int, fraction: float) -> None:
    """Within its error, which is a fraction of a percent of the noise."""
    images = noise(kind, box) + torch.randn(COUNT, 1, 1, generator=torch.Generator().manual_seed(0)) * 5
    found, variance = measure(images, fraction), float(noise(kind, box).var())
    assert abs(found.signal) < 3.5 * found.standard_error
    assert found.standard_error < 0.01 * variance
    assert found.noise == pytest.approx(variance, rel=0.02)
    assert found.images == COUNT


@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("snr", [0.01, 0.1, 1.0, 10.0])
def test_signal_in_the_disc_is_found(kind: str, snr: float) -> None:
    generator = torch.Generator().manual_seed(9)
    field = noise(kind)
    signal = (radius(BOX, 2, field) < 0.35 * BOX) * torch.randn(COUNT, BOX, BOX, generator=generator)
    signal = fourier_crop_images(signal, 8).repeat_interleave(4, -1).repeat_interleave(4, -2)  # smooth, within 0.45
    signal = signal * (radius(BOX, 2, field) < 0.45 * BOX)
    signal = signal * (snr * field.var() / signal.var()).sqrt()
    found = measure(field + signal, 0.45)
    within = float(signal.var((-2, -1), correction=0).mean())
    assert abs(found.signal - within) < 3.5 * found.standard_error
    assert found.noise == pytest.approx(float(field.var()), rel=0.02)


def test_the_stated_error_is_the_scatter() -> None:
    """Of estimates from separate sets of images."""
    sets = [measure(part, 0.4) for part in noise("red").split(100)]
    signals = torch.tensor([s.signal for s in sets])
    stated = torch.tensor([s.standard_error for s in sets]).mean()
    assert float(signals.std() / stated) == pytest.approx(1, abs=0.4)


def test_an_unknown_mean_does_not_count() -> None:
    images = noise("red", count=200)
    plain, moved = measure(images, 0.4), measure(images.double() + 1e3, 0.4)
    assert moved.signal == pytest.approx(plain.signal, abs=1e-6)
    assert moved.noise == pytest.approx(plain.noise, rel=1e-6)


def test_too_few_images_and_decibels() -> None:
    with pytest.raises(InputError, match="at least two images"):
        SignalMeter(16, 6.0).measure()
    with pytest.raises(InputError, match="expected a particle radius"):
        SignalMeter(16, 9.0)
    assert decibels(100.0) == pytest.approx(20)
    assert decibels(0.0) == decibels(-1.0) == -math.inf


@pytest.mark.parametrize(("box", "working"), [(33, 33), (40, 24), (41, 20)])
def test_normalised_background(box: int, working: int) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(5, box, box, generator=generator) * 40 + 2000
    x = torch.arange(box, dtype=torch.float32)
    tilted = images + 7 * x - 3 * x[:, None]
    outside = radius(working, 2, images) > 0.4 * working
    flat, deviation = BackgroundNormalisation(box, working, 0.4 * box, ramp=True)(images)
    again, _ = BackgroundNormalisation(box, working, 0.4 * box, ramp=True)(tilted)
    assert torch.allclose(flat, again, atol=1e-3)  # a plane is all that was added
    background = fourier_crop_images(flat, working)[:, outside].double()
    assert torch.allclose(background.mean(-1), torch.zeros(5, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(background.std(-1, correction=0), torch.ones(5, dtype=torch.float64), rtol=1e-4)
    assert float(deviation.mean()) == pytest.approx(40 * working / box * (1 if working == box else 0.89), rel=0.1)
    mean_alone, _ = BackgroundNormalisation(box, working, 0.4 * box, ramp=False)(tilted)
    assert not torch.allclose(mean_alone, flat, atol=0.1)


def test_one_grey_value_has_no_deviation() -> None:
    images = torch.stack([torch.full((16, 16), 1e4), torch.randn(16, 16, generator=torch.Generator().manual_seed(0))])
    _, deviation = BackgroundNormalisation(16, 12, 6.0, ramp=True)(images)
    assert deviation[0] == 0
    assert deviation[1] > 0.5
