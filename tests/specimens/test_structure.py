from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest

from cryobench.errors import InputError
from cryobench.specimens.atoms import AtomicModel
from cryobench.specimens.catalogue import find
from cryobench.specimens.structure import list_atoms, read_structure


def line(serial: int = 1, **fields: object) -> str:
    """An ATOM line of a PDB file: a carbon at (0, 0, 0) but for what is given."""
    given = {
        "name": " CA ",
        "alt": " ",
        "residue": "ALA",
        "number": 1,
        "x": 0.0,
        "y": 0.0,
        "z": 0.0,
        "occ": 1.0,
        "b": 20.0,
    }
    given |= {"element": " C"} | fields

    def number(key: str, width: int, digits: int) -> str:
        value = given[key]
        return f"{value:>{width}}" if isinstance(value, str) else f"{value:{width}.{digits}f}"

    return (
        f"ATOM  {serial:5d} {given['name']}{given['alt']}{given['residue']} A{given['number']:4d}    "
        f"{number('x', 8, 3)}{number('y', 8, 3)}{number('z', 8, 3)}{number('occ', 6, 2)}{number('b', 6, 2)}"
        f"          {given['element']}\n"
    )


def write(directory: Path, *lines: str, name: str = "a.pdb") -> Path:
    path = directory / name
    path.write_text("".join(lines))
    return path


def read(path: Path):
    return list_atoms(read_structure(path)[0], path)


def test_what_is_listed(tmp_path):
    """Hydrogens, deuterium, waters and empty places are counted and left out; ligands stay."""
    path = write(
        tmp_path,
        line(1, x=1.0, occ=0.75, b=12.5),
        line(2, name=" H  ", element=" H"),
        line(3, name=" D  ", element=" D"),
        line(4, name=" O  ", residue="HOH", number=2, element=" O"),
        line(5, name=" CB ", occ=0.0),
        line(6, name="ZN  ", residue=" ZN", number=3, z=-2.0, element="ZN"),
    )
    atoms = read(path)
    np.testing.assert_array_equal(atoms.positions, [[1, 0, 0], [0, 0, -2]])
    np.testing.assert_array_equal(atoms.elements, [6, 30])
    np.testing.assert_allclose(atoms.occupancies, [0.75, 1])
    np.testing.assert_allclose(atoms.b_factors, [12.5, 20])
    assert atoms.left_out == 4
    assert atoms.mass == pytest.approx(0.75 * 12.011 + 65.4, abs=0.1)


def test_alternative_locations_count_by_their_occupancies(tmp_path):
    path = write(tmp_path, line(1, alt="A", occ=0.7), line(2, alt="B", occ=0.3, x=1.5), line(3, name=" CB ", x=4.0))
    np.testing.assert_allclose(read(path).occupancies, [0.7, 0.3, 1.0])
    path = write(tmp_path, line(1, alt="A"), line(2, alt="B", x=1.5))
    with pytest.raises(InputError, match=r"a\.pdb, atom 2 \(CA of ALA 1 in chain A.*add up to 1, got 2; remove"):
        read(path)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"element": " X", "name": " UNK"}, r"atom 2 \(UNK of ALA 1 in chain A.*expected a chemical element, got X"),
        ({"x": "nan"}, r"atom 2 .*finite position|could not read"),
        ({"x": "inf"}, r"atom 2 .*finite position|could not read"),
        ({"occ": 7.0}, r"atom 2 .*occupancy from 0 to 1, got 7"),
        ({"occ": -0.5}, r"atom 2 .*occupancy from 0 to 1, got -0.5"),
        ({"b": "nan"}, r"atom 2 .*finite .*B-factor|could not read"),
    ],
)
def test_atoms_that_make_no_sense_are_named(tmp_path, fields, problem):
    path = write(tmp_path, line(1), line(2, **fields))
    with pytest.raises(InputError, match=rf"a\.pdb.*({problem})|({problem}).*a\.pdb"):
        read(path)


def test_coordinates_that_are_missing_in_mmcif_are_named(tmp_path):
    path = tmp_path / "a.cif"
    gemmi.read_structure(str(write(tmp_path, line(1, y=4.25)))).make_mmcif_document().write_file(str(path))
    path.write_text(path.read_text().replace("4.25", "?"))
    with pytest.raises(InputError, match=r"a\.cif, atom 1 \(CA of ALA 1 in chain A\): expected a finite position"):
        read(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no atoms|could not read"),
        (b"HEADER    NOTHING\nEND\n", "found no atoms"),
        (b"MODEL        1\nENDMDL\nEND\n", "found no atoms"),
        (b"\x00\xff" * 600, "no atoms|could not read"),
        (line(1).encode()[:40] + b"\n", "could not read|no atoms"),
        (line(1, name=" O  ", residue="HOH", element=" O").encode(), "none but waters"),
        (line(1, name=" H  ", element=" H").encode(), "none but waters"),
    ],
)
def test_files_without_a_model_are_named(tmp_path, content, problem):
    path = tmp_path / "a.pdb"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"(?s)a\.pdb.*({problem})|({problem}).*a\.pdb"):
        read(path)


def test_a_truncated_gzip_is_named(tmp_path):
    path = tmp_path / "a.pdb.gz"
    path.write_bytes(gzip.compress(line(1).encode() * 50)[:-12])
    with pytest.raises(InputError, match=r"a\.pdb\.gz"):
        read(path)


def test_an_assembly_whose_chains_are_missing_is_named(tmp_path):
    remarks = (
        "REMARK 350 BIOMOLECULE: 1\n"
        "REMARK 350 AUTHOR DETERMINED BIOLOGICAL UNIT: DIMERIC\n"
        "REMARK 350 APPLY THE FOLLOWING TO CHAINS: Q\n"
        "REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000\n"
        "REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000\n"
        "REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000\n"
    )
    with pytest.raises(InputError, match=r"build assembly 1 of .*a\.pdb, could not: no chain Q; correct"):
        read(write(tmp_path, remarks, line(1)))


def test_what_was_taken_is_told(tmp_path, data_directory):
    two = write(tmp_path, "MODEL        1\n", line(1), "ENDMDL\nMODEL        2\n", line(1, x=9.0), "ENDMDL\nEND\n")
    assert "none stated in the file: the first of 2 models as it is" in dict(find(str(two)).facts())["assembly"]
    facts = dict(AtomicModel("b", data_directory / "models/5a1a.cif.gz", symmetry="D2").facts())
    assert facts["assembly"] == "1, of the only model: 4 chains from the file's 4"
    assert facts["atoms"].startswith("32,920, 435 kDa without hydrogens; 776 waters and hydrogens left out")
    assert facts["extent"].startswith("181 x 136 x 92 Å")
    assert facts["density"] == "molmap: atomic number, blurred by a Gaussian of 0.225 x 2.5 Å"
    assert facts["units"] == "electrons per Å^3; 217,256 electrons in all"


def test_an_origin_of_ones_own_is_kept_when_asked(tmp_path):
    path = write(tmp_path, line(1, x=5.0), line(2, name=" CB ", x=7.0, y=2.0))
    kept, centred = (find(f"{path},centred={answer}") for answer in ("no", "yes"))
    np.testing.assert_array_equal(kept.mixture.centres, [[5, 0, 0], [7, 2, 0]])
    np.testing.assert_allclose(centred.mixture.centres, [[-1, -1, 0], [1, 1, 0]])
    with pytest.raises(InputError, match=r"centre of mass on the origin where .* has symmetry D2"):
        find(f"{path},centred=no,symmetry=D2")
