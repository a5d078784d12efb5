from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cryobench.evaluate.directional import correlate_cones, measure_anisotropy, measure_sphericity, spread_directions
from cryobench.evaluate.fsc import fsc
from cryobench.physics.grids import radius

BOX, VOXEL = 32, 2.0


def noise(seed: int, box: int = BOX) -> Tensor:
    return torch.randn(box, box, box, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def signal(stretch: float) -> Tensor:
    """Power that falls off along z ``stretch`` times as fast as along x and y."""
    k = torch.fft.fftfreq(BOX, 1 / BOX, dtype=torch.float64)
    squared = (stretch * k[:, None, None]) ** 2 + k[:, None] ** 2 + k**2
    return 8 * torch.fft.ifftn(torch.fft.fftn(noise(0)) * torch.exp(-squared / 60)).real


def test_cones_that_hold_everything_give_the_plain_curve() -> None:
    a, b = noise(1), noise(1) + noise(2)
    found = correlate_cones(a, b, spread_directions(3), half_angle=90)
    torch.testing.assert_close(found, fsc(a, b).expand(3, -1))


@pytest.mark.parametrize("box", [15, 16])
def test_agrees_with_a_plain_loop_over_half_spectra(box: int) -> None:
    a, b = noise(1, box), noise(1, box) + noise(2, box)
    spectrum_a, spectrum_b = np.fft.rfftn(a.numpy()), np.fft.rfftn(b.numpy())
    k = np.fft.fftfreq(box, 1 / box)
    z, y, x = np.meshgrid(k, k, np.fft.rfftfreq(box, 1 / box), indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    directions = spread_directions(4)
    found = correlate_cones(a, b, directions, half_angle=33.0)
    for d, (u, v, w) in enumerate(directions):
        for shell in range(4, box // 2 + 1):
            inside = np.round(r) == shell
            inside &= np.abs(u * x + v * y + w * z) >= np.cos(np.deg2rad(33.0)) * r
            f, g = spectrum_a[inside], spectrum_b[inside]
            expected = np.sum(f * g.conj()).real / np.sqrt(np.sum(abs(f) ** 2) * np.sum(abs(g) ** 2))
            assert float(found[d, shell]) == pytest.approx(expected, abs=1e-9)


def test_of_noise_without_a_preference_is_nearly_the_same_in_every_direction() -> None:
    base = signal(1.0)
    directions = spread_directions(100)
    curves = correlate_cones(base + noise(3), base + noise(4), directions)
    found = measure_anisotropy(curves, directions, 0.5, VOXEL, BOX)
    assert found.sphericity is not None
    assert found.sphericity > 0.93


def test_finds_the_direction_that_lacks_signal() -> None:
    base = signal(2.0)
    directions = spread_directions(100)
    curves = correlate_cones(base + noise(3), base + noise(4), directions)
    found = measure_anisotropy(curves, directions, 0.143, VOXEL, BOX)
    assert found.worst_direction[2] > 0.85
    assert found.worst.value is not None
    assert found.best.value is not None
    assert found.worst.value > 1.4 * found.best.value
    assert found.sphericity is not None
    assert found.sphericity < 0.95
    assert found.deviation_of_frequency > 0.1 * found.mean_frequency


def test_a_direction_without_signal_has_no_resolution_and_the_whole_no_sphericity() -> None:
    directions = spread_directions(5)
    curves = torch.full((5, BOX // 2 + 1), 0.9, dtype=torch.float64)
    curves[2, 1:] = 0.0
    found = measure_anisotropy(curves, directions, 0.5, VOXEL, BOX)
    assert found.worst.state == "below_at_first_shell"
    assert found.best.state == "above_to_nyquist"
    assert found.sphericity is None
    np.testing.assert_allclose(found.worst_direction, directions[2])


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_sphericity_of_a_spheroid_is_the_closed_form(ratio: float) -> None:
    directions = spread_directions(800)
    radii = 1 / np.sqrt(directions[:, 0] ** 2 + directions[:, 1] ** 2 + (directions[:, 2] / ratio) ** 2)
    if ratio < 1:
        e = np.sqrt(1 - ratio**2)
        area = 2 * np.pi * (1 + (1 - e**2) / e * np.arctanh(e))
    elif ratio > 1:
        e = np.sqrt(1 - 1 / ratio**2)
        area = 2 * np.pi * (1 + ratio / e * np.arcsin(e))
    else:
        area = 4 * np.pi
    expected = np.pi ** (1 / 3) * (6 * 4 / 3 * np.pi * ratio) ** (2 / 3) / area
    assert measure_sphericity(directions, radii) == pytest.approx(expected, rel=5e-3)


def test_directions_are_unit_vectors_spread_evenly() -> None:
    directions = spread_directions(300)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    np.testing.assert_allclose(directions.T @ directions / 300, np.eye(3) / 3, atol=0.01)
    # no coefficient is farther from an axis than a cone is wide
    k = radius(8, 3, torch.zeros(()))
    grid = np.stack(np.nonzero(k.numpy() > 0.5), -1)[:, ::-1] - 4.0
    cosines = np.abs(grid @ directions.T) / np.linalg.norm(grid, axis=1, keepdims=True)
    assert np.rad2deg(np.arccos(cosines.max(1).min())) < 10
