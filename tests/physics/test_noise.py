"""Noise: spectra measured, put in and taken out again; windows and turns of patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.grids import radius
from cryobench.physics.noise import (
    colour,
    crop_power,
    cut,
    mean_power,
    radial_power,
    spread_power,
    turn,
    whiten,
)

BOXES = st.integers(8, 17)
SEEDS = st.integers(0, 2**32 - 1)


def white(count: int, box: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, box, box, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spectrum(box: int) -> Tensor:
    """A steep one, as ice has it, with a bump."""
    k = torch.arange(box // 2 + 1, dtype=torch.float64)
    return 0.3 + 8 / (1 + k) ** 2 + torch.exp(-((k - box / 4) ** 2))


def shell_counts(box: int) -> Tensor:
    """Independent real numbers in a shell: about as many as it has pixels of the full plane."""
    k = torch.fft.fftfreq(box, 1 / box)
    shells = (k[:, None] ** 2 + k**2).sqrt().round().long().flatten()
    return torch.bincount(shells, minlength=box // 2 + 1)[: box // 2 + 1]


@pytest.mark.parametrize("box", [24, 25])
@pytest.mark.parametrize("variance", [1.0, 7.3])
def test_white_noise_has_its_variance_in_every_shell(box: int, variance: float) -> None:
    count = 400
    found = radial_power(variance**0.5 * white(count, box, 0))
    sampling = (2 / (count * shell_counts(box))).sqrt()  # relative standard error of a mean of squares
    assert ((found / variance - 1).abs() < 5 * sampling).all()


@given(box=BOXES, seed=SEEDS)
def test_power_adds_up_to_the_mean_square(box: int, seed: int) -> None:
    """Parseval, with the corners emptied: shells weighted by their size hold all of the image's power."""
    images = white(2, box, seed)
    k = torch.fft.fftfreq(box, 1 / box)
    inside = (k[:, None] ** 2 + k**2).sqrt().round() <= box // 2
    images = torch.fft.ifft2(torch.fft.fft2(images) * inside).real
    total = (radial_power(images) * shell_counts(box)).sum() / box**2
    assert total.item() == pytest.approx(images.square().mean().item(), rel=1e-9)


@pytest.mark.parametrize("box", [24, 25])
def test_a_window_keeps_the_level_of_white_noise(box: int) -> None:
    window = (radius(box, 2, torch.zeros(1, dtype=torch.float64)) > box / 3).double()
    found = radial_power(white(600, box, 1), window)
    assert ((found - 1).abs() < 0.12).all()
    assert found.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("box", [24, 25])
def test_coloured_noise_has_the_spectrum_asked_for(box: int) -> None:
    count, power = 400, spectrum(box)
    found = radial_power(colour(white(count, box, 2), power))
    sampling = (2 / (count * shell_counts(box))).sqrt()
    # a shell averages the spectrum, linear between its points, over the frequencies that it holds
    k = np.fft.fftfreq(box, 1 / box)
    distance = np.hypot(k[:, None], k).ravel()
    shells = np.rint(distance).astype(int)
    expected = np.bincount(shells, np.interp(distance, np.arange(len(power)), power.numpy())) / np.bincount(shells)
    assert ((found / torch.as_tensor(expected[: len(power)]) - 1).abs() < 5 * sampling).all()
    flat = torch.full_like(power, 2.5)
    assert torch.allclose(colour(white(2, box, 3), flat), 2.5**0.5 * white(2, box, 3))


@given(box=BOXES, seed=SEEDS)
def test_whitening_inverts_colouring(box: int, seed: int) -> None:
    images, power = white(2, box, seed), spectrum(box)
    assert torch.allclose(whiten(colour(images, power), power), images, rtol=0, atol=1e-10)
    assert torch.allclose(colour(whiten(images, power), power), images, rtol=0, atol=1e-10)


@given(box=BOXES, seed=SEEDS)
def test_colouring_is_linear_and_keeps_the_dtype(box: int, seed: int) -> None:
    a, b = white(2, box, seed)[:, None], spectrum(box)
    assert torch.allclose(colour(2 * a[0] - a[1], b), 2 * colour(a[0], b) - colour(a[1], b))
    assert colour(a.float(), b).dtype == torch.float32


def test_power_of_zero_whitens_to_finite_numbers() -> None:
    power = spectrum(16)
    power[3] = 0
    assert whiten(colour(white(1, 16, 0, torch.float32), power), power).isfinite().all()


def test_a_spectrum_of_another_box_is_refused() -> None:
    with pytest.raises(InputError, match="expected a noise spectrum of 9 shells for a box of 16, got 8"):
        colour(white(1, 16, 0), torch.ones(8))
    with pytest.raises(InputError, match="expected a noise spectrum of 9 shells"):
        whiten(white(1, 16, 0), torch.ones(8))


@given(box=BOXES, seed=SEEDS)
def test_turns_are_the_eight_symmetries_of_the_square(box: int, seed: int) -> None:
    patch = white(1, box, seed)[0]
    before = patch.clone()
    turned = turn(patch.expand(8, box, box), torch.arange(8))
    assert torch.equal(turned[0], patch)
    assert torch.equal(patch, before)
    for result in turned:
        assert torch.equal(result.flatten().sort().values, patch.flatten().sort().values)
    distinct = {tuple(result.flatten().tolist()) for result in turned}
    assert len(distinct) == 8
    # closed: turning once more stays among the eight
    for code in range(8):
        again = turn(turned, torch.full((8,), code))
        assert {tuple(result.flatten().tolist()) for result in again} == distinct


@given(box=BOXES, seed=SEEDS)
def test_each_patch_takes_the_quarter_turns_and_the_flip_of_its_own_number(box: int, seed: int) -> None:
    patches, turns = white(24, box, seed), torch.randint(8, (24,), generator=torch.Generator().manual_seed(seed))
    for patch, code, turned in zip(patches, turns.tolist(), turn(patches, turns), strict=True):
        quarters = torch.rot90(patch, code % 4, dims=(-2, -1))
        assert torch.equal(turned, quarters.flip(-1) if code >= 4 else quarters)


@given(box=st.integers(1, 9), seed=SEEDS)
def test_windows_are_cut_at_their_corners(box: int, seed: int) -> None:
    patches = white(3, 9, seed)
    corners = torch.randint(0, 9 - box + 1, (3, 2), generator=torch.Generator().manual_seed(seed))
    windows = cut(patches, box, corners)
    assert windows.shape == (3, box, box)
    for window, patch, (x, y) in zip(windows, patches, corners.tolist(), strict=True):
        assert window[0, -1] == patch[y, x + box - 1]
        assert window[-1, 0] == patch[y + box - 1, x]


def test_a_window_larger_than_its_patch_is_refused() -> None:
    with pytest.raises(InputError, match="at least 10 pixels, got 9"):
        cut(white(1, 9, 0), 10, torch.zeros(1, 2, dtype=torch.long))


def test_runs_on_the_device_of_its_input(device: torch.device) -> None:
    images, power = white(2, 16, 0).to(device), spectrum(16).to(device)
    for result in (colour(images, power), whiten(images, power), turn(images, torch.tensor([1, 6], device=device))):
        assert result.device.type == device.type
    assert radial_power(images).device.type == device.type


def symmetric_plane(box: int, seed: int) -> Tensor:
    """Some power spectrum over the half plane, as images have one: F(-k) = F(k)* on its first column."""
    return torch.fft.rfft2(white(1, box, seed)[0]).abs().square() / box**2


@pytest.mark.parametrize(("native", "box"), [(24, 16), (25, 16), (24, 15), (25, 13), (24, 24)])
def test_cropped_power_is_exactly_the_power_of_cropped_noise(native: int, box: int) -> None:
    power = symmetric_plane(native, 4)
    impulse = torch.zeros(1, native, native, dtype=torch.float64)
    impulse[0, 0, 0] = native  # unit power at every frequency, so its response is the spectrum of coloured noise
    cropped = fourier_crop_images(colour(impulse, power), box)
    found = torch.fft.rfft2(cropped)[0].abs().square() / box**2
    torch.testing.assert_close(found, crop_power(power, box), rtol=1e-10, atol=1e-14)


@given(box=BOXES, seed=SEEDS)
def test_mean_power_is_the_variance(box: int, seed: int) -> None:
    image = white(1, box, seed)
    plane = torch.fft.rfft2(image)[0].abs().square() / box**2
    assert mean_power(plane) == pytest.approx(image.square().mean().item(), rel=1e-9)


@given(box=BOXES, seed=SEEDS)
def test_radial_power_and_the_plane_it_spreads_to_colour_alike(box: int, seed: int) -> None:
    images, power = white(2, box, seed), spectrum(box)
    torch.testing.assert_close(colour(images, power), colour(images, spread_power(power, box)), rtol=0, atol=1e-12)


def test_a_plane_may_differ_between_directions() -> None:
    box = 16
    power = torch.ones(box, box // 2 + 1, dtype=torch.float64)
    power[:, 4:] = 0
    images = colour(white(300, box, 5), power)
    found = torch.fft.rfft2(images).abs().square().mean(0) / box**2
    assert float(found[:, 4:].max()) < 1e-20
    assert (found[:, 1:4] - 1).abs().max() < 0.35
    with pytest.raises(InputError, match="16 x 9 coefficients for a box of 16"):
        colour(white(1, box, 0), power[:, :8])
