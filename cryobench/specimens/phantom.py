"""The embedded specimen: a procedural, protein-like molecule with D2 symmetry, about the size of beta-galactosidase.

One subunit is a chain of 1,020 residues, folded element by element (helix, strand, loop) into five touching spherical domains and
repeated by D2. Each residue is two Gaussians, backbone and side chain, so density and projections are known in closed form.

The constants come from a random search: domain centres by walks of 26-31 Å steps inside an ellipsoid of 84 x 60 x 42 Å,
clear of their own D2 copies; seeds; domain radii of 17-19 Å; the costs of crowding and confinement. Kept was one whose power is
near that of PDB 5A1A (at 2.5 Å resolution), with subunits in contact and no ellipsoid like it. Measured on 184 voxels of 1.274 Å:

- rotationally averaged power over 5A1A's, one scale free, is 0.60 to 1.72 at every shell from 39 to 7.33 Å (0.75 to 1.2 below);
- the ellipsoid nearest to it, solid or hollow with a soft edge, reaches FSC 0.5 at 54 Å (48 Å for 5A1A), a Gaussian blob 66 Å;
- the tetramer spans 179 x 116 x 84 Å (5A1A: 181 x 136 x 92 Å) and has a support radius of 96 Å;
- the lowest value is -4e-4 of the highest, from the Nyquist cut alone.

``tests/specimens/test_phantom.py`` holds these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryobench.physics.symmetry import symmetry_rotations
from cryobench.specimens.base import Specimen
from cryobench.specimens.gaussians import GaussianMixture
from cryobench.types import Volume

_SEED = 289
_DOMAIN_CENTRES = ((23, 18, 11), (53, 13, 3), (9, 11, -12), (3, 37, 14), (66, 8, -23))
_DOMAIN_RADIUS = 17.0
_RESIDUES_PER_DOMAIN = 204
_WIDTH = 1.5
"""Standard deviation of every Gaussian, Å: about the largest, so the smoothest on a 1.274 Å grid, with 5A1A's power at 7.3 Å."""
_BACKBONE, _SIDE_CHAIN = 27.0, 26.0  # electrons: N, CA, C, O and an average side chain without hydrogens

_CANDIDATES = 48
_CONTACT = 5.5  # beads nearer than this repel, Å
_CONFINEMENT = 0.01  # cost per Å^2 outside the domain, where a full overlap costs 1
_HELIX_SHARE = 0.55

Points = NDArray[np.float64]


class _Shape(NamedTuple):
    """A regular stretch of chain: rise along and turn about its axis per residue, radii of backbone and side chain, lengths."""

    rise: float
    turn: float
    backbone: float
    side_chain: float
    shortest: int
    longest: int


_HELIX = _Shape(1.5, np.radians(100), 2.3, 5.5, 8, 17)
_STRAND = _Shape(3.3, np.pi, 0.9, 3.3, 4, 9)
_LOOP = _Shape(2.8, np.radians(130), 1.5, 3.5, 2, 5)
_BOND = 3.8  # between successive C-alphas, Å


@dataclass(frozen=True)
class Phantom(Specimen):
    """The embedded default: needs no data and no network.

    Exactly invariant under D2, and positive: a sum of positive Gaussians, of which the Nyquist cut on a 1.274 Å grid leaves
    undershoot below 1e-3 of the largest value. Density is in electrons per cubic angstrom.
    """

    name: str = "phantom"
    symmetry: str = "D2"
    description: str = (
        "procedural protein-like D2 tetramer, 179 x 116 x 84 Å, with closed-form projections (needs no data)"
    )

    def density(self, box: int, voxel_size: float) -> Volume:
        """Electrons per cubic angstrom; see :meth:`cryobench.specimens.base.Specimen.density`."""
        return self.mixture.density(box, voxel_size)

    @property
    def mixture(self) -> GaussianMixture:
        """The Gaussians; :meth:`GaussianMixture.project` gives their projections in closed form."""
        return _tetramer()


@cache
def _tetramer() -> GaussianMixture:
    beads = fold_chain(_SEED, _DOMAIN_CENTRES)  # (residue, bead, xyz)
    copies = symmetry_rotations("D2").numpy()
    centres = np.einsum("gij,rbj->grbi", copies, beads).reshape(-1, 3)
    weights = np.tile([_BACKBONE, _SIDE_CHAIN], len(centres) // 2)
    return GaussianMixture(centres, weights, _WIDTH)


def fold_chain(seed: int, domain_centres: tuple[tuple[float, float, float], ...]) -> Points:
    """Fold one subunit greedily: of many random continuations, each a loop and a helix or strand, keep the cheapest.

    A continuation costs for beads too near to those already placed or to D2 copies, and for beads outside the present domain.
    Only uniform draws and comparisons far from ties decide, so the chain is the same on every machine.

    Returns:
        Beads ``(residue, bead, xyz)`` in angstrom; bead 0 is the backbone, bead 1 the side chain.
    """
    generator = np.random.default_rng(seed)
    copies = symmetry_rotations("D2").numpy().diagonal(axis1=1, axis2=2)  # D2 only flips signs
    chain = np.zeros((0, 2, 3))
    end = np.asarray(domain_centres[0]) - [0, 0, 0.8 * _DOMAIN_RADIUS]
    for centre in np.asarray(domain_centres, dtype=np.float64):
        missing = _RESIDUES_PER_DOMAIN
        while missing > 0:
            shape = _HELIX if generator.random() < _HELIX_SHARE else _STRAND
            loop = _continue_chain(generator, _LOOP, missing, np.tile(end, (_CANDIDATES, 1)))
            regular = _continue_chain(generator, shape, max(missing - loop.shape[1], 1), loop[:, -1, 0])
            candidates = np.concatenate([loop, regular], axis=1)[:, :missing]
            cost = _crowding(candidates, chain, copies)
            outside = np.linalg.norm(candidates - centre, axis=-1) - _DOMAIN_RADIUS
            cost += _CONFINEMENT * np.square(outside.clip(min=0)).sum((1, 2))
            best = candidates[cost.argmin()]
            chain, end, missing = np.concatenate([chain, best]), best[-1, 0], missing - len(best)
    return chain


def _continue_chain(generator: np.random.Generator, shape: _Shape, at_most: int, ends: Points) -> Points:
    """Continuations ``(candidate, residue, bead, xyz)`` of one shape and length in random directions from each of ``ends``."""
    span = shape.longest - shape.shortest + 1
    count = min(shape.shortest + int(span * generator.random()), at_most)
    bond, axis = _directions(generator, len(ends)), _directions(generator, len(ends))
    helper = np.where(np.abs(axis[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    u = np.cross(axis, helper)
    u /= np.linalg.norm(u, axis=-1, keepdims=True)
    v = np.cross(axis, u)
    angle = 2 * np.pi * generator.random(len(ends))[:, None, None] + shape.turn * np.arange(count)[:, None]
    radial = np.cos(angle) * u[:, None] + np.sin(angle) * v[:, None]
    line = (ends + _BOND * bond)[:, None] + shape.rise * np.arange(count)[:, None] * axis[:, None]
    line -= shape.backbone * radial[:, :1]  # the first backbone bead is one bond from the end
    return np.stack([line + shape.backbone * radial, line + shape.side_chain * radial], axis=2)


def _directions(generator: np.random.Generator, count: int) -> Points:
    """``count`` unit vectors uniform on the sphere (Archimedes' cylinder)."""
    z, longitude = 2 * generator.random(count) - 1, 2 * np.pi * generator.random(count)
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(longitude), r * np.sin(longitude), z], axis=-1)


def _crowding(candidates: Points, chain: Points, copies: Points) -> Points:
    """Cost of each candidate's nearness to the chain, to the chain's copies and, ten times as dear, to its own copies."""
    cost = np.zeros(len(candidates))
    points = candidates.reshape(len(candidates), -1, 3)
    if len(chain):
        placed = (chain.reshape(-1, 1, 3) * copies).reshape(-1, 3)
        distance, _ = cKDTree(placed).query(points, k=4, distance_upper_bound=_CONTACT)
        cost += np.square(1 - np.minimum(distance, _CONTACT) / _CONTACT).sum((1, 2))
    for copy in copies[1:]:
        distance = np.linalg.norm(points - points * copy, axis=-1)
        cost += 10 * np.square(1 - np.minimum(distance, _CONTACT) / _CONTACT).sum(1)
    return cost
