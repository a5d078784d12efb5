"""Every draw of a dataset as a function of (seed, factor, index): the same for any batch size, worker count or order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryobench.interop.ctffind import read_ctf_table
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.priors import poses_from_normals, shifts_from_uniforms
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.scenario.spec import CTFSpec, NoCTF, Scenario, TableCTF, UniformCTF
from cryobench.types import Quaternions, Shifts

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


def _gather(seed: int, factor: str, start: int, stop: int, normal: bool) -> Tensor:
    rows = np.empty((stop - start, 4))
    for row, index in enumerate(range(start, stop)):
        source = generator(seed, factor, index)
        rows[row] = source.standard_normal(4) if normal else source.random(4)
    return torch.as_tensor(rows)


@dataclass(frozen=True)
class Draws:
    """Of particles ``start ... stop``: ``quaternions (n, 4)``, ``shifts (n, 2)`` in angstrom, micrograph numbers, CTFs."""

    quaternions: Quaternions
    shifts: Shifts
    micrographs: NDArray[np.int32]
    ctf: ContrastTransfer

    @property
    def rotations(self) -> Tensor:
        """Pose matrices ``(n, 3, 3)``."""
        return quaternion_to_matrix(self.quaternions)


def draw_particles(scenario: Scenario, seed: int, start: int, stop: int, table: ContrastTransfer) -> Draws:
    """Draw poses, shifts and micrographs of particles ``start ... stop - 1``.

    Args:
        scenario: what to draw from.
        seed: of the dataset.
        start: first particle.
        stop: one past the last.
        table: CTF of every micrograph, from :func:`draw_micrographs`.
    """
    quaternions = poses_from_normals(scenario.pose.prior(), _gather(seed, "pose", start, stop, normal=True))
    prior = scenario.shift.prior(scenario.field_of_view)
    shifts = shifts_from_uniforms(prior, _gather(seed, "shift", start, stop, normal=False))
    chosen = [int(generator(seed, "micrograph", index).integers(len(table))) for index in range(start, stop)]
    return Draws(quaternions, shifts, np.array(chosen, dtype=np.int32), table[torch.as_tensor(chosen)])


def draw_micrographs(spec: CTFSpec, seed: int) -> ContrastTransfer:
    """The CTF of every micrograph of a dataset; a single one of no effect where the scenario has no CTF."""
    match spec:
        case NoCTF():
            # with amplitude contrast 1 and no aberration the function is sin(pi / 2) = 1
            return _transfer(spec, *(np.zeros(1) for _ in range(3)))
        case UniformCTF():
            defocus, angle = np.empty(spec.micrographs), np.empty(spec.micrographs)
            for index in range(spec.micrographs):
                source = generator(seed, "defocus", index)
                defocus[index] = source.uniform(spec.defocus_min, spec.defocus_max)
                angle[index] = source.uniform(0, np.pi)
            return _transfer(spec, defocus + spec.astigmatism / 2, defocus - spec.astigmatism / 2, angle)
        case TableCTF():
            table = read_ctf_table(Path(spec.path), max_resolution=spec.max_fit_resolution)
            return _transfer(spec, table.defocus_u, table.defocus_v, table.defocus_angle, table.phase_shift)


def _transfer(
    spec: CTFSpec,
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    angle: NDArray[np.float64],
    phase: NDArray[np.float64] | float = 0,
) -> ContrastTransfer:
    ones = np.ones_like(u)
    flat = isinstance(spec, NoCTF)
    columns = {
        "defocus_u": u,
        "defocus_v": v,
        "defocus_angle": angle,
        "voltage": spec.voltage * ones,
        "spherical_aberration": (0 if flat else spec.spherical_aberration) * ones,
        "amplitude_contrast": (1.0 if flat else spec.amplitude_contrast) * ones,
        "phase_shift": (np.deg2rad(0 if flat else spec.phase_shift_degrees) + phase) * ones,
        "b_factor": spec.b_factor * ones,
    }
    return ContrastTransfer.stack({name: torch.as_tensor(column) for name, column in columns.items()})
