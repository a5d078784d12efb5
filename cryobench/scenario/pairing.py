"""Patches and particles of one micrograph: whose CTF a particle has when its noise comes from a real patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.boxes import micrograph_key
from cryobench.noise.patches import read_patch_micrographs
from cryobench.scenario.ctf_spec import CTFSpec, TableCTF
from cryobench.scenario.micrographs import draw_micrographs, table_micrographs
from cryobench.scenario.noise_spec import PatchNoise
from cryobench.scenario.spec import Scenario
from cryobench.scenario.streams import BLOCK, draw_rows

POOLS: Final = ("noise", "pool-1", "pool-2")
"""The data's own pool of noise, and one for the method in each half: every third patch."""


def choose_patches(seed: int, factor: str, start: int, stop: int, count: int) -> NDArray[np.int64]:
    """Which of ``count`` patches each of images ``start ... stop - 1`` is cut from."""
    return draw_rows(seed, factor, start, stop, lambda source, n: source.integers(count, size=BLOCK)[:n])


def micrograph_numbers(names: Sequence[str], ctf: CTFSpec) -> tuple[NDArray[np.int32], int]:
    """Numbers of the micrographs of patches among those of a dataset, and how many the dataset has.

    A micrograph that the CTF table names has the number of its row, as the particles on it have; others are counted on from the
    last row, so that equal numbers always mean one micrograph.
    """
    rows = table_micrographs(ctf) if isinstance(ctf, TableCTF) else {}
    own = {micrograph_key(name): row for name, row in rows.items()}
    count = len(draw_micrographs(ctf, 0))
    numbers = [own.get(micrograph_key(name), count + i) for i, name in enumerate(names)]
    return np.array(numbers, dtype=np.int32), count


def paired_rows(names: Sequence[str], micrograph: NDArray[np.int32], ctf: CTFSpec) -> NDArray[np.int32]:
    """Row of the CTF table that each patch's micrograph has, -1 where it has none.

    Raises:
        InputError: if no patch has one.
    """
    numbers, count = micrograph_numbers(names, ctf)
    # one more for the patches of micrograph -1, which nobody knows
    rows = np.append(np.where(numbers < count, numbers, -1), -1).astype(np.int32)[micrograph]
    if not (rows >= 0).any():
        got = f"CTFs of kind {ctf.kind!r}"
        if isinstance(ctf, TableCTF):
            got = f"{ctf.path}, which names none of the patches' ({', '.join(names[:3]) or 'they state none'} ...)"
        raise InputError(
            f"expected noise.pair with a noise store and CTFs of kind 'table' that name its micrographs, got {got}"
        )
    return rows


def paired_micrographs(scenario: Scenario) -> NDArray[np.int32] | None:
    """For a scenario whose noise is paired, the CTF row of each patch of the data's pool; None for any other."""
    spec = scenario.noise
    if not (isinstance(spec, PatchNoise) and spec.pair):
        return None
    names, micrograph = read_patch_micrographs(spec.path, spec.indices)
    rows = paired_rows(names, micrograph, scenario.ctf)
    return rows[rows >= 0][:: len(POOLS)]
