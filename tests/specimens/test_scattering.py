from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch

from cryobench.errors import InputError
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.specimens.atoms import AtomicModel
from cryobench.specimens.scattering import VOLT_ANGSTROM2, scatter
from cryobench.specimens.structure import Atoms

FIELD = 48.0


def atoms(elements=(6, 7, 8, 16, 12), count: int = 60, b_factors=(5.0, 90.0), seed: int = 0) -> Atoms:
    """A ball of random atoms of 10 Å radius with random B-factors, centred by atomic number."""
    generator = np.random.default_rng(seed)
    numbers = generator.choice(elements, count)
    positions = generator.normal(size=(count, 3)) * 4
    return Atoms(
        positions - numbers @ positions / numbers.sum(),
        numbers,
        generator.uniform(0.3, 1, count),
        generator.uniform(*b_factors, count),
        left_out=0,
    )


def by_gemmi(atoms: Atoms, blur: float, b_factors: bool, spacing: float) -> torch.Tensor:
    """The potential in volts on a periodic cube of ``FIELD`` Å, atoms about voxel ``n // 2``, by gemmi's own calculator."""
    structure, model, chain, residue = gemmi.Structure(), gemmi.Model(1), gemmi.Chain("A"), gemmi.Residue()
    residue.name, residue.seqid = "LIG", gemmi.SeqId(1, " ")
    for position, number, occupancy, b in zip(
        atoms.positions, atoms.elements, atoms.occupancies, atoms.b_factors, strict=True
    ):
        atom = gemmi.Atom()
        atom.name, atom.element = "X", gemmi.Element(int(number))
        atom.pos = gemmi.Position(*(position + FIELD / 2))
        atom.occ, atom.b_iso = occupancy, b if b_factors else 0.0
        residue.add_atom(atom)
    chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    structure.cell = gemmi.UnitCell(FIELD, FIELD, FIELD, 90, 90, 90)
    structure.spacegroup_hm = "P 1"
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min, calculator.rate, calculator.blur, calculator.cutoff = 2 * spacing, 1.0, blur, 1e-8
    calculator.set_grid_cell_and_spacegroup(structure)
    calculator.put_model_density_on_grid(structure[0])
    grid = np.array(calculator.grid, copy=True)
    assert grid.shape == (round(FIELD / spacing),) * 3
    return torch.from_numpy(47.878 * grid.transpose(2, 1, 0))


@pytest.mark.parametrize("b_factors", [False, True])
@pytest.mark.parametrize("resolution", [2.5, 5.0])
def test_the_potential_is_what_gemmi_calculates(resolution, b_factors):
    """Another program's sum over the same factors, on a grid three times finer, cropped in Fourier space."""
    model = atoms()
    fine = by_gemmi(model, 8 * np.pi**2 * (0.225 * resolution) ** 2, b_factors, 0.4)
    box = 40
    expected = fourier_crop_volumes(fine, box).double()
    density = scatter(model, "electron", resolution, b_factors).density(box, FIELD / box).double()
    # the crop keeps the corners of the Fourier cube, which the density leaves out
    spectrum = torch.fft.fftn(expected)
    k = torch.fft.fftfreq(box, 1 / box)
    inside = k[:, None, None] ** 2 + k[:, None] ** 2 + k**2 < (box / 2) ** 2
    expected = torch.fft.ifftn(spectrum * inside).real
    assert float(torch.corrcoef(torch.stack([density.ravel(), expected.ravel()]))[0, 1]) > 0.9999
    assert float((density * expected).sum() / expected.square().sum()) == pytest.approx(1, abs=1e-3)
    assert float((density - expected).norm() / expected.norm()) < 5e-3


def test_a_single_atom_is_its_closed_form(tmp_path):
    """Carbon of B 30 Å^2 at 2 Å resolution: potential and projection written out from the published five Gaussians."""
    strength = np.array([0.0893, 0.2563, 0.7570, 1.0487, 0.3575])
    blur = np.array([0.2465, 1.7100, 6.4094, 18.6113, 50.2523]) + 30 + 8 * np.pi**2 * 0.45**2
    path = one_carbon(tmp_path, b=30.0)
    model = AtomicModel("c", path, resolution=2.0, scattering="electron", b_factors=True)
    r = np.arange(12) * 0.5
    expected = 47.878 * (strength * (4 * np.pi / blur) ** 1.5 * np.exp(-4 * np.pi**2 * r[:, None] ** 2 / blur)).sum(1)
    np.testing.assert_allclose(model.density(48, 0.5)[24, 24, 24:36], expected, atol=2e-4 * expected[0])
    projection = 47.878 * (strength * 4 * np.pi / blur * np.exp(-4 * np.pi**2 * r[:, None] ** 2 / blur)).sum(1)
    image = model.mixture.project(torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 2), 48, 0.5)[0]
    np.testing.assert_allclose(image[24, 24:36], projection, rtol=1e-4)
    assert float(model.density(48, 0.5).sum()) / 8 == pytest.approx(47.878 * 2.5088, rel=1e-3)  # V Å^3: 47.878 f(0)


def one_carbon(directory: Path, b: float) -> Path:
    path = directory / "c.pdb"
    path.write_text(f"ATOM      1  CA  ALA A   1       3.000   4.000   5.000  1.00{b:6.2f}           C\n")
    return path


def test_the_constant_is_that_of_the_literature():
    assert pytest.approx(47.87801, rel=1e-5) == VOLT_ANGSTROM2


def test_b_factors_blur_the_plain_rule_too():
    model = atoms()
    mixture = scatter(model, "molmap", 2.5, b_factors=True)
    np.testing.assert_allclose(mixture.width, np.sqrt((0.225 * 2.5) ** 2 + model.b_factors / (8 * np.pi**2)))
    np.testing.assert_array_equal(mixture.weights, model.elements * model.occupancies)
    sharp, blurred = (scatter(model, "molmap", 2.5, b).density(32, 1.5) for b in (False, True))
    assert sharp.max() > 1.3 * blurred.max()
    assert float(sharp.sum()) == pytest.approx(float(blurred.sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "rule", "resolution", "b_factors", "problem"),
    [
        ({"b_factors": (-2.0, 3.0)}, "molmap", 2.5, True, "B-factors of at least 0"),
        ({"b_factors": (0.0, 0.0)}, "electron", 2.5, True, "some above"),
        ({"b_factors": (0.0, 0.0)}, "molmap", 0.0, False, "resolution above 0"),
        ({"elements": (6, 99)}, "electron", 2.5, False, "scattering factors, got Es; use molmap"),
    ],
)
def test_what_cannot_scatter_is_refused(changes, rule, resolution, b_factors, problem):
    with pytest.raises(InputError, match=problem):
        scatter(atoms(**changes), rule, resolution, b_factors)


def test_a_real_model_by_both_rules(data_directory):
    """Beta-galactosidase: nearly the same where it counts; the potential in volts is that of a protein."""
    models = [
        AtomicModel("b", data_directory / "models/5a1a.cif.gz", symmetry="D2", scattering=rule)
        for rule in ("molmap", "electron")
    ]
    plain, potential = (model.density(48, 4.884).double() for model in models)
    assert float(torch.corrcoef(torch.stack([plain.ravel(), potential.ravel()]))[0, 1]) > 0.99
    interior = potential[plain > 0.5 * plain.max()]
    assert 5 < float(interior.mean()) < 12  # the mean inner potential of protein is about 7 V


def test_averaged_voxels_of_the_study(data_directory):
    """5A1A at 2.5 Å on 0.637 Å voxels averaged to 1.274 Å, against the band-limited density: what averaging and aliasing cost."""
    path = data_directory / "models/5a1a.cif.gz"
    direct = AtomicModel("b", path, symmetry="D2").density(184, 1.274)
    averaged = AtomicModel("b", path, symmetry="D2", voxel_size=0.637, average=2).density(184, 1.274)
    assert float((averaged - direct).norm() / direct.norm()) == pytest.approx(0.158, abs=0.002)
    spectra = [np.fft.rfftn(volume.double().numpy()) for volume in (direct, averaged)]
    k = np.fft.fftfreq(184, 1 / 184)
    shell = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k[:93] ** 2).round().astype(int).ravel()
    cross, a, b = (
        np.bincount(shell, (x * y.conj()).real.ravel())
        for x, y in ((spectra[0], spectra[1]), (spectra[0], spectra[0]), (spectra[1], spectra[1]))
    )
    fsc = (cross / np.sqrt(a * b))[:92]
    assert fsc[1:46].min() > 0.999  # to 5.1 Å
    assert fsc[1:65].min() > 0.99  # to 3.6 Å
    assert 0.85 < fsc.min() < 0.92  # at the Nyquist frequency


def test_averaging_is_the_mean_of_finer_voxels(tmp_path):
    """One carbon: Gaussians at the eight half-voxels round each voxel, by hand, cut inside the Nyquist sphere."""
    model = AtomicModel("c", one_carbon(tmp_path, 20.0), resolution=10.0, voxel_size=1.0, average=2)
    box, width = 24, 0.225 * 10
    axis = (
        np.arange(2 * box) - 2 * (box // 2) + 0.5
    ) * 1.0  # centres of the fine voxels; pairs straddle a coarse centre
    axis = axis - 1.0
    line = np.exp(-(axis**2) / (2 * width**2)) / (width * np.sqrt(2 * np.pi))
    line = line.reshape(box, 2).mean(1)
    expected = torch.from_numpy(6 * np.einsum("z,y,x->zyx", line, line, line))
    density = model.density(box, 2.0).double()
    assert density.argmax() == expected.argmax()
    assert (density - expected).abs().max() < 2e-2 * expected.max()  # of the cut
    finer = model.density(48, 1.0)
    assert (finer[::2, ::2, ::2] - density).abs().max() < 1e-4 * density.max()  # any other grid is that one resampled
    with pytest.raises(InputError, match="voxel_size with average=2"):
        AtomicModel("c", tmp_path / "c.pdb", average=2)
