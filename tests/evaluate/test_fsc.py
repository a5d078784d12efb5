from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.fsc import Resolution, fsc, resolution, resolutions, spatial_frequencies


def noise(box: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(box, box, box, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def frequency_radius(box: int) -> NDArray[np.float64]:
    k = np.fft.fftfreq(box, 1 / box)
    z, y, x = np.meshgrid(k, k, k, indexing="ij")
    return np.sqrt(x**2 + y**2 + z**2)


@pytest.mark.parametrize("box", [15, 16])
def test_agrees_with_a_plain_loop_over_half_spectra(box: int) -> None:
    a, b = noise(box, 1), noise(box, 1) + noise(box, 2)
    half = slice(0, box // 2 + 1)
    spectrum_a, spectrum_b = (np.fft.fftn(v.numpy())[..., half] for v in (a, b))
    radii = frequency_radius(box)[..., half]
    expected = []
    for shell in range(box // 2 + 1):
        inside = np.round(radii) == shell
        u, v = spectrum_a[inside], spectrum_b[inside]
        expected.append(np.sum(u * v.conj()).real / np.sqrt(np.sum(abs(u) ** 2) * np.sum(abs(v) ** 2)))
    np.testing.assert_allclose(fsc(a, b).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("box", [32, 33])
def test_is_that_of_every_coefficient_counted_once_up_to_a_part_of_its_error(box: int) -> None:
    """The half-space holds the plane kx = 0 twice: 1 / (2 shell) of a shell, independent of the rest."""
    a, b, radii = noise(box, 1), noise(box, 1) + noise(box, 2), frequency_radius(box)
    spectrum_a, spectrum_b = np.fft.fftn(a.numpy()), np.fft.fftn(b.numpy())
    ratios = []
    for shell, found in enumerate(fsc(a, b).tolist()[2 : box // 2], start=2):
        u, v = (s[np.round(radii) == shell] for s in (spectrum_a, spectrum_b))
        once = np.sum(u * v.conj()).real / np.sqrt(np.sum(abs(u) ** 2) * np.sum(abs(v) ** 2))
        ratios.append((found - once) / ((1 - once**2) / np.sqrt(len(u)) * np.sqrt(1 / (2 * shell))))
    assert 0.5 < np.sqrt(np.mean(np.square(ratios))) < 1.6


@pytest.mark.parametrize("box", [47, 48])
def test_is_ssnr_over_one_plus_ssnr_of_noisy_copies(box: int) -> None:
    radii = frequency_radius(box)
    spectrum = np.fft.fftn(noise(box, 1).numpy()) * 3 * np.exp(-radii / 10)
    signal = torch.from_numpy(np.fft.ifftn(spectrum).real)
    curve = fsc(signal + noise(box, 2), signal + noise(box, 3)).numpy()
    for shell in range(1, box // 2):
        inside = np.round(radii) == shell
        ssnr = np.mean(np.abs(spectrum[inside]) ** 2) / box**3
        expected = ssnr / (1 + ssnr)
        # to first order in the noise, for a given signal in n coefficients (n real numbers)
        variance = (1 - expected) ** 2 * (1 + 2 * expected - expected**2) / inside.sum()
        assert abs(curve[shell] - expected) < 4 * np.sqrt(variance), shell


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_a_volume_with_itself_is_one_on_every_device(device: torch.device, dtype: torch.dtype) -> None:
    volume = noise(16, 1, dtype).to(device)
    curve = fsc(volume, volume)
    assert curve.device.type == device.type
    torch.testing.assert_close(curve.cpu(), torch.ones(9, dtype=torch.float64))


def test_leaves_out_corners() -> None:
    a, b, radii = noise(16, 1), noise(16, 2), frequency_radius(16)
    corners = torch.from_numpy(np.fft.ifftn(np.fft.fftn(noise(16, 3).numpy()) * (radii >= 8.5)).real)
    torch.testing.assert_close(fsc(a + 5 * corners, b + 5 * corners), fsc(a, b))


@pytest.mark.parametrize("spill", [0.0, 1e-3])
def test_a_volume_that_ends_at_the_nyquist_sphere_is_compared_as_far_as_that(spill: float) -> None:
    """Moved and resampled volumes end there; a map that does not would look worse than it is in the last shell."""
    volume, inside = noise(16, 1), frequency_radius(16) < 8
    factor = np.where(inside, 1.0, spill)
    cut = torch.from_numpy(np.fft.ifftn(np.fft.fftn(volume.numpy()) * factor).real)
    torch.testing.assert_close(fsc(cut, volume), torch.ones(9, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(fsc(volume, cut), fsc(cut, volume))
    assert fsc(cut + 0.2 * noise(16, 2), volume)[8] < 0.99


def test_shells_without_power_do_not_correlate() -> None:
    constant = torch.full((16, 16, 16), 0.1)
    low = torch.from_numpy(np.fft.ifftn(np.fft.fftn(noise(16, 1).numpy()) * (frequency_radius(16) < 4.5)).real).float()
    assert fsc(constant, constant).tolist() == [1.0] + [0.0] * 8
    torch.testing.assert_close(fsc(low, low), torch.tensor([1.0] * 5 + [0.0] * 4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(8, 8, 8), torch.zeros(8, 8, 8), "second volume is zero"),
        (torch.zeros(8, 8, 8), torch.ones(8, 8, 8), "first volume is zero"),
        (torch.ones(8, 8, 8), torch.full((8, 8, 8), torch.nan), "second volume holds NaN"),
        (torch.ones(8, 8, 8), torch.ones(9, 9, 9), "one shape"),
        (torch.ones(8, 8, 9), torch.ones(8, 8, 9), "cubic"),
        (torch.ones(8, 8), torch.ones(8, 8), "cubic"),
    ],
)
def test_refuses_what_it_cannot_correlate(a: Tensor, b: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fsc(a, b)


def test_resolution_is_interpolated_in_spatial_frequency() -> None:
    curve = torch.tensor([1.0, 1.0, 0.9, 0.3, 0.1], dtype=torch.float64)
    found = resolution(curve, 0.5, box=8, voxel_size=2.0)
    # two thirds of the way from shell 2 to shell 3
    assert found.state == "crossed"
    assert found.value == pytest.approx(16 / (2 + 2 / 3))


def test_resolution_is_the_first_crossing() -> None:
    curve = torch.tensor([1.0, 0.9, 0.1, 0.9, 0.9], dtype=torch.float64)
    assert resolution(curve, 0.5, 8, 1.0) == Resolution(8 / 1.5, "crossed")


def test_resolution_on_the_threshold_is_not_yet_below() -> None:
    curve = torch.tensor([1.0, 0.9, 0.5, 0.3, 0.3], dtype=torch.float64)
    assert resolution(curve, 0.5, 8, 1.0) == Resolution(4.0, "crossed")


@pytest.mark.parametrize("box", [8, 9])
def test_resolution_above_to_nyquist(box: int) -> None:
    assert resolution(torch.full((5,), 0.6), 0.5, box, 1.5) == Resolution(3.0, "above_to_nyquist")


def test_resolution_below_at_first_shell_whatever_comes_after_and_whatever_the_mean_does() -> None:
    curve = torch.tensor([1.0, 0.4, 0.9, 0.9, 0.9], dtype=torch.float64)
    assert resolution(curve, 0.5, 8, 1.0) == Resolution(None, "below_at_first_shell")
    curve = torch.tensor([-1.0, 0.9, 0.9, 0.9, 0.9], dtype=torch.float64)
    assert resolution(curve, 0.5, 8, 1.0).state == "above_to_nyquist"


def test_resolution_refuses_a_curve_of_another_box() -> None:
    with pytest.raises(InputError, match="5 shells for box 8, got 4"):
        resolution(torch.ones(4), 0.5, 8, 1.0)


def test_both_thresholds_and_the_frequency_axis() -> None:
    curve = torch.tensor([1.0, 0.9, 0.3, 0.1, 0.1], dtype=torch.float64)
    found = resolutions(curve, 8, 1.0)
    assert list(found) == ["0.143", "0.5"]
    assert found["0.143"].value is not None
    assert found["0.5"].value is not None
    assert found["0.143"].value < found["0.5"].value
    np.testing.assert_allclose(spatial_frequencies(8, 2.0).numpy(), np.arange(5) / 16)
