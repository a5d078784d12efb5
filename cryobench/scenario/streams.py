"""Counter-based random streams: every draw a function of (seed, factor, index), whatever the batch, worker or order."""

from __future__ import annotations

from functools import cache
from typing import Final

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
}


@cache
def _key(seed: int, factor: str) -> NDArray[np.unsignedinteger]:
    return np.random.SeedSequence(seed, spawn_key=(FACTORS[factor],)).generate_state(2, np.uint64)


def generator(seed: int, factor: str, index: int) -> np.random.Generator:
    """The generator of one draw: Philox keyed by seed and factor, its counter set apart by index (Salmon et al. 2011)."""
    counter = np.array([0, 0, index, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=_key(seed, factor), counter=counter))
