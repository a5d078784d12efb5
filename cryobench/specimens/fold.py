"""Chains folded at random into protein-like domains, element by element: helix, strand, loop."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

BACKBONE: Final = 27.0
"""Electrons of N, CA, C and O, without hydrogens."""
SIDE_CHAIN: Final = 26.0
"""Of an average side chain."""

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


def fold_chain(
    generator: np.random.Generator,
    domain_centres: Points,
    domain_radius: float,
    residues_per_domain: int,
    copies: Points,
) -> Points:
    """Fold one subunit greedily: of many random continuations, each a loop and a helix or strand, keep the cheapest.

    A continuation costs for beads too near to those already placed or to symmetry copies, and for beads outside the present
    domain. Only uniform draws and comparisons far from ties decide, so the chain is the same on every machine.

    Args:
        generator: of the uniform draws.
        domain_centres: ``(domain, xyz)`` of the spheres that the chain fills one after the other, angstrom.
        domain_radius: of every sphere, angstrom.
        residues_per_domain: how long the chain is.
        copies: rotation matrices of the symmetry, the identity first.

    Returns:
        Beads ``(residue, bead, xyz)`` in angstrom; bead 0 is the backbone, bead 1 the side chain.
    """
    chain = np.zeros((0, 2, 3))
    end = domain_centres[0] - [0, 0, 0.8 * domain_radius]
    for centre in domain_centres:
        missing = residues_per_domain
        while missing > 0:
            shape = _HELIX if generator.random() < _HELIX_SHARE else _STRAND
            loop = _continue_chain(generator, _LOOP, missing, np.tile(end, (_CANDIDATES, 1)))
            regular = _continue_chain(generator, shape, max(missing - loop.shape[1], 1), loop[:, -1, 0])
            candidates = np.concatenate([loop, regular], axis=1)[:, :missing]
            cost = _crowding(candidates, chain, copies)
            outside = np.linalg.norm(candidates - centre, axis=-1) - domain_radius
            cost += _CONFINEMENT * np.square(outside.clip(min=0)).sum((1, 2))
            best = candidates[cost.argmin()]
            chain, end, missing = np.concatenate([chain, best]), best[-1, 0], missing - len(best)
    return chain


def _continue_chain(generator: np.random.Generator, shape: _Shape, at_most: int, ends: Points) -> Points:
    """Continuations ``(candidate, residue, bead, xyz)`` of one shape and length in random directions from each of ``ends``."""
    span = shape.longest - shape.shortest + 1
    count = min(shape.shortest + int(span * generator.random()), at_most)
    bond, axis = random_directions(generator, len(ends)), random_directions(generator, len(ends))
    helper = np.where(np.abs(axis[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    u = np.cross(axis, helper)
    u /= np.linalg.norm(u, axis=-1, keepdims=True)
    v = np.cross(axis, u)
    angle = 2 * np.pi * generator.random(len(ends))[:, None, None] + shape.turn * np.arange(count)[:, None]
    radial = np.cos(angle) * u[:, None] + np.sin(angle) * v[:, None]
    line = (ends + _BOND * bond)[:, None] + shape.rise * np.arange(count)[:, None] * axis[:, None]
    line -= shape.backbone * radial[:, :1]  # the first backbone bead is one bond from the end
    return np.stack([line + shape.backbone * radial, line + shape.side_chain * radial], axis=2)


def random_directions(generator: np.random.Generator, count: int) -> Points:
    """``count`` unit vectors uniform on the sphere (Archimedes' cylinder)."""
    z, longitude = 2 * generator.random(count) - 1, 2 * np.pi * generator.random(count)
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(longitude), r * np.sin(longitude), z], axis=-1)


def _crowding(candidates: Points, chain: Points, copies: Points) -> Points:
    """Cost of each candidate's nearness to the chain, to the chain's copies and, ten times as dear, to its own copies."""
    cost = np.zeros(len(candidates))
    points = candidates.reshape(len(candidates), -1, 3)
    if len(chain):
        placed = (chain.reshape(-1, 3) @ copies.transpose(0, 2, 1)).reshape(-1, 3)
        distance, _ = cKDTree(placed).query(points, k=4, distance_upper_bound=_CONTACT)
        cost += np.square(1 - np.minimum(distance, _CONTACT) / _CONTACT).sum((1, 2))
    for copy in copies[1:]:
        distance = np.linalg.norm(points - points @ copy.T, axis=-1)
        cost += 10 * np.square(1 - np.minimum(distance, _CONTACT) / _CONTACT).sum(1)
    return cost
