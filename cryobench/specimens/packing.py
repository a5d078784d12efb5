"""A procedural particle of the size and make-up of a ribosome: RNA helices and protein globules packed into an uneven shape."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from cryobench.specimens.fold import BACKBONE, SIDE_CHAIN, Points, fold_chain, random_directions
from cryobench.specimens.gaussians import GaussianMixture

_PHOSPHATE, _SUGAR, _BASE = 47.0, 46.0, 63.0  # electrons without hydrogens: PO4, the rest of a ribose, an average base
_RISE, _TWIST = 2.81, np.radians(32.7)  # of A-form RNA, per base pair
_BEADS = np.array([[8.7, 0.0, 0.0], [8.0, np.radians(28), 2.0], [3.6, np.radians(55), 0.5]])
"""Radius, angle and height from the phosphate of a nucleotide's three beads, about A-form."""
_GROOVE = np.radians(150)  # from one strand's phosphate to its partner's
_HELIX_RADIUS = 9.0
_SHORTEST, _LONGEST = 9, 21  # base pairs
_GLOBULE_RADIUS, _GLOBULE_RESIDUES = 17.0, 204
_CANDIDATES = 24
_WIDTH = 1.5

_SEED, _BASE_PAIRS, _GLOBULES = 73, 2280, 30
_ELLIPSOIDS = (  # centre and semi-axes, Å: two subunits and two stalks
    (0, -10, 29, 126, 112, 84),
    (6, 14, -68, 118, 80, 50),
    (-115, 24, 46, 31, 26, 26),
    (70, -24, 102, 29, 27, 38),
)


@cache
def pack_ribosome() -> GaussianMixture:
    """The particle that ``phantom-ribosome`` is."""
    return pack_particle(_SEED, np.array(_ELLIPSOIDS, dtype=np.float64), _BASE_PAIRS, _GLOBULES)


def pack_particle(seed: int, ellipsoids: Points, base_pairs: int, globules: int) -> GaussianMixture:
    """Place globules near the surface, then helices between them, each the best of many random candidates.

    Helices are not joined by loops; nothing is finer than a bead of 1.5 Å. Only uniform draws and comparisons far from ties
    decide, so the particle is the same on every machine.

    Args:
        seed: of the draws.
        ellipsoids: ``(ellipsoid, 6)``, centre and semi-axes (x, y, z) in angstrom; their union is filled.
        base_pairs: how many at least.
        globules: how many, of 204 residues each.
    """
    generator = np.random.default_rng(seed)
    centres = _place_globules(generator, ellipsoids, globules)
    helices = _place_helices(generator, ellipsoids, centres, base_pairs)
    single = np.eye(3)[None]
    chains = [
        fold_chain(generator, centre[None], _GLOBULE_RADIUS, _GLOBULE_RESIDUES, single).reshape(-1, 3)
        for centre in centres
    ]
    points = np.concatenate(helices + chains)
    nucleotides, residues = sum(map(len, helices)) // 3, sum(map(len, chains)) // 2
    weights = np.concatenate(
        [np.tile([_PHOSPHATE, _SUGAR, _BASE], nucleotides), np.tile([BACKBONE, SIDE_CHAIN], residues)]
    )
    return GaussianMixture(points - weights @ points / weights.sum(), weights, _WIDTH)


def _place_globules(generator: np.random.Generator, ellipsoids: Points, count: int) -> Points:
    """Centres ``(globule, xyz)`` just inside the surface, as far from one another as the candidates allow, up to contact."""
    centres = np.zeros((0, 3))
    for _ in range(count):
        candidates = _points_inside(generator, ellipsoids)
        cost: Points = np.abs(_outside(candidates, ellipsoids) + _GLOBULE_RADIUS) / _GLOBULE_RADIUS
        if len(centres):
            distance, _ = cKDTree(centres).query(candidates)
            cost += 10 * np.clip(1 - distance / (2 * _GLOBULE_RADIUS), 0, None)
        centres = np.concatenate([centres, candidates[[cost.argmin()]]])
    return centres


def _place_helices(
    generator: np.random.Generator, ellipsoids: Points, globules: Points, base_pairs: int
) -> list[Points]:
    """Beads of helices, each ``(bead, xyz)``, that keep clear of one another, of the globules and of the surface."""
    helices, axes, missing = [], np.zeros((0, 3)), base_pairs
    while missing > 0:
        length = _SHORTEST + int((_LONGEST - _SHORTEST + 1) * generator.random())
        middles, directions = _points_inside(generator, ellipsoids), random_directions(generator, _CANDIDATES)
        along = (np.arange(length) - (length - 1) / 2) * _RISE
        lines = middles[:, None] + along[:, None] * directions[:, None]  # (candidate, base pair, xyz)
        cost = np.square((_outside(lines, ellipsoids) + _HELIX_RADIUS).clip(min=0) / _HELIX_RADIUS).mean(1)
        for obstacles, contact in ((globules, _GLOBULE_RADIUS + _HELIX_RADIUS), (axes, 2 * _HELIX_RADIUS)):
            if len(obstacles):
                distance, _ = cKDTree(obstacles).query(lines, distance_upper_bound=contact)
                cost += np.square(1 - np.minimum(distance, contact) / contact).mean(1)
        best = int(cost.argmin())
        turn = 2 * np.pi * generator.random()
        helices.append(_helix(lines[best], directions[best], turn))
        axes, missing = np.concatenate([axes, lines[best]]), missing - length
    return helices


def _helix(line: Points, direction: Points, turn: float) -> Points:
    """Beads of a double helix about the axis points ``line``: strand, base pair, then phosphate, sugar and base."""
    helper = np.eye(3)[0] if abs(direction[0]) < 0.7 else np.eye(3)[1]
    u = np.cross(direction, helper)
    u /= np.linalg.norm(u)
    v = np.cross(direction, u)
    beads = []
    for sense, start in ((1, 0.0), (-1, _GROOVE)):  # the strands run opposite ways
        angle = turn + start + _TWIST * np.arange(len(line))[:, None] + sense * _BEADS[:, 1]
        radial = np.cos(angle)[..., None] * u + np.sin(angle)[..., None] * v
        beads.append(line[:, None] + _BEADS[:, :1] * radial + sense * _BEADS[:, 2:] * direction)
    return np.concatenate(beads).reshape(-1, 3)


def _points_inside(generator: np.random.Generator, ellipsoids: Points) -> Points:
    """Random points ``(candidate, xyz)`` inside the ellipsoids, each of which is drawn by its volume."""
    volumes = ellipsoids[:, 3:].prod(1)
    chosen = ellipsoids[np.searchsorted(volumes.cumsum() / volumes.sum(), generator.random(_CANDIDATES))]
    radius = np.cbrt(generator.random(_CANDIDATES))[:, None]
    return chosen[:, :3] + chosen[:, 3:] * radius * random_directions(generator, _CANDIDATES)


def _outside(points: Points, ellipsoids: Points) -> Points:
    """About how far points ``(..., xyz)`` lie outside the union of the ellipsoids, angstrom; below 0 inside."""
    scaled = np.linalg.norm((points[..., None, :] - ellipsoids[:, :3]) / ellipsoids[:, 3:], axis=-1)
    distances: Points = ((scaled - 1) * ellipsoids[:, 3:].min(1)).min(-1)
    return distances
