"""PDB and mmCIF files: the biological assembly read, checked, and laid out as arrays of atoms."""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from cryobench.errors import InputError

_OCCUPANCY_SLACK = 0.05  # files round
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Atoms:
    """Every atom that is imaged, in the order of the file.

    Attributes:
        positions: ``(atom, xyz)``, angstrom.
        elements: ``(atom,)``, atomic numbers.
        occupancies: ``(atom,)``, above 0 to 1; of alternative locations, each its own.
        b_factors: ``(atom,)``, square angstrom.
        left_out: how many waters, hydrogens and atoms of occupancy 0 are not among them.
    """

    positions: NDArray[np.float64]
    elements: NDArray[np.int64]
    occupancies: NDArray[np.float64]
    b_factors: NDArray[np.float64]
    left_out: int

    @property
    def mass(self) -> float:
        """Dalton, without the hydrogens."""
        weights = {int(number): gemmi.Element(int(number)).weight for number in np.unique(self.elements)}
        return float(sum(weights[int(n)] * o for n, o in zip(self.elements, self.occupancies, strict=True)))


def read_structure(path: Path) -> tuple[gemmi.Structure, str]:
    """The first biological assembly of the first model of a PDB or mmCIF file, or the model itself where none is stated.

    Returns:
        The structure, and a line for people that says what was taken.

    Raises:
        InputError: the file is missing or is no such file, or its assembly cannot be built.
    """
    if not path.is_file():
        raise InputError(f"expected an atomic model at {path}, found no file there")
    try:
        if path.suffix.lower() == ".gz":
            _require_whole(path)
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError, EOFError, IndexError, zlib.error) as error:
        raise InputError(f"expected a PDB or mmCIF file, could not read {path}: {error}") from error
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise InputError(f"expected an atomic model in {path}, found no atoms")
    models, chains = len(structure), len(structure[0])
    taken = "the only model" if models == 1 else f"the first of {models} models"
    structure.setup_entities()
    if not structure.assemblies:
        return structure, f"none stated in the file: {taken} as it is, {chains} chains"
    name = structure.assemblies[0].name
    try:
        structure.transform_to_assembly(name, gemmi.HowToNameCopiedChain.AddNumber)
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(
            f"expected to build assembly {name} of {path}, could not: {error}; "
            "correct the file's assembly records, or remove them"
        ) from error
    return structure, f"{name}, of {taken}: {len(structure[0])} chains from the file's {chains}"


def _require_whole(path: Path) -> None:
    """Unpack a gzipped file to its end, which checks its checksum: gemmi takes what there is of a truncated one."""
    with gzip.open(path) as file:
        while file.read(_CHUNK):
            pass


def list_atoms(structure: gemmi.Structure, path: Path) -> Atoms:
    """The first model's atoms, without waters, hydrogens (so that models with and without them agree) and occupancy 0.

    Alternative locations are all listed, each with its own occupancy.

    Raises:
        InputError: no atoms are left, or one has no element, no finite position, or occupancies that make no sense.
    """
    rows, left_out = [], 0
    locations: dict[tuple[str, str, str], float] = defaultdict(float)
    for chain, residue, atom in _walk(structure[0]):
        if residue.is_water() or atom.is_hydrogen() or atom.occ == 0:
            left_out += 1
            continue
        row = (*atom.pos.tolist(), atom.element.atomic_number, atom.occ, atom.b_iso)
        name = f"atom {atom.serial} ({atom.name} of {residue.name} {residue.seqid} in chain {chain.name})"
        if not np.isfinite(row).all():
            raise InputError(f"{path}, {name}: expected a finite position, occupancy and B-factor, got {row}")
        if atom.element.atomic_number == 0:
            raise InputError(
                f"{path}, {name}: expected a chemical element, got {atom.element.name}; state it, or remove it"
            )
        if not 0 < atom.occ <= 1 + _OCCUPANCY_SLACK:
            raise InputError(f"{path}, {name}: expected an occupancy from 0 to 1, got {atom.occ:g}")
        if atom.has_altloc():
            place = (chain.name, str(residue.seqid), atom.name)
            locations[place] += atom.occ
            if locations[place] > 1 + _OCCUPANCY_SLACK:
                raise InputError(
                    f"{path}, {name}: expected occupancies of alternative locations that add up to 1, got {locations[place]:g}; "
                    "remove all locations but one, or state their occupancies"
                )
        rows.append(row)
    if not rows:
        raise InputError(f"expected atoms in {path}, got none but waters and hydrogens")
    table = np.asarray(rows)
    return Atoms(table[:, :3], table[:, 3].astype(np.int64), table[:, 4], table[:, 5], left_out)


def _walk(model: gemmi.Model) -> Iterator[tuple[gemmi.Chain, gemmi.Residue, gemmi.Atom]]:
    for chain in model:
        for residue in chain:
            for atom in residue:
                yield chain, residue, atom
