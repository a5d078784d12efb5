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
from cryobench.scenario.pairing import choose_patches
from cryobench.scenario.spec import Scenario
from cryobench.scenario.streams import BLOCK, draw_rows
from cryobench.types import Quaternions, Shifts


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


def draw_particles(
    scenario: Scenario,
    seed: int,
    start: int,
    stop: int,
    table: ContrastTransfer,
    paired: NDArray[np.int32] | None = None,
) -> Draws:
    """Draw poses, shifts and micrographs of particles ``start ... stop - 1``.

    Args:
        scenario: what to draw from.
        seed: of the dataset.
        start: first particle.
        stop: one past the last.
        table: CTF of every micrograph, from :func:`cryobench.scenario.micrographs.draw_micrographs`.
        paired: micrograph of each noise patch of the data, from :func:`cryobench.scenario.pairing.paired_micrographs`: a particle
            is on that of its patch. Drawn at random if not given.
    """
    normals = draw_rows(seed, "pose", start, stop, lambda source, n: source.standard_normal((n, 4)))
    uniforms = draw_rows(seed, "shift", start, stop, lambda source, n: source.random((n, 4)))
    # bounded integers are drawn a whole block at a time: how many words one takes depends on those before it
    if paired is None:
        chosen = draw_rows(
            seed, "micrograph", start, stop, lambda source, n: source.integers(len(table), size=BLOCK)[:n]
        )
    else:
        chosen = paired[choose_patches(seed, "noise", start, stop, len(paired))]
    shift_prior = scenario.shift.prior(scenario.field_of_view)
    return Draws(
        poses_from_normals(scenario.pose.prior(), torch.as_tensor(normals)),
        shifts_from_uniforms(shift_prior, torch.as_tensor(uniforms)),
        chosen.astype(np.int32),
        table[torch.as_tensor(chosen)],
    )


def draw_states(weights: tuple[float, ...], seed: int, start: int, stop: int) -> NDArray[np.int32]:
    """Which state of an ensemble each of particles ``start ... stop - 1`` is in: state ``i`` with probability ``weights[i]``."""
    uniforms = draw_rows(seed, "state", start, stop, lambda source, n: source.random(n))
    edges = np.cumsum(weights)
    return np.searchsorted(edges[:-1] / edges[-1], uniforms, side="right").astype(np.int32)
