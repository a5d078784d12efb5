"""Ensembles: a specimen of which every particle is in one of several states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cryobench.errors import InputError
from cryobench.specimens.base import Specimen
from cryobench.types import Volume


@dataclass(frozen=True)
class Ensemble(Specimen):
    """Several specimens, each with the share of the particles that are in its state. Make one with :func:`mix`.

    Attributes:
        name: what it is called.
        states: the specimens, none of them an ensemble.
        weights: the states' shares of the particles, which sum to one.
        symmetry: the states' point group where they agree, else C1.
        description: one line for people.
    """

    name: str
    states: tuple[Specimen, ...]
    weights: tuple[float, ...]
    symmetry: str
    description: str

    def density(self, box: int, voxel_size: float) -> Volume:
        """The mean over the particles: the states' densities by their weights. See :meth:`Specimen.density`."""
        mean = torch.zeros(box, box, box)
        for state, weight in zip(self.states, self.weights, strict=True):
            mean += weight * state.density(box, voxel_size)
        return mean

    def facts(self) -> list[tuple[str, str]]:
        """The states and their shares."""
        shares = zip(self.states, self.weights, strict=True)
        return [
            (f"state {number}", f"{weight:.3g} of the particles: {state.name} ({state.symmetry}), {state.description}")
            for number, (state, weight) in enumerate(shares)
        ]


def mix(name: str, parts: Sequence[tuple[Specimen, float]], description: str = "", symmetry: str = "") -> Ensemble:
    """An ensemble of ``parts``, each a specimen and its weight. Ensembles among them are taken apart.

    Args:
        name: of the ensemble.
        parts: the weights are of any scale.
        description: one line for people; made up where not given.
        symmetry: C1, or the point group that all states have; that group where not given, or C1 where they differ.

    Raises:
        InputError: no parts, a weight that is not positive, or a symmetry that not every state has.
    """
    if not parts:
        raise InputError(f"expected at least one state in the ensemble {name!r}, got none")
    for specimen, weight in parts:
        if not 0 < weight < math.inf:
            raise InputError(f"expected a weight above 0 for state {specimen.name!r} of {name!r}, got {weight:g}")
    total = sum(weight for _, weight in parts)
    states = [(state, share * weight / total) for specimen, weight in parts for state, share in states_of(specimen)]
    groups = {state.symmetry for state, _ in states}
    shared = groups.pop() if len(groups) == 1 else "C1"
    if symmetry not in ("", "C1", shared):
        raise InputError(f"expected symmetry C1 or that of every state of {name!r} ({shared}), got {symmetry!r}")
    return Ensemble(
        name=name,
        states=tuple(state for state, _ in states),
        weights=tuple(weight for _, weight in states),
        symmetry=symmetry or shared,
        description=description or f"ensemble of {len(states)} states",
    )


def states_of(specimen: Specimen) -> list[tuple[Specimen, float]]:
    """The states of an ensemble with their weights, which sum to one; any other specimen is one state of weight 1."""
    if isinstance(specimen, Ensemble):
        return list(zip(specimen.states, specimen.weights, strict=True))
    return [(specimen, 1.0)]
