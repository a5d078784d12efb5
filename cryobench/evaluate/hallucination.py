"""The hallucination gap: by how much two half-maps promise more than the truth bears out."""

from __future__ import annotations

from dataclasses import dataclass

from cryobench.errors import InputError
from cryobench.types import Curve

PROMISED = 0.143
"""A half-map correlation from which on a shell is said to hold signal."""


@dataclass(frozen=True)
class Gap:
    """What half-maps promise and truth shows, by shell ``0 ... box // 2``.

    Attributes:
        expected: correlation of the mean map with the truth that the half-map correlation promises.
        by_shell: expected less measured; above 0 where the halves agree on what is not there.
        mean: of ``by_shell`` over shells 1 to ``last_shell``, signed; None where the halves promise nothing.
        last_shell: the last shell before the half-map curve first falls below 0.143; 0 where it starts below.
    """

    expected: Curve
    by_shell: Curve
    mean: float | None
    last_shell: int


def expect_truth_curve(half_map: Curve) -> Curve:
    """``sqrt(2 F / (1 + F))``: correlation with the truth of the mean of two maps with independent noise that correlate by ``F``.

    (Rosenthal & Henderson 2003, J. Mol. Biol. 333:721-745, C_ref; anticorrelation promises nothing.)
    """
    positive = half_map.clamp(min=0)
    return (2 * positive / (1 + positive)).sqrt()


def measure_gap(half_map: Curve, truth: Curve) -> Gap:
    """The hallucination gap of a half-map curve and the mean map's curve against the truth.

    Independent errors in the halves make it 0 up to sampling; an error that the halves share (a bias of the method, a template,
    a mask) makes it positive: it is counted as signal between the halves and as noise against the truth. The mean
    keeps negative shells, so that chance does not add up.

    Args:
        half_map: correlation of shells ``0 ... box // 2`` of half 1 with half 2.
        truth: correlation of the mean map with the truth, of the same shells.
    """
    if half_map.shape != truth.shape:
        raise InputError(f"expected two curves of one box, got {len(half_map)} and {len(truth)} shells")
    expected = expect_truth_curve(half_map)
    by_shell = expected - truth
    below = [shell for shell, value in enumerate(half_map.tolist()) if shell > 0 and value < PROMISED]
    last = (below[0] if below else len(half_map)) - 1
    mean = float(by_shell[1 : last + 1].mean()) if last else None
    return Gap(expected, by_shell, mean, last)
