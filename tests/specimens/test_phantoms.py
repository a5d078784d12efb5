from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cryobench.errors import UnknownName
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.physics.symmetry import symmetrise, symmetry_rotations
from cryobench.specimens import fold, packing, phantom
from cryobench.specimens.atoms import AtomicModel
from cryobench.specimens.catalogue import find
from cryobench.specimens.ensemble import Ensemble, states_of
from cryobench.specimens.maps import DensityMap
from cryobench.specimens.phantom import Phantom, make_phantom
from cryobench.specimens.render import render_points

VOXEL = 2.548
"""Twice the native voxel: the same Fourier coefficients to 5.1 Å, an eighth of the work."""
SINGLE = ("phantom", "phantom-c1", "phantom-o", "phantom-ribosome")


def made(name: str) -> Phantom:
    specimen = find(name)
    assert isinstance(specimen, Phantom)
    return specimen


def shell_power(density: torch.Tensor) -> NDArray[np.float64]:
    n = density.shape[-1]
    k = np.fft.fftfreq(n, 1 / n)
    shell = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).round().astype(int).ravel()
    return np.bincount(shell, np.abs(np.fft.fftn(density.double().numpy()).ravel()) ** 2) / np.bincount(shell)


def power_over(density: torch.Tensor, reference: torch.Tensor) -> NDArray[np.float64]:
    """Ratio of the powers at every shell from 39 to 7.33 Å, scaled to the same total there."""
    length = density.shape[-1] * VOXEL
    k = np.arange(int(np.ceil(length / 40)), int(length / 7.33) + 1)
    a, b = shell_power(density)[k], shell_power(reference)[k]
    return a / b * (b @ k**2) / (a @ k**2)


@pytest.mark.parametrize(
    ("name", "group", "extent", "radius", "electrons"),
    [
        ("phantom", "D2", (179, 116, 84), 96, 216240),
        ("phantom-c1", "C1", (68, 48, 87), 57, 21200),
        ("phantom-o", "O", (116, 116, 116), 73, 221328),
        ("phantom-ribosome", "C1", (249, 213, 234), 149, 1038216),
    ],
)
def test_size_and_symmetry_are_what_is_stated(name, group, extent, radius, electrons):
    specimen, m = made(name), made(name).mixture
    assert specimen.symmetry == group
    np.testing.assert_allclose(np.ptp(m.centres, axis=0), extent, atol=1)
    assert m.support_radius == pytest.approx(radius, abs=1)
    assert m.weights.sum() == electrons
    assert m.weights.min() > 0
    np.testing.assert_allclose(m.weights @ m.centres / m.weights.sum(), 0, atol=1e-6)


@pytest.mark.parametrize("name", ["phantom", "phantom-o"])
def test_the_gaussians_are_invariant_bit_for_bit(name):
    """The rotations of D2 and O only swap and flip coordinates: the same set of points, each with its weight."""
    specimen = made(name)
    m = specimen.mixture
    points = np.column_stack([m.centres + 0.0, m.weights])  # + 0.0: no negative zeros
    for rotation in symmetry_rotations(specimen.symmetry).numpy():
        turned = np.column_stack([m.centres @ rotation.T + 0.0, m.weights])
        np.testing.assert_array_equal(points[np.lexsort(points.T)], turned[np.lexsort(turned.T)])


@pytest.mark.parametrize("box", [48, 49])
def test_densities_are_invariant_to_rounding(box):
    density = made("phantom-o").density(box, 180 / box)
    assert (symmetrise(density, "O") - density).abs().max() < 1e-5 * density.max()


@pytest.mark.parametrize("name", ["phantom-c1", "phantom-o", "phantom-ribosome"])
def test_there_is_no_more_symmetry_than_is_stated(name):
    """Neither a mirror nor any quarter or half turn about the axes that is not in the group brings it back."""
    specimen = made(name)
    m, box = specimen.mixture, 40
    voxel_size = 2.1 * m.support_radius / box
    some = slice(None, None, max(1, len(m.centres) // 8000))  # the large ones are large enough to be thinned
    density = render_points(m.centres[some], m.weights[some], m.width, box, voxel_size)
    density -= density.mean()
    own = [r.tobytes() for r in symmetry_rotations(specimen.symmetry).numpy()]
    others = [r for r in symmetry_rotations("O").numpy() if r.tobytes() not in own]
    for turn in [-np.eye(3), *others]:
        turned = render_points(m.centres[some] @ turn.T, m.weights[some], m.width, box, voxel_size)
        assert (density * turned).sum() < 0.8 * density.square().sum()


@pytest.mark.parametrize(("name", "box"), [("phantom-c1", 96), ("phantom-o", 128), ("phantom-ribosome", 236)])
def test_they_are_positive(name, box):
    density = made(name).density(box, VOXEL / 2)
    assert density.min() > -6e-4 * density.max()


@pytest.mark.parametrize(
    ("name", "file", "group", "box", "least", "most"),
    [
        ("phantom-c1", "8zpm.cif.gz", "C1", 64, 0.69, 1.42),
        ("phantom-o", "6z6u.pdb.gz", "O", 92, 0.53, 3.03),
        ("phantom-path", "5a1a.cif.gz", "D2", 92, 0.56, 1.70),
        ("phantom-ribosome", "5a1a.cif.gz", "D2", 118, 0.52, 1.56),
    ],
)
def test_the_power_is_that_of_a_real_molecule(data_directory, name, file, group, box, least, most):
    real = AtomicModel(file, data_directory / "models" / file, symmetry=group).density(box, VOXEL)
    state, _ = states_of(find(name))[0]
    ratio = power_over(state.density(box, VOXEL), real)
    assert ratio.min() == pytest.approx(least, abs=0.06)
    assert ratio.max() == pytest.approx(most, abs=0.15)


def test_power_of_the_ribosome_over_a_real_map(data_directory):
    """One scale and one B-factor fitted in the logarithm from 54 to 11 Å; beta-galactosidase beside it, as a yardstick."""
    real = DensityMap("70S", data_directory / "maps/clean70SRibosome_vol_65p.mrc", voxel_size=5.0).density(65, 5.0)
    betagal = AtomicModel("b", data_directory / "models/5a1a.cif.gz", symmetry="D2")
    k = np.arange(6, 31)
    ratios = []
    for specimen in (made("phantom-ribosome"), betagal):
        log = np.log(shell_power(specimen.density(130, 2.5))[k] / shell_power(real)[k])
        ratios.append(np.exp(log - np.polyval(np.polyfit(k**2, log, 1), k**2)))
    assert (ratios[0].min(), ratios[0].max()) == pytest.approx((0.22, 5.5), rel=0.05)
    assert (ratios[1].min(), ratios[1].max()) == pytest.approx((0.30, 3.9), rel=0.05)


def test_projections_in_closed_form_integrate_the_density():
    for name in ("phantom-c1", "phantom-o"):
        m, box = made(name).mixture, 64
        rotation = quaternion_to_matrix(uniform_quaternions(1, torch.Generator().manual_seed(6), torch.float64))
        image = m.project(rotation, torch.tensor([[3.1, -2.2]]), box, 2.6)[0]
        centres = m.centres @ rotation[0].numpy().T + [3.1, -2.2, 0]
        integrated = render_points(centres, m.weights, m.width, 2 * box, 1.3).double().sum(0)[::2, ::2] * 1.3
        assert (image - integrated).norm() < 1e-3 * integrated.norm()


def test_they_are_made_fast_and_stay_the_ones_that_were_measured():
    for cached in (phantom._fold, packing.pack_ribosome):
        cached.cache_clear()
    start = time.process_time()
    first = {name: made(name).mixture.centres[0] for name in SINGLE}
    assert time.process_time() - start < 3 * len(SINGLE)
    expected = {
        "phantom": (20.79063961, 16.18682916, -0.09577593),
        "phantom-c1": (-13.81264398, 5.77700562, -31.49272908),
        "phantom-o": (-1.9464483, -17.66598161, 54.1524411),
        "phantom-ribosome": (40.28153765, -7.88989616, -99.4873917),
    }
    for name, centre in first.items():
        np.testing.assert_allclose(centre, expected[name], atol=1e-6)


def test_a_chain_of_one_bead_spacing_whatever_the_symmetry():
    generator = np.random.default_rng(0)
    beads = fold.fold_chain(generator, np.array([[30.0, 5.0, 9.0]]), 15.0, 120, symmetry_rotations("T").numpy())
    assert beads.shape == (120, 2, 3)
    steps = np.linalg.norm(np.diff(beads[:, 0], axis=0), axis=1)
    assert steps.min() > 3.3
    assert steps.max() < 4.5


def test_the_path_moves_an_arm_and_nothing_else():
    path = find("phantom-path,states=5")
    assert isinstance(path, Ensemble)
    assert path.weights == (0.2,) * 5
    centres = np.array([state.mixture.centres for state in path.states])  # type: ignore[attr-defined]
    moved = np.ptp(centres, axis=0).max(1) > 1e-9
    assert moved.sum() == 2 * 408
    body, arm = centres[:, ~moved], centres[:, moved]
    np.testing.assert_array_equal(body, np.broadcast_to(body[0], body.shape))
    steps = np.linalg.norm(np.diff(arm, axis=0), axis=2)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-9)  # equal angles
    assert steps.max() > 10
    gaps = np.linalg.norm(arm[:, ::7, None] - body[:, None, ::7], axis=-1).min((1, 2))
    assert gaps.min() > 1.5  # the arm never runs into the body


def test_neighbouring_states_are_alike_and_the_ends_are_not():
    states = [state.density(92, VOXEL).ravel() for state, _ in states_of(find("phantom-path"))]
    correlations = torch.corrcoef(torch.stack([states[i] for i in (0, 1, 7)]))[0]
    assert float(correlations[1]) == pytest.approx(0.89, abs=0.01)
    assert float(correlations[2]) == pytest.approx(0.72, abs=0.01)


def test_an_unknown_phantom_is_named():
    with pytest.raises(UnknownName, match="phantom-o"):
        make_phantom("phantom-i", "")
