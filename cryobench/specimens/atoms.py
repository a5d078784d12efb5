"""Atomic models (PDB, mmCIF) as densities at a stated resolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.physics.symmetry import symmetry_rotations
from cryobench.specimens.base import Specimen
from cryobench.specimens.frame import find_frame
from cryobench.specimens.gaussians import GaussianMixture
from cryobench.types import Volume

DEFAULT_RESOLUTION = 2.5
"""Angstrom; what the CryoGAN authors gave molmap for their synthetic beta-galactosidase. It is the same for every grid, so that
densities of one specimen on different grids are Fourier crops of each other."""

_WIDTH_PER_RESOLUTION = 0.225
_FEWEST_COMMON_RESIDUES = 10
_COMMON_FRACTION = 0.8

Points = NDArray[np.float64]


@dataclass(frozen=True)
class AtomicModel(Specimen):
    """The atoms of a PDB or mmCIF file (gzipped or not), each a Gaussian, by the rule of UCSF Chimera's ``molmap``.

    Each atom weighs its atomic number times its occupancy and is blurred by a Gaussian of standard deviation 0.225 times the
    resolution, which makes the density electrons per cubic angstrom. Temperature factors are not used. The first model and its
    first biological assembly are taken where the file states one. Waters and hydrogens are left out (hydrogens so that models
    with and without them agree), ligands and ions stay. The centre of mass is put on the origin and the axes of ``symmetry``,
    found by superposing the chains that are alike, on the grid's axes; without symmetry the deposited orientation stays.

    Attributes:
        name: what the catalogue calls it.
        path: the file.
        symmetry: point group of the assembly.
        resolution: angstrom.
        description: one line for people.
    """

    name: str
    path: Path
    symmetry: str = "C1"
    resolution: float = DEFAULT_RESOLUTION
    description: str = "atomic model"

    def __post_init__(self) -> None:
        if not self.resolution > 0:
            raise InputError(f"expected a resolution above 0 Å for {self.name}, got {self.resolution:g}")

    def density(self, box: int, voxel_size: float) -> Volume:
        """Electrons per cubic angstrom; see :meth:`cryobench.specimens.base.Specimen.density`."""
        return self.mixture.density(box, voxel_size)

    @cached_property
    def mixture(self) -> GaussianMixture:
        """One Gaussian an atom, centred and oriented; its projections are known in closed form."""
        structure = read_structure(self.path)
        atoms = [
            (*atom.pos.tolist(), atom.element.atomic_number * atom.occ)
            for chain in structure[0]
            for residue in chain
            if not residue.is_water()
            for atom in residue
            if not atom.is_hydrogen() and atom.occ > 0
        ]
        if not atoms:
            raise InputError(f"expected atoms in {self.path}, got none but waters and hydrogens")
        table = np.asarray(atoms)
        centres, weights = table[:, :3], table[:, 3]
        centres = centres - weights @ centres / weights.sum()
        try:
            frame = _symmetry_frame(structure, self.symmetry)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        return GaussianMixture(centres @ frame.T, weights, _WIDTH_PER_RESOLUTION * self.resolution)


def read_structure(path: Path) -> gemmi.Structure:
    """The first biological assembly of a PDB or mmCIF file, or its first model where none is stated.

    Raises:
        InputError: the file is missing or is no such file.
    """
    if not path.is_file():
        raise InputError(f"expected an atomic model at {path}, found no file there")
    try:
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError, EOFError, IndexError) as error:
        raise InputError(f"expected a PDB or mmCIF file, could not read {path}: {error}") from error
    if len(structure) == 0:
        raise InputError(f"expected an atomic model in {path}, found no atoms")
    structure.setup_entities()
    if structure.assemblies:
        structure.transform_to_assembly(structure.assemblies[0].name, gemmi.HowToNameCopiedChain.AddNumber)
    return structure


def _symmetry_frame(structure: gemmi.Structure, symmetry: str) -> NDArray[np.float64]:
    """Rotation that turns the assembly's symmetry axes onto those of ``symmetry_rotations(symmetry)``."""
    ideal = symmetry_rotations(symmetry).numpy()
    if len(ideal) == 1:
        return np.eye(3)
    traces = [_trace(chain) for chain in structure[0]]
    longest = max(traces, key=len)
    alike = [
        t
        for t in traces
        if len(longest.keys() & t.keys()) >= _COMMON_FRACTION * max(len(longest), _FEWEST_COMMON_RESIDUES)
    ]
    if len(alike) < len(ideal):
        raise InputError(
            f"expected at least {len(ideal)} chains alike for symmetry {symmetry}, got {len(alike)}; "
            "give the whole assembly, or state symmetry C1"
        )
    rotations = [_superpose(longest, trace) for trace in alike]
    points = np.array([position for trace in alike for position in trace.values()])
    return find_frame(np.array(rotations), ideal, symmetry, points - points.mean(0))


def _trace(chain: gemmi.Chain) -> dict[tuple[str, str], Points]:
    """Positions of a chain's C-alphas (C1' of nucleotides) by residue number and name."""
    return {
        (str(residue.seqid), residue.name): np.array(atom.pos.tolist())
        for residue in chain
        for atom in residue
        if (atom.name, atom.element.name) in {("CA", "C"), ("C1'", "C")}
    }


def _superpose(reference: dict[tuple[str, str], Points], other: dict[tuple[str, str], Points]) -> NDArray[np.float64]:
    """Rotation matrix that takes ``reference`` to ``other`` best over their common residues (Kabsch)."""
    common = sorted(reference.keys() & other.keys())
    a, b = (np.array([trace[key] for key in common]) for trace in (reference, other))
    rotation, _ = Rotation.align_vectors(b - b.mean(0), a - a.mean(0))
    return rotation.as_matrix()
