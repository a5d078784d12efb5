"""How many independent Fourier coefficients a shell of noise holds, and how much shells have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryobench.evaluate.shells import Shells, half_space, spectrum
from cryobench.physics.symmetry import symmetry_rotations
from cryobench.types import Volume

FARTHEST: Final = 16
"""Shells: noise that correlates coefficients farther apart lives in less than a hundredth of the box."""
_QUADRATURE: Final = (np.arange(4) + 0.5) / 4


@dataclass(frozen=True)
class Independent:
    """What the noise of two maps amounts to in shells ``0 ... box // 2``.

    Attributes:
        count: independent real numbers in each shell, ``(shell,)``.
        correlation: of sums over two shells, ``(shell, shell)``.
        share: of the box that noise fills, and so of all coefficients that are independent: 1 for noise that fills it.
    """

    count: NDArray[np.float64]
    correlation: NDArray[np.float64]
    share: float


def count_independent(a: Volume, b: Volume, symmetry: str = "C1") -> Independent:
    """Independent coefficients of the noise by which two maps of one specimen differ.

    Noise of local variance ``v(x)`` correlates coefficients by ``g(q) = |V(q)|^2 / |V(0)|^2`` at distance ``q``, ``V`` being the
    transform of ``v``: a shell of ``n`` holds ``n / sum_q g(q) P(q)`` independent ones, where ``P(q)`` is the chance that a
    step of length ``q`` from a shell ends on it (see :func:`chance_to_reach`); without ``P`` the sum is ``1 / share``, with
    ``share = (sum v)^2 / (N sum v^2)``. A symmetry that was imposed divides the count by its order; coefficients that
    :class:`~cryobench.evaluate.shells.Shells` holds twice count as often as they are independent.

    Args:
        a: cubic volume ``(z, y, x)``.
        b: volume of the same shape and in the same frame.
        symmetry: point group that was imposed on both.
    """
    box = a.shape[-1]
    steps, weights = _correlate_coefficients(a, b)
    common = np.einsum("q,qst->st", weights, chance_to_reach(box, steps))
    shells, (x, _, _) = Shells(box), half_space(box)
    held = shells.sum(torch.ones(box, box, box // 2 + 1)).numpy()
    twice = shells.sum((x == 0).double().expand(box, box, -1)).numpy()
    # (sum w)^2 / sum w^2 over pairs of mates, two real numbers each, those of the plane weighing double
    distinct = 2 * held**2 / (held + twice) / len(symmetry_rotations(symmetry))
    covariance = common * distinct[:, None]
    covariance = (covariance + covariance.T) / 2
    deviation = np.sqrt(np.diag(covariance))
    return Independent(
        distinct / np.diag(common), covariance / np.outer(deviation, deviation), float(1 / max(weights.sum(), 1.0))
    )


def _correlate_coefficients(a: Volume, b: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances ``q`` and what all steps of each length add up to in ``sum_q g(q)``; the first is 0 and adds 1."""
    box = a.shape[-1]
    variance = _whitened_difference(a, b).square()
    x, y, z = half_space(box)
    squared = (x**2 + y**2 + z**2).round().long()
    power = torch.fft.rfftn(variance).abs() ** 2
    if not power[0, 0, 0] > 0:
        return np.zeros(1), np.ones(1)
    # squares of Gaussian numbers scatter about their variance: E d^4 = 3 v^2, so 2 v^2 of each voxel is in every coefficient
    power -= 2 / 3 * variance.square().sum() * (squared > 0)
    power = (power * torch.where(x > 0, 2.0, 1.0)).flatten()
    near = squared.flatten() <= min(box // 3, FARTHEST) ** 2
    sums = np.bincount(squared.flatten()[near].numpy(), power[near].numpy())
    steps = np.flatnonzero(np.bincount(squared.flatten()[near].numpy()))
    return np.sqrt(steps), sums[steps] / sums[0]


def _whitened_difference(a: Volume, b: Volume) -> Tensor:
    """Difference of two maps whose shells were brought to one power: shells on which they agree have little part in it."""
    box = a.shape[-1]
    shells, spectra = Shells(box, a.device), [spectrum(a), spectrum(b)]
    count = shells.sum(torch.ones(spectra[0].shape, device=a.device))
    for i, values in enumerate(spectra):
        power = shells.sum(values.abs() ** 2) / count
        factor = torch.where(power > 1e-12 * power.max(), power.clamp(min=1e-300).rsqrt(), 0.0)
        spectra[i] = values * factor[shells.index].reshape(values.shape)
    difference = spectra[0] - spectra[1]
    difference[0, 0, 0] = 0
    return torch.fft.irfftn(difference, s=(box, box, box)).cpu()


def chance_to_reach(box: int, steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chance that a step of given length in a random direction leads from a point of one shell to another shell.

    From radius ``r`` a step ``q`` leads to a squared radius uniform between ``(r - q)^2`` and ``(r + q)^2`` (Archimedes: the
    cosine of the angle between them is uniform).

    Args:
        box: voxels along a side.
        steps: lengths in shells; the first is 0.

    Returns:
        ``(step, from shell, to shell)``.
    """
    shell = np.arange(box // 2 + 1)
    low, high = np.maximum(shell - 0.5, 0), shell + 0.5
    radii = np.cbrt(low[:, None] ** 3 + _QUADRATURE * (high**3 - low**3)[:, None])
    chances = np.zeros((len(steps), len(shell), len(shell)))
    chances[0] = np.eye(len(shell))
    for i, step in enumerate(steps[1:], start=1):
        nearest, farthest = (radii - step) ** 2, (radii + step) ** 2
        overlap = np.minimum(farthest[..., None], high**2) - np.maximum(nearest[..., None], low**2)
        chances[i] = (overlap.clip(min=0) / (farthest - nearest)[..., None]).mean(1)
    return chances
