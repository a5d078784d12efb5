from __future__ import annotations

import numpy as np
import pytest
import torch

from cryobench.errors import InputError
from cryobench.physics.fourier import fourier_crop_volumes, invert_images, transform_images
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.specimens.gaussians import GaussianMixture
from cryobench.specimens.render import render_points, sample_points


def mixture(width: float = 5.0, count: int = 200) -> GaussianMixture:
    generator = np.random.default_rng(1)
    return GaussianMixture(generator.normal(size=(count, 3)) * 12, generator.uniform(1, 2, count), width)


def poses(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shifts = torch.randn(count, 2, generator=generator, dtype=torch.float64) * 8
    return quaternion_to_matrix(uniform_quaternions(count, generator, torch.float64)), shifts


@pytest.mark.parametrize("box", [40, 41])
def test_density_of_wide_gaussians_is_their_sum(box):
    """At 1.4 voxels of width nothing is left at the Nyquist frequency, so samples of the formula are the oracle."""
    m, a = mixture(), 3.5
    axis = (np.arange(box) - box // 2) * a
    x, y, z = (np.exp(-((axis[:, None] - m.centres[:, i]) ** 2) / 50) / np.sqrt(50 * np.pi) for i in range(3))
    expected = np.einsum("zq,yq,xq->zyx", z * m.weights, y, x)
    density = m.density(box, a)
    assert density.dtype == torch.float32
    assert np.abs(density.numpy() - expected).max() < 2e-4 * expected.max()


def test_spectrum_of_bare_points_is_the_direct_sum():
    """The non-uniform transform against its definition, at every kept frequency, for points far narrower than a voxel."""
    m, box, a = mixture(count=50), 24, 7.0
    volume = render_points(m.centres, m.weights, 0.0, box, a).double()
    found = torch.fft.fftn(torch.fft.ifftshift(volume)).numpy() * a**3
    k = np.fft.fftfreq(box, 1 / box)
    x, y, z = (np.exp(-2j * np.pi * np.outer(k, m.centres[:, i]) / (box * a)) for i in range(3))
    expected = np.einsum("zq,yq,xq->zyx", z * m.weights, y, x)
    inside = k[:, None, None] ** 2 + k[:, None] ** 2 + k**2 < (box / 2) ** 2
    assert np.abs(found - expected * inside).max() < 5e-5 * m.weights.sum()


def test_density_integrates_to_the_weights_and_coarse_grids_are_fourier_crops():
    m = mixture(width=0.6)
    fine = m.density(96, 1.5)
    assert float(fine.double().sum()) * 1.5**3 == pytest.approx(m.weights.sum(), rel=1e-5)
    coarse = m.density(33, 96 * 1.5 / 33)
    assert (coarse - fourier_crop_volumes(fine, 33)).norm() < 1e-4 * coarse.norm()


def test_a_band_limit_leaves_nothing_beyond_itself():
    m, box, a = mixture(width=0.0), 32, 5.0
    volume = render_points(m.centres, m.weights, 0.0, box, a, band_limit=1 / 16)
    power = torch.fft.fftn(volume.double()).abs() ** 2
    k = torch.fft.fftfreq(box, a, dtype=torch.float64)
    s = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt()
    assert power[s >= 1 / 16].sum() < 1e-9 * power.sum()
    assert power[(s < 1 / 16) & (s > 1 / 20)].sum() > 0


def test_projections_integrate_the_density_along_the_beam():
    """In each pose the turned mixture's density, summed along z, is the projection: a second road to the same images."""
    m, box, a = mixture(), 48, 3.5
    rotations, shifts = poses()
    images = m.project(rotations, shifts, box, a)
    for image, rotation, shift in zip(images, rotations, shifts, strict=True):
        centres = m.centres @ rotation.numpy().T + np.append(shift.numpy(), 0)
        integrated = render_points(centres, m.weights, m.width, box, a).double().sum(0) * a
        assert (integrated - image).abs().max() < 3e-4 * image.max()


def test_projection_lands_a_point_where_the_conventions_say():
    m = GaussianMixture(np.array([[12.0, -8.0, 30.0]]), np.array([2.0]), 4.0)
    turn = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]], dtype=torch.float64)  # x to y, y to -x
    image = m.project(turn, torch.tensor([[4.0, -4.0]]), 32, 4.0)[0]
    assert divmod(int(image.argmax()), 32) == (16 + (12 - 4) // 4, 16 + (8 + 4) // 4)
    assert float(image.sum()) * 16 == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("box", [32, 33])
def test_transformed_projections_are_the_transform_of_the_projections(box):
    m, (rotations, shifts) = mixture(width=9.0), poses()
    spectra = m.transform_projections(rotations, shifts, box, 6.0)
    assert (spectra - transform_images(m.project(rotations, shifts, box, 6.0))).abs().max() < 1e-5 * spectra.abs().max()


def test_transformed_projections_are_band_limited_where_samples_alias():
    """Narrow Gaussians on a coarse grid: the transform gives the exact central section of the band-limited density."""
    m = mixture(width=0.5)
    identity, still = torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 2, dtype=torch.float64)
    image = invert_images(m.transform_projections(identity, still, 32, 5.0), 32)[0]
    integrated = m.density(32, 5.0).double().sum(0) * 5.0
    assert (image - integrated).norm() < 1e-4 * integrated.norm()


def test_a_mixture_larger_than_the_box_is_refused():
    with pytest.raises(InputError, match=r"field of view of at least \d+ Å.*16 voxels of 2 Å = 32 Å"):
        mixture().density(16, 2.0)


def test_gaussians_of_many_widths_are_the_sum_of_those_of_each():
    """From bare points to wide blobs, several at one place: the few transforms of all against one transform of each width."""
    generator = np.random.default_rng(3)
    places = np.repeat(generator.normal(size=(40, 3)) * 8, 3, axis=0)
    weights, widths = generator.uniform(-1, 2, 120), generator.choice([0.0, 0.3, 0.8, 2.5, 6.0], 120)
    together = render_points(places, weights, widths, 40, 1.5)
    apart = sum(
        render_points(places[widths == width], weights[widths == width], float(width), 40, 1.5)
        for width in np.unique(widths)
    )
    assert (together - apart).norm() < 2e-5 * apart.norm()
    coarse = render_points(places, weights, widths, 20, 3.0)
    assert (coarse - fourier_crop_volumes(together, 20)).norm() < 1e-4 * coarse.norm()


def test_projections_of_many_widths_integrate_the_density():
    generator = np.random.default_rng(4)
    m = GaussianMixture(generator.normal(size=(90, 3)) * 12, generator.uniform(1, 2, 90), generator.uniform(4, 8, 90))
    rotations, shifts = poses(2)
    images = m.project(rotations, shifts, 48, 3.5)
    assert (m.transform_projections(rotations, shifts, 48, 3.5) - transform_images(images)).abs().max() < 2e-3
    for image, rotation, shift in zip(images, rotations, shifts, strict=True):
        centres = m.centres @ rotation.numpy().T + np.append(shift.numpy(), 0)
        integrated = render_points(centres, m.weights, m.width, 48, 3.5).double().sum(0) * 3.5
        assert (integrated - image).abs().max() < 1e-3 * image.max()
    assert m.support_radius == pytest.approx(float((np.linalg.norm(m.centres, axis=1) + 3 * m.width).max()))


@pytest.mark.parametrize("average", [1, 2, 3])
def test_sampled_points_are_means_of_the_formula(average):
    """Every fine voxel by the formula, then averaged by hand; widths and signs of all kinds, away from the edges."""
    generator = np.random.default_rng(5)
    points, weights, widths = (
        generator.uniform(-7, 7, (12, 3)),
        generator.normal(size=12),
        generator.uniform(0.4, 1.1, 12),
    )
    box, a = 15, 2.0
    fine = (np.arange(box * average) - (average - 1) / 2) * a / average - box // 2 * a
    x, y, z = (
        np.exp(-((fine[:, None] - points[:, i]) ** 2) / (2 * widths**2)) / (np.sqrt(2 * np.pi) * widths)
        for i in range(3)
    )
    expected = np.einsum("zq,yq,xq->zyx", z * weights, y, x)
    expected = expected.reshape((box, average) * 3).mean((1, 3, 5))
    found = sample_points(points, weights, widths, box, a, average)
    assert np.abs(found.numpy() - expected).max() < 1e-6 * np.abs(expected).max()
