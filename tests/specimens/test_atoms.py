from __future__ import annotations

import gemmi
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.physics.symmetry import symmetrise, symmetry_rotations
from cryobench.specimens.atoms import AtomicModel
from cryobench.specimens.structure import read_structure


def small_structure(group: str = "C1", seed: int = 0) -> gemmi.Structure:
    """An assembly of alanine chains of one random shape, repeated by ``group`` in a random frame, off the origin."""
    generator = np.random.default_rng(seed)
    trace = np.cumsum(generator.normal(size=(30, 3)) * 2.5, axis=0) + np.array([14, 9, 6])
    frame = Rotation.random(rng=generator).as_matrix()
    structure, model = gemmi.Structure(), gemmi.Model(1)
    for name, copy in zip("ABCDEFGHIJKLMNOPQRSTUVWX", symmetry_rotations(group).numpy(), strict=False):
        chain = gemmi.Chain(name)
        for i, position in enumerate(trace @ (frame @ copy).T + [50, -30, 20]):
            residue = gemmi.Residue()
            residue.name, residue.seqid = "ALA", gemmi.SeqId(i + 1, " ")
            for j, (atom_name, element) in enumerate([("CA", "C"), ("N", "N")]):
                atom = gemmi.Atom()
                atom.name, atom.element = atom_name, gemmi.Element(element)
                atom.pos = gemmi.Position(*(position + [1.4 * j, 0, 0] @ (frame @ copy).T))
                residue.add_atom(atom)
            chain.add_residue(residue)
        model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    return structure


def write(structure: gemmi.Structure, path) -> None:
    if path.suffix == ".cif":
        structure.make_mmcif_document().write_file(str(path))
    else:
        structure.write_pdb(str(path))


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("name", ["a.pdb", "a.cif"])
def test_density_is_the_molmap_rule(tmp_path, name):
    """Against the definition: Gaussians of 0.225 resolution, weighted by atomic number, about the centre of mass."""
    write(small_structure(), tmp_path / name)
    model = AtomicModel("a", tmp_path / name, resolution=12.0)
    box, a, width = 48, 2.5, 0.225 * 12
    atoms = [(*atom.pos.tolist(), {"C": 6, "N": 7}[atom.element.name]) for atom in gemmi_atoms(tmp_path / name)]
    centres, weights = np.array(atoms)[:, :3], np.array(atoms)[:, 3]
    centres = centres - weights @ centres / weights.sum()
    axis = (np.arange(box) - box // 2) * a
    x, y, z = (
        np.exp(-((axis[:, None] - centres[:, i]) ** 2) / (2 * width**2)) / (width * np.sqrt(2 * np.pi))
        for i in range(3)
    )
    expected = np.einsum("zq,yq,xq->zyx", z * weights, y, x)
    assert np.abs(model.density(box, a).numpy() - expected).max() < 5e-3 * expected.max()


def gemmi_atoms(path):
    return [atom for chain in gemmi.read_structure(str(path))[0] for residue in chain for atom in residue]


def test_waters_and_hydrogens_are_left_out_and_occupancy_counts(tmp_path):
    structure = small_structure()
    write(structure, tmp_path / "a.pdb")
    residue = structure[0][0][3]
    hydrogen = gemmi.Atom()
    hydrogen.name, hydrogen.element, hydrogen.pos = "H", gemmi.Element("H"), residue[0].pos
    residue.add_atom(hydrogen)
    residue[0].occ = 0.5
    water = gemmi.Residue()
    water.name, water.seqid, water.het_flag = "HOH", gemmi.SeqId(900, " "), "H"
    oxygen = gemmi.Atom()
    oxygen.name, oxygen.element, oxygen.pos = "O", gemmi.Element("O"), gemmi.Position(0, 0, 0)
    water.add_atom(oxygen)
    structure[0][0].add_residue(water)
    write(structure, tmp_path / "b.pdb")
    plain, full = (AtomicModel(n, tmp_path / f"{n}.pdb").mixture for n in "ab")
    assert len(plain.weights) == len(full.weights)
    assert plain.weights.sum() - full.weights.sum() == pytest.approx(3)


def test_the_biological_assembly_is_built(tmp_path):
    """One chain and the operators of D2 in the file give the density of the whole tetramer."""
    whole = small_structure("D2")
    write(whole, tmp_path / "whole.cif")
    part = small_structure("D2")
    for name in "BCD":
        part[0].remove_chain(name)
    traces = [np.array([r[0].pos.tolist() for r in chain]) for chain in whole[0]]
    assembly, generator = gemmi.Assembly("1"), gemmi.Assembly.Gen()
    generator.chains = ["A"]
    for trace in traces:
        rotation, _ = Rotation.align_vectors(trace - trace.mean(0), traces[0] - traces[0].mean(0))
        operator = gemmi.Assembly.Operator()
        matrix = rotation.as_matrix()
        operator.transform = gemmi.Transform(
            gemmi.Mat33(matrix.tolist()), gemmi.Vec3(*(trace.mean(0) - matrix @ traces[0].mean(0)))
        )
        generator.operators.append(operator)
    assembly.generators.append(generator)
    part.assemblies.append(assembly)
    part.write_pdb(str(tmp_path / "part.pdb"))
    a, b = (
        AtomicModel("a", tmp_path / f, symmetry="D2", resolution=8).density(32, 4.0) for f in ("whole.cif", "part.pdb")
    )
    assert correlation(a, b) > 0.999


@pytest.mark.parametrize("group", ["C1", "D2", "T", "O"])
def test_the_density_has_the_symmetry_that_was_stated(tmp_path, group):
    write(small_structure(group), tmp_path / "a.cif")
    density = AtomicModel("a", tmp_path / "a.cif", symmetry=group, resolution=8.0).density(48, 3.0)
    assert correlation(density, symmetrise(density, group)) > 0.999


@pytest.mark.parametrize(("file", "group", "atoms"), [("5a1a.cif.gz", "D2", 32920), ("6z6u.pdb.gz", "O", 32618)])
def test_real_assemblies_lie_with_their_axes_on_the_grid(data_directory, file, group, atoms):
    model = AtomicModel(file, data_directory / "models" / file, symmetry=group)
    assert len(model.mixture.weights) == atoms
    density = model.density(64, 234.416 / 64)
    assert correlation(density, symmetrise(density, group)) > 0.99
    assert float(density.double().sum()) * (234.416 / 64) ** 3 == pytest.approx(model.mixture.weights.sum(), rel=1e-4)
    extent = np.ptp(model.mixture.centres, axis=0)
    assert extent[0] >= extent[1] - 1e-2 >= extent[2] - 2e-2


def test_an_asymmetric_model_keeps_its_orientation(data_directory):
    path = data_directory / "models/8zpm.cif.gz"
    centres = AtomicModel("8ZPM", path).mixture.centres
    deposited = np.array([a.pos.tolist() for c in read_structure(path)[0][0] for r in c for a in r])
    np.testing.assert_allclose(np.diff(centres, axis=0), np.diff(deposited, axis=0), atol=1e-9)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "found no file"),
        ("data_x\n_cell.length_a 1\n", "no atoms"),
        ("data_x\nloop_\n_a\n'", "could not read"),
        ("", r"no atoms|could not read"),
    ],
)
def test_bad_files_are_named(tmp_path, content, problem):
    path = tmp_path / "bad.cif"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"(?s)bad\.cif.*({problem})|({problem}).*bad\.cif"):
        AtomicModel("bad", path).density(32, 4.0)


def test_a_symmetry_the_chains_do_not_show_is_refused(tmp_path):
    write(small_structure("D2"), tmp_path / "a.cif")
    with pytest.raises(InputError, match=r"a\.cif: expected chains related by symmetry C4"):
        AtomicModel("a", tmp_path / "a.cif", symmetry="C4").density(32, 4.0)
    with pytest.raises(InputError, match=r"a\.cif: expected at least 24 chains alike for symmetry O, got 4"):
        AtomicModel("a", tmp_path / "a.cif", symmetry="O").density(32, 4.0)
    with pytest.raises(InputError, match="resolution above 0"):
        AtomicModel("a", tmp_path / "a.cif", resolution=0.0)
