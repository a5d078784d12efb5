"""The embedded specimens: procedural, protein-like molecules that need no data.

A subunit is a chain of residues, folded element by element (helix, strand, loop) into touching spherical domains and repeated
by the point group. Each residue is two Gaussians, backbone and side chain, so density and projections are known in closed form.
The constants come from random searches; kept was what has a rotationally averaged power near a real molecule's. "Power over"
below is that ratio at every shell from 39 to 7.33 Å on voxels of 1.274 Å, one scale free, the real molecule rendered at 2.5 Å
resolution. No density goes below -6e-4 of its highest value, from the Nyquist cut alone. ``tests/specimens/test_phantom.py``
and ``test_phantoms.py`` hold all this.

``phantom``: D2, beta-galactosidase's size, 1,020 residues a subunit in five domains, whose centres were walks of 26-31 Å steps
inside an ellipsoid of 84 x 60 x 42 Å, clear of their own D2 copies; subunits are in contact and no ellipsoid is like it.

- Power over PDB 5A1A's is 0.60 to 1.72 (0.75 to 1.2 below).
- The ellipsoid nearest to it, solid or hollow with a soft edge, reaches FSC 0.5 at 54 Å (48 Å for 5A1A), a Gaussian blob 66 Å.
- The tetramer spans 179 x 116 x 84 Å (5A1A: 181 x 136 x 92 Å) and has a support radius of 96 Å.

``phantom-c1``: no symmetry, of CXCR4's mass (400 residues, 21,200 electrons), 68 x 48 x 87 Å, support radius 57 Å. Power over
PDB 8ZPM's is 0.69 to 1.42.

``phantom-o``: O, 24 subunits of 174 residues in a hollow shell, as apoferritin, 116 Å wide, support radius 73 Å, nothing
nearer to the centre than 32 Å (PDB 6Z6U: 124 Å wide, nothing nearer than 37 Å). Power over 6Z6U's is 0.53 to 3.03, the excess
from 26 to 15 Å: the real shell is thinner and made of aligned helices.

``phantom-ribosome``: no symmetry, 2 MDa of RNA helices and protein globules (:mod:`cryobench.specimens.packing`), 249 x 213 x
234 Å, support radius 149 Å. Power over 5A1A's is 0.52 to 1.56. Over that of an E. coli 70S map (65 voxels of 5 Å), with one
scale and one B-factor free, it is 0.22 to 5.5 from 54 to 11 Å, the excess near 22 Å, where that map is weak: 5A1A's own power is
0.30 to 3.9 of the map's.

``phantom-path``: an ensemble of a body of four domains and an arm of two that swings about a hinge by 60 degrees; 1,224
residues, all within 85 Å of the origin. Power of a state over 5A1A's is 0.56 to 1.70. Of eight states, on voxels of 1.274 Å,
neighbours correlate by 0.89, the first and the last by 0.72.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from scipy.spatial.transform import Rotation

from cryobench.errors import UnknownName
from cryobench.physics.symmetry import symmetry_rotations
from cryobench.specimens.base import Specimen
from cryobench.specimens.ensemble import mix
from cryobench.specimens.fold import BACKBONE, SIDE_CHAIN, fold_chain
from cryobench.specimens.gaussians import GaussianMixture
from cryobench.specimens.packing import pack_ribosome
from cryobench.types import Volume

_WIDTH = 1.5
"""Standard deviation of every Gaussian, Å: about the largest, so the smoothest on a 1.274 Å grid, with 5A1A's power at 7.3 Å."""


@cache
def _fold(
    group: str,
    seed: int,
    centres: tuple[tuple[float, float, float], ...],
    radius: float,
    residues: int,
    centred: bool = True,
) -> GaussianMixture:
    """A chain through spheres of ``radius`` round ``centres``, ``residues`` in each, and its copies."""
    copies = symmetry_rotations(group).numpy()
    beads = fold_chain(np.random.default_rng(seed), np.array(centres, dtype=np.float64), radius, residues, copies)
    points = np.einsum("gij,rbj->grbi", copies, beads).reshape(-1, 3)
    weights = np.tile([BACKBONE, SIDE_CHAIN], len(points) // 2)
    if centred and len(copies) == 1:
        points = points - weights @ points / weights.sum()
    return GaussianMixture(points, weights, _WIDTH)


fold_tetramer = partial(
    _fold, "D2", 289, ((23, 18, 11), (53, 13, 3), (9, 11, -12), (3, 37, 14), (66, 8, -23)), 17.0, 204
)


_SWING = 30.0  # degrees to either side
_HINGE = (0.0, -3.0, 30.0)


@cache
def _swing(turn: float) -> GaussianMixture:
    """A body of four domains and, on a hinge, an arm of two, turned by ``turn`` degrees about x; the body stays where it is."""
    body = _fold("C1", 17, ((0, -3, 12), (27, 2, -4), (5, 27, -8), (-22, 8, -14)), 17.0, 204, centred=False)
    arm = _fold("C1", 18, ((2, -4, 47), (-3, -2, 78)), 17.0, 204, centred=False)
    turned = (arm.centres - _HINGE) @ Rotation.from_euler("x", turn, degrees=True).as_matrix().T + _HINGE
    weights = np.concatenate([body.weights, arm.weights])
    middle = weights @ np.concatenate([body.centres, arm.centres]) / weights.sum()
    return GaussianMixture(np.concatenate([body.centres, turned]) - middle, weights, _WIDTH)


@dataclass(frozen=True)
class Phantom(Specimen):
    """An embedded molecule: needs no data and no network.

    The set of Gaussians is exactly invariant under the point group, and all are positive. Density is in electrons per cubic
    angstrom.
    """

    name: str = "phantom"
    symmetry: str = "D2"
    description: str = "procedural protein-like D2 tetramer"
    fold: Callable[[], GaussianMixture] = fold_tetramer

    def density(self, box: int, voxel_size: float) -> Volume:
        """Electrons per cubic angstrom; see :meth:`cryobench.specimens.base.Specimen.density`."""
        return self.mixture.density(box, voxel_size)

    def facts(self) -> list[tuple[str, str]]:
        """Its size and units."""
        m = self.mixture
        return [
            ("extent", m.describe_extent()),
            ("density", f"{m.weights.sum():,.0f} electrons in {len(m.weights):,} Gaussians of {m.width:g} Å"),
            ("units", "electrons per Å^3"),
        ]

    @property
    def mixture(self) -> GaussianMixture:
        """The Gaussians; :meth:`GaussianMixture.project` gives their projections in closed form."""
        return self.fold()


_FOLDS: dict[str, tuple[str, Callable[[], GaussianMixture]]] = {
    "phantom": ("D2", fold_tetramer),
    "phantom-c1": (
        "C1",
        partial(_fold, "C1", 405, ((-17, 3, -26), (-10, -8, -6), (11, -1, 5), (16, 6, 27)), 14.0, 100),
    ),
    "phantom-o": ("O", partial(_fold, "O", 639, ((-3, 20, -48), (16, 21, -42), (33, 17, -36)), 11.2, 58)),
    "phantom-ribosome": ("C1", pack_ribosome),
}


def make_phantom(name: str, description: str, states: int = 1) -> Specimen:
    """An embedded specimen by its name in the catalogue.

    Args:
        name: such as ``phantom-o``.
        description: one line for people.
        states: along the path, of ``phantom-path``, in equal shares.

    Raises:
        UnknownName: there is none of that name.
    """
    if name == "phantom-path":
        turns = np.linspace(-_SWING, _SWING, states)
        parts = [
            Phantom(f"{name}[{i}]", "C1", f"arm turned by {turn:+.1f} degrees", partial(_swing, float(turn)))
            for i, turn in enumerate(turns)
        ]
        return mix(name, [(part, 1.0) for part in parts], description)
    if name not in _FOLDS:
        raise UnknownName("phantom", name, [*_FOLDS, "phantom-path"])
    return Phantom(name, _FOLDS[name][0], description, _FOLDS[name][1])
