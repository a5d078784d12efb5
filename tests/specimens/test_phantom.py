from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from cryobench.physics.fourier import fourier_crop_volumes, invert_images
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.physics.symmetry import symmetrise
from cryobench.specimens.atoms import AtomicModel
from cryobench.specimens.phantom import Phantom
from cryobench.specimens.render import render_points

BOX, VOXEL = 184, 1.274
FIELD = BOX * VOXEL

FIRST_SHELL = 6
"""39.1 Å; the last one below is shell 32, 7.33 Å, the Nyquist frequency of box 64."""

POWER_OF_5A1A = np.fromstring(
    "198.9 120.9 68.51 42.77 31.95 21.41 15.96 13.12 14.1 13.92 9.59 8.833 8.395 7.051 5.765 5.794 6.175 5.719 5.09 4.421 "
    "3.891 3.36 2.935 3.0 2.981 2.774 2.483",
    sep=" ",
)
"""Mean |F|^2 / 1e5 in each shell of the density of PDB 5A1A at 2.5 Å on this grid, by ``AtomicModel``."""


def shell_power(density: torch.Tensor) -> NDArray[np.float64]:
    """Rotationally averaged power in shells 6 to 32 and nothing else: an FFT of numpy's, shells by rounding."""
    spectrum = np.fft.fftn(density.double().numpy())
    k = np.fft.fftfreq(BOX, 1 / BOX)
    shell = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).round().astype(int).ravel()
    power = np.bincount(shell, (np.abs(spectrum) ** 2).ravel()) / np.bincount(shell)
    return power[FIRST_SHELL : FIRST_SHELL + len(POWER_OF_5A1A)]


def scale_to(power: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """``power`` scaled so that both have the same total between 40 and 7.33 Å; a shell has as many coefficients as its area."""
    area = np.arange(FIRST_SHELL, FIRST_SHELL + len(power)) ** 2
    return power * (reference @ area) / (power @ area)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom()


@pytest.fixture(scope="module")
def native(phantom: Phantom) -> torch.Tensor:
    return phantom.density(BOX, VOXEL)


def test_it_has_the_power_of_a_protein(native):
    ratio = scale_to(shell_power(native), POWER_OF_5A1A) / POWER_OF_5A1A
    assert ratio.min() > 0.5
    assert ratio.max() < 2


def test_the_curve_of_the_protein_is_what_its_atoms_give(data_directory):
    model = AtomicModel("5A1A", data_directory / "models/5a1a.cif.gz", symmetry="D2")
    np.testing.assert_allclose(shell_power(model.density(BOX, VOXEL)) / 1e5, POWER_OF_5A1A, rtol=2e-3)


def fitted_resolution(density: torch.Tensor, kind: str, starts: list[tuple[float, float, float]]) -> float:
    """Resolution (FSC 0.5) of the ellipsoid that fits best, its axes on the grid's (those of D2), in angstrom.

    A solid one has three semi-axes and a soft edge, a hollow one also a scaled copy of itself taken away, a Gaussian three
    widths. Their transforms are closed forms; Nelder-Mead raises the FSC of the first shells, from several starts.
    """
    n = density.shape[-1]
    spectrum = np.fft.fftn(np.fft.ifftshift(density.double().numpy()))
    k = np.fft.fftfreq(n, 1 / n)
    kz, ky, kx = np.meshgrid(k, k, k, indexing="ij")
    shell = np.sqrt(kx**2 + ky**2 + kz**2).round().astype(int)
    used = (shell > 0) & (shell <= 10)
    kx, ky, kz, shell, spectrum = kx[used], ky[used], kz[used], shell[used], spectrum[used].real

    def ball(u):
        return 3 * (np.sin(u) - u * np.cos(u)) / np.maximum(u, 1e-6) ** 3

    def curve(parameters):
        a, b, c, edge, fraction, inner = parameters
        u = 2 * np.pi * np.sqrt((a * kx) ** 2 + (b * ky) ** 2 + (c * kz) ** 2) / FIELD
        if kind == "gaussian":
            model = np.exp(-(u**2) / 10)
        else:
            model = ball(u) - (fraction * inner**3 * ball(inner * u) if kind == "hollow" else 0)
            model = model * np.exp(-2 * (np.pi * edge / FIELD) ** 2 * (kx**2 + ky**2 + kz**2))
        cross, norm = (
            np.bincount(shell, spectrum * model),
            np.bincount(shell, spectrum**2) * np.bincount(shell, model**2),
        )
        return (cross / np.sqrt(norm + 1e-30))[1:]

    def resolution(fsc):
        below = int(np.argmax(fsc < 0.5))
        return FIELD / (below + (fsc[below - 1] - 0.5) / (fsc[below - 1] - fsc[below])) if below else FIELD

    found = []
    for start, shells in itertools.product(starts, (4, 6, 7)):
        fit = minimize(
            lambda p, shells=shells: -np.clip(curve(p)[:shells], -1, 0.8).sum(),
            (*start, 3.0, 0.3, 0.5),
            method="Nelder-Mead",
            options={"maxiter": 250},
        )
        found.append(resolution(curve(fit.x)))
    return min(found)


@pytest.mark.parametrize("kind", ["solid", "hollow", "gaussian"])
def test_no_ellipsoid_comes_near_it(phantom, kind):
    assert fitted_resolution(phantom.density(32, FIELD / 32), kind, [(90, 68, 46), (75, 55, 40), (60, 60, 60)]) > 45


def test_the_fit_would_find_an_ellipsoid():
    """The yardstick itself: a soft ellipsoid of points is recognised to 35 Å at least."""
    points = np.indices((41, 41, 41)).reshape(3, -1).T / 20 - 1
    points = points[np.linalg.norm(points, axis=1) < 1] * [80, 60, 40]
    density = render_points(points, np.ones(len(points)), 4.0, 32, FIELD / 32)
    assert fitted_resolution(density, "solid", [(90, 68, 46)]) < 35


@pytest.mark.parametrize("box", [48, 49])
def test_it_is_invariant_under_d2_to_rounding(phantom, box):
    density = phantom.density(box, FIELD / box)
    assert (symmetrise(density, "D2") - density).abs().max() < 1e-5 * density.max()


def test_it_has_no_more_symmetry_than_d2(phantom):
    """Chiral, and its three axes differ: nothing that an aligner could confuse."""
    density = phantom.density(32, FIELD / 32)
    density = density - density.mean()
    mirrored = density.roll(-1, 0).flip(0)
    turned = density.roll(-1, 1).flip(1).transpose(1, 2)
    for other in (mirrored, turned):
        assert (density * other).sum() < 0.8 * density.square().sum()


def test_it_is_positive(phantom, native):
    assert phantom.mixture.weights.min() > 0
    assert native.min() > -1e-3 * native.max()


def test_it_fits_the_field_of_view_with_room_for_shifts(phantom):
    m = phantom.mixture
    assert m.support_radius < 105
    extent = 2 * np.abs(m.centres).max(0)
    assert extent == pytest.approx([180, 125, 90], rel=0.1)
    np.testing.assert_allclose(m.weights @ m.centres, 0, atol=1e-6 * m.weights.sum())


def test_working_boxes_hold_the_fourier_crop(phantom, native):
    for box in (64, 33):
        density = phantom.density(box, FIELD / box)
        assert (density - fourier_crop_volumes(native, box)).norm() < 1e-4 * density.norm()


def test_projections_in_closed_form_integrate_the_density(phantom):
    """Samples on a grid that resolves the Gaussians, in turned poses; then the band-limited transform on a coarse grid."""
    m = phantom.mixture
    generator = torch.Generator().manual_seed(5)
    rotations = quaternion_to_matrix(uniform_quaternions(2, generator, torch.float64))
    shifts = torch.tensor([[7.3, -11.1], [0.0, 4.2]], dtype=torch.float64)
    coarse = invert_images(m.transform_projections(rotations, shifts, 48, FIELD / 48), 48)
    samples = m.project(rotations, shifts, BOX, VOXEL)
    for i in range(2):
        centres = m.centres @ rotations[i].numpy().T + [*shifts[i].numpy(), 0]
        integrated = render_points(centres, m.weights, m.width, 48, FIELD / 48).double().sum(0) * FIELD / 48
        assert (coarse[i] - integrated).norm() < 1e-4 * integrated.norm()
    centres = m.centres @ rotations[0].numpy().T + [*shifts[0].numpy(), 0]
    integrated = render_points(centres, m.weights, m.width, BOX, VOXEL).double().sum(0) * VOXEL
    assert (samples[0] - integrated).norm() < 1e-3 * integrated.norm()


def test_the_chain_is_a_chain_and_stays_the_one_that_was_measured(phantom):
    backbone = phantom.mixture.centres[:2040:2]
    steps = np.linalg.norm(np.diff(backbone, axis=0), axis=1)
    assert steps.min() > 3.3
    assert steps.max() < 4.5
    np.testing.assert_allclose(
        phantom.mixture.centres[[0, 1, -1]],
        [
            [20.79063961, 16.18682916, -0.09577593],
            [19.55206189, 14.68328859, -0.54886643],
            [-73.9474393, -4.2909621, 6.98624546],
        ],
        atol=1e-6,
    )
