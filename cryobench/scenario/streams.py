"""Counter-based random streams: every draw a function of (seed, factor, index), whatever the batch, worker or order."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FACTORS: Final = {
    "pose": 0,
    "shift": 1,
    "micrograph": 2,
    "defocus": 3,
    "noise": 4,
    "pool-1": 5,
    "pool-2": 6,
    "split": 7,
    "state": 8,
}
BLOCK: Final = 64
"""Particles that share a stream, and images that are computed together: aligned to the absolute particle index, because FFTs
differ in the last bits between batch shapes."""


@cache
def _key(seed: int, factor: str) -> NDArray[np.unsignedinteger]:
    return np.random.SeedSequence(seed, spawn_key=(FACTORS[factor],)).generate_state(2, np.uint64)


def _stream(seed: int, factor: str, index: int, family: int) -> np.random.Generator:
    counter = np.array([0, 0, index, family], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=_key(seed, factor), counter=counter))


def generator(seed: int, factor: str, index: int) -> np.random.Generator:
    """The generator of one thing: Philox keyed by seed and factor, its counter set apart by index (Salmon et al. 2011)."""
    return _stream(seed, factor, index, 0)


def blocks(start: int, stop: int) -> list[tuple[int, int]]:
    """Particles ``start ... stop - 1`` cut at the multiples of :data:`BLOCK`, as (first, one past the last)."""
    cuts = [start, *range(start - start % BLOCK + BLOCK, stop, BLOCK), stop]
    return [(a, b) for a, b in pairwise(cuts) if a < b]


def draw_rows(
    seed: int, factor: str, start: int, stop: int, draw: Callable[[np.random.Generator, int], NDArray[Any]]
) -> NDArray[Any]:
    """Draws of particles ``start ... stop - 1``, one row each, from one generator for every block of :data:`BLOCK` particles.

    Args:
        seed: of the dataset.
        factor: what is drawn, one of :data:`FACTORS`.
        start: first particle.
        stop: one past the last; must be larger.
        draw: ``draw(source, n)`` gives the first ``n`` rows of a block. They must not depend on ``n``, as those of a single
            call that fills an array in order do not.
    """
    parts = []
    for first, last in blocks(start, stop):
        offset = first % BLOCK
        parts.append(draw(_stream(seed, factor, first // BLOCK, 1), last - first + offset)[offset:])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
