"""What every specimen can do: say its name and symmetry, give its density on any grid, and tell what it is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from cryobench.types import Volume


class Specimen(ABC):
    """Something to be imaged, centred on the origin with its symmetry axes on the grid's axes.

    Attributes:
        name: what the catalogue calls it.
        symmetry: point group under which the density is invariant, oriented as
            :func:`cryobench.physics.symmetry.symmetry_rotations` has it.
        description: one line for people.
    """

    name: str
    symmetry: str
    description: str

    @abstractmethod
    def density(self, box: int, voxel_size: float) -> Volume:
        """Density on a cube of ``box`` voxels of ``voxel_size`` angstrom, float32, protein positive, origin at ``box // 2``.

        The density is band-limited strictly inside the Nyquist sphere of the grid, so that a coarser grid over the same field
        of view holds the Fourier crop of a finer one.

        Raises:
            InputError: the specimen does not fit into the field of view.
        """

    @abstractmethod
    def facts(self) -> list[tuple[str, str]]:
        """What ``specimen show`` tells besides name, symmetry and description: pairs of a heading and a line.

        Raises:
            InputError: the specimen's file cannot be read.
        """
