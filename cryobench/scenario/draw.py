"""Every draw of a dataset as a function of (seed, factor, index): the same for any batch size, worker count or order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.priors import poses_from_normals, shifts_from_uniforms
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.scenario.spec import Scenario
from cryobench.scenario.streams import generator
from cryobench.types import Quaternions, Shifts


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
        table: CTF of every micrograph, from :func:`cryobench.scenario.micrographs.draw_micrographs`.
    """
    quaternions = poses_from_normals(scenario.pose.prior(), _gather(seed, "pose", start, stop, normal=True))
    prior = scenario.shift.prior(scenario.field_of_view)
    shifts = shifts_from_uniforms(prior, _gather(seed, "shift", start, stop, normal=False))
    chosen = [int(generator(seed, "micrograph", index).integers(len(table))) for index in range(start, stop)]
    return Draws(quaternions, shifts, np.array(chosen, dtype=np.int32), table[torch.as_tensor(chosen)])
