"""Hypothesis strategies for what cryo-EM code takes: poses, shifts, volumes, images and CTFs, small and in double precision.

Arrays are drawn as seeds, so that hypothesis shrinks sizes and seeds and not single voxels.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.types import Images, Rotations, Shifts, Volume

boxes: SearchStrategy[int] = st.integers(4, 10)
"""Sides of small boxes, odd and even."""
generators: SearchStrategy[torch.Generator] = st.integers(0, 2**31 - 1).map(lambda s: torch.Generator().manual_seed(s))
"""Seeded generators on the CPU."""


def _between(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)


@st.composite
def rotations(draw: st.DrawFn, count: int = 3) -> Rotations:
    """``(count, 3, 3)`` poses, uniform on SO(3)."""
    return quaternion_to_matrix(uniform_quaternions(count, draw(generators), torch.float64))


@st.composite
def shifts(draw: st.DrawFn, count: int = 3, largest: float = 10.0) -> Shifts:
    """``(count, 2)`` shifts in angstrom, each component at most ``largest``."""
    return _between(-largest, largest, 2 * count, draw(generators)).reshape(count, 2)


@st.composite
def volumes(draw: st.DrawFn, box: SearchStrategy[int] = boxes) -> Volume:
    """Cubes of standard normal voxels."""
    side = draw(box)
    return torch.randn(side, side, side, generator=draw(generators), dtype=torch.float64)


@st.composite
def images(draw: st.DrawFn, count: int = 3, box: SearchStrategy[int] = boxes) -> Images:
    """``(count, y, x)`` square images of standard normal pixels."""
    side = draw(box)
    return torch.randn(count, side, side, generator=draw(generators), dtype=torch.float64)


@st.composite
def contrast_transfers(draw: st.DrawFn, count: int = 3) -> ContrastTransfer:
    """CTFs of ``count`` images: underfocus of 0.8 to 2.5 micrometres, astigmatic, 100 to 300 kV."""
    generator = draw(generators)

    def column(low: float, high: float) -> Tensor:
        return _between(low, high, count, generator)

    return ContrastTransfer(
        defocus_u=column(8e3, 25e3),
        defocus_v=column(8e3, 25e3),
        defocus_angle=column(-torch.pi, torch.pi),
        voltage=column(100, 300),
        spherical_aberration=column(0, 2.7),
        amplitude_contrast=column(0, 0.3),
        phase_shift=column(0, 2),
        b_factor=column(0, 200),
    )
