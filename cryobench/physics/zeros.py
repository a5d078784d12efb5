"""Where no image of a dataset holds anything: spatial frequencies at which every CTF vanishes."""

from __future__ import annotations

from typing import Final

import torch

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.detector import DetectorTransfer
from cryobench.physics.grids import half_frequencies, inside_nyquist

FINE_GRID: Final = 256
"""Frequencies a side, at least. Zeros lie between them, and show as a change of sign."""
ENOUGH_CTFS: Final = 128


def find_common_zero(
    table: ContrastTransfer, detector: DetectorTransfer | None, box: int, pixel_size: float
) -> tuple[float, float, float | None, int]:
    """Look for a spatial frequency inside the Nyquist disc where every CTF vanishes.

    Zeros lie between the frequencies of any grid: a common one is where all CTFs change sign between the same two neighbours
    of a grid of at least :data:`FINE_GRID` frequencies a side.

    Returns:
        The lowest over frequencies of the largest ``|CTF|^2``; the frequency where that is, 1/angstrom; the lowest frequency of a
        common zero, or None; how many CTFs were looked at (all, unless the first :data:`ENOUGH_CTFS` have no common zero).
    """
    fine = box * -(-FINE_GRID // box)  # the same highest frequency in finer steps
    like = table.defocus_u
    kx, ky = half_frequencies(fine, like)
    frequency = (kx**2 + ky**2).sqrt() / (fine * pixel_size)
    inside = inside_nyquist(fine, like)
    passed = torch.ones_like(frequency) if detector is None else detector.evaluate(fine, pixel_size, like)
    strongest = torch.zeros_like(frequency)
    shared = inside[:, 1:] & inside[:, :-1]
    order = torch.linspace(0, len(table) - 1, len(table)).long()
    order = torch.cat([order[i :: -(-len(table) // ENOUGH_CTFS)] for i in range(-(-len(table) // ENOUGH_CTFS))])
    used = 0
    for index in torch.split(order, 8):
        transfer = table[index].evaluate(fine, pixel_size) * passed
        strongest = torch.maximum(strongest, transfer.square().amax(0))
        shared &= (transfer[..., 1:] * transfer[..., :-1] <= 0).all(0)
        used += len(index)
        if used >= ENOUGH_CTFS and not shared.any():
            break
    outside = torch.where(inside, strongest, torch.inf)
    lowest = int(outside.argmin())
    common = float(frequency[:, 1:][shared].min()) if shared.any() else None
    return float(outside.flatten()[lowest]), float(frequency.flatten()[lowest]), common, used
