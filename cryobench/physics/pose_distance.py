"""How far two distributions of poses are apart, modulo the specimen's symmetry: a statistic without parameters.

``D = sqrt((2 E|A - B| - E|A - A'| - E|B - B'|) / (2 E|A - B|))`` of rotation matrices under the Frobenius (chordal) distance
``|A - B|^2 = 6 - 2 tr(A^T B)``: the energy distance, normalised. Its square is the coefficient of inhomogeneity of Székely and
Rizzo (2013, section 6.2), from 0 to 1, and 0 only where the distributions are equal, as the chordal distance is that of a
Euclidean space. A share ``e`` of strangers in one of the distributions moves ``D`` in proportion to ``e``.

A pose ``R`` and ``R g``, with ``g`` of the specimen's point group, give the same image, so that both distributions are first made
invariant: ``|A - B|`` becomes its mean over the group, ``|A - B g|``. A turn of one whole distribution against the other is a
difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from jaxtyping import Float
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.priors import poses_from_normals
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.physics.symmetry import symmetry_rotations
from cryobench.types import Rotations

PAIRS: Final = 10**8
"""Distances that an estimate takes if not told how many poses to draw: 5,000 poses of each prior in C1, 2,500 in D2."""
RELABELLINGS: Final = 99
_ROWS: Final = 256


@final
@dataclass(frozen=True)
class PoseDistance:
    """An estimate of ``D``.

    Attributes:
        square: ``D^2``, without bias in its numerator, so that equal distributions give values on both sides of 0.
        standard_error: of the square, from sampling.
        same_square: what two samples of one distribution stay below in 95 % of cases (these samples, relabelled at random).
    """

    square: float
    standard_error: float
    same_square: float

    @property
    def value(self) -> float:
        """``D``, from 0 (equal) to 1."""
        return math.sqrt(max(self.square, 0.0))

    @property
    def same(self) -> float:
        """What ``D`` of two samples of one distribution stays below in 95 % of cases."""
        return math.sqrt(max(self.same_square, 0.0))

    def __str__(self) -> str:
        if self.square <= self.same_square:
            return f"{self.value:.3f}: no difference seen (two samples of one prior stay below {self.same:.3f})"
        error = self.standard_error / (2 * self.value)
        return f"{self.value:.3f} ± {error:.3f} (two samples of one prior stay below {self.same:.3f})"


def prior_distance(
    a: Mapping[str, Any], b: Mapping[str, Any], symmetry: str = "C1", *, count: int | None = None, seed: int = 0
) -> PoseDistance:
    """Distance of two pose priors (see :mod:`cryobench.physics.priors`).

    Args:
        a: the one.
        b: the other.
        symmetry: point group of the specimen.
        count: poses to draw of each; as many as :data:`PAIRS` allows if not given.
        seed: of the draws.
    """
    drawn = count or int(math.sqrt(PAIRS / len(symmetry_rotations(symmetry))) / 2)
    return pose_distance(draw_prior(a, drawn, 2 * seed), draw_prior(b, drawn, 2 * seed + 1), symmetry)


def draw_prior(prior: Mapping[str, Any], count: int, seed: int) -> Rotations:
    """Poses ``(count, 3, 3)`` of a prior, on the CPU."""
    normals = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return quaternion_to_matrix(poses_from_normals(prior, normals))


def pose_distance(a: Float[Tensor, "n 3 3"], b: Float[Tensor, "m 3 3"], symmetry: str = "C1") -> PoseDistance:
    """Distance of the distributions that two samples of poses ``(n, 3, 3)`` come from.

    Args:
        a: at least two independent poses.
        b: at least two others, independent of ``a``.
        symmetry: point group of the specimen, main axis on z.

    Raises:
        InputError: if a sample is too small.
    """
    n, m = len(a), len(b)
    if min(n, m) < 2:
        raise InputError(f"expected at least two poses in each sample, got {n} and {m}")
    in_a = torch.zeros(n + m, 1 + RELABELLINGS, dtype=torch.float64)
    in_a[:n, 0] = 1
    order = torch.Generator().manual_seed(0)
    for column in range(1, 1 + RELABELLINGS):
        in_a[torch.randperm(n + m, generator=order)[:n], column] = 1
    in_a = in_a.to(a.device)
    to_a, to_all = _summed_chords(torch.cat([a, b]).double(), symmetry_rotations(symmetry).to(a.device), in_a)
    to_b = to_all - to_a
    between = (in_a * to_b).sum(0) / (n * m)
    within_a = (in_a * to_a).sum(0) / (n * (n - 1))
    within_b = ((1 - in_a) * to_b).sum(0) / (m * (m - 1))
    squares = 1 - (within_a + within_b) / (2 * between)
    # the influence of every pose on the square, to first order
    square = squares[0]
    of_a = 2 * (1 - square) * to_b[:n, 0] / m - 2 * to_a[:n, 0] / (n - 1)
    of_b = 2 * (1 - square) * to_a[n:, 0] / n - 2 * to_b[n:, 0] / (m - 1)
    error = ((of_a.var() / n + of_b.var() / m).sqrt() / (2 * between[0])).item()
    return PoseDistance(square.item(), error, squares[1:].quantile(0.95).item())


def _summed_chords(
    poses: Float[Tensor, "n 3 3"], group: Float[Tensor, "order 3 3"], labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Of every pose: the sums of its distances (means over the group) to the poses of each label, and to all others.

    Args:
        poses: ``(n, 3, 3)``.
        group: ``(order, 3, 3)``.
        labels: ``(n, sets)``, 1 for the poses of a set.

    Returns:
        ``(n, sets)`` and ``(n, 1)``.
    """
    flat = poses.reshape(-1, 9)
    # the poses times each element of the group; single precision suffices for a mean of distances
    turned = [(poses @ g).reshape(-1, 9).float() for g in group]
    labels_and_all = torch.cat([labels, torch.ones_like(labels[:, :1])], 1).float()
    sums = []
    for start in range(0, len(poses), _ROWS):
        rows = flat[start : start + _ROWS].float()
        chords = sum(((6 - 2 * rows @ t.T).clamp(min=0).sqrt() for t in turned), rows.new_zeros(1)) / len(group)
        own = torch.arange(len(rows))
        chords[own, start + own] = 0
        sums.append((chords @ labels_and_all).double())
    whole = torch.cat(sums)
    return whole[:, :-1], whole[:, -1:]
