"""Atomic models (PDB, mmCIF) as densities at a stated resolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryobench.errors import InputError
from cryobench.physics.symmetry import symmetry_rotations
from cryobench.specimens.base import Specimen
from cryobench.specimens.frame import find_frame
from cryobench.specimens.gaussians import GaussianMixture
from cryobench.specimens.render import sample_points
from cryobench.specimens.resample import resample
from cryobench.specimens.scattering import Scattering, scatter
from cryobench.specimens.structure import Atoms, list_atoms, read_structure
from cryobench.types import Volume

DEFAULT_RESOLUTION = 2.5
"""Angstrom; what the CryoGAN authors gave molmap for their synthetic beta-galactosidase. It is the same for every grid, so that
densities of one specimen on different grids are Fourier crops of each other."""

_FEWEST_COMMON_RESIDUES = 10
_COMMON_FRACTION = 0.8

Points = NDArray[np.float64]


@dataclass(frozen=True)
class AtomicModel(Specimen):
    """The atoms of a PDB or mmCIF file (gzipped or not), each a sum of Gaussians.

    By which of two rules atoms become density, see :func:`cryobench.specimens.scattering.scatter`. The first model and its first
    biological assembly are taken where the file states one. Waters and hydrogens are left out (hydrogens so that models with and
    without them agree), ligands and ions stay, alternative locations count by their occupancies. There is no solvent around or
    inside. The centre of mass is put on the origin and the axes of ``symmetry``, found by superposing the chains that are
    alike, on the grid's axes; without symmetry the deposited orientation stays.

    Attributes:
        name: what the catalogue calls it.
        path: the file.
        symmetry: point group of the assembly.
        resolution: angstrom, of the Gaussian of 0.225 x resolution that blurs every atom; 0 for none.
        description: one line for people.
        scattering: ``"molmap"`` (electrons per cubic angstrom) or ``"electron"`` (volts).
        b_factors: whether each atom's B-factor blurs it besides.
        centred: whether the centre of mass is put on the origin; without symmetry the file's own origin may stay there, so that
            several models keep their places to one another.
        voxel_size: where given, the density is what averaging leaves: sampled on voxels of this size in angstrom, averaged over
            cubes of ``average`` voxels, then brought onto any other grid by its Fourier transform.
        average: edge of those cubes.
    """

    name: str
    path: Path
    symmetry: str = "C1"
    resolution: float = DEFAULT_RESOLUTION
    description: str = "atomic model"
    scattering: Scattering = "molmap"
    b_factors: bool = False
    centred: bool = True
    voxel_size: float | None = None
    average: int = 1

    def __post_init__(self) -> None:
        if not self.resolution >= 0 or (self.resolution == 0 and self.scattering == "molmap" and not self.b_factors):
            raise InputError(f"expected a resolution above 0 Å for {self.name}, got {self.resolution:g}")
        if self.voxel_size is None and self.average != 1:
            raise InputError(f"expected a voxel_size with average={self.average} for {self.name}; state it")
        if not self.centred and self.symmetry != "C1":
            raise InputError(
                f"expected the centre of mass on the origin where {self.name} has symmetry {self.symmetry}"
            )

    def density(self, box: int, voxel_size: float) -> Volume:
        """Electrons per cubic angstrom, or volts; see :meth:`cryobench.specimens.base.Specimen.density`."""
        if self.voxel_size is None:
            return self.mixture.density(box, voxel_size)
        self.mixture.require_fit(box, voxel_size)
        coarse = self.voxel_size * self.average
        m = self.mixture
        margin = 2 * (m.support_radius + 3 * float(np.max(m.width))) / coarse
        fine = sample_points(m.centres, m.weights, m.width, int(np.ceil(margin)) + 2, coarse, self.average)
        return resample(fine.numpy(), (coarse,) * 3, box, voxel_size, 0.5 / max(coarse, voxel_size))

    def facts(self) -> list[tuple[str, str]]:
        """What was read from the file, and how it becomes density."""
        atoms = self._read.atoms
        blur = [f"a Gaussian of 0.225 x {self.resolution:g} Å"] if self.resolution else []
        blur += ["its B-factor"] if self.b_factors else []
        rule = {
            "molmap": f"molmap: atomic number, blurred by {' and '.join(blur)}",
            "electron": f"electron scattering factors, blurred by {' and '.join(blur) or 'nothing else'}",
        }[self.scattering]
        total = self.mixture.weights.sum()
        units = {
            "molmap": f"electrons per Å^3; {total:,.0f} electrons in all",
            "electron": f"volts; {total:.4g} V Å^3 in all",
        }[self.scattering]
        averaged = (
            f"; sampled at {self.voxel_size:g} Å, averaged over {self.average}^3 voxels" if self.voxel_size else ""
        )
        b = atoms.b_factors
        return [
            ("file", str(self.path)),
            ("assembly", self._read.assembly),
            (
                "atoms",
                f"{len(atoms.elements):,}, {atoms.mass / 1000:,.0f} kDa without hydrogens; "
                f"{atoms.left_out:,} waters and hydrogens left out; "
                f"B-factors {b.min():.0f} to {b.max():.0f}, median {np.median(b):.0f} Å^2",
            ),
            ("extent", self.mixture.describe_extent()),
            ("density", f"{rule}{averaged}"),
            ("units", units),
        ]

    @cached_property
    def mixture(self) -> GaussianMixture:
        """The Gaussians, centred and oriented; its projections are known in closed form."""
        _, atoms, structure = self._read
        weights = atoms.elements * atoms.occupancies
        try:
            mixture = scatter(atoms, self.scattering, self.resolution, self.b_factors)
            frame = _symmetry_frame(structure, self.symmetry)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        centre = weights @ atoms.positions / weights.sum() if self.centred else np.zeros(3)
        return GaussianMixture((mixture.centres - centre) @ frame.T, mixture.weights, mixture.width)

    @cached_property
    def _read(self) -> _Read:
        structure, assembly = read_structure(self.path)
        return _Read(assembly, list_atoms(structure, self.path), structure)


class _Read(NamedTuple):
    """What was read: which assembly, its atoms, and the structure they came from."""

    assembly: str
    atoms: Atoms
    structure: gemmi.Structure


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
