"""How an atom scatters: as the Gaussians whose sum is its density, by one of two rules."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import gemmi
import numpy as np
from scipy import constants

from cryobench.errors import InputError
from cryobench.specimens.gaussians import GaussianMixture
from cryobench.specimens.structure import Atoms

Scattering: TypeAlias = Literal["molmap", "electron"]

WIDTH_PER_RESOLUTION: Final = 0.225
"""Standard deviation of ``molmap``'s Gaussian over the resolution, ``1 / (pi sqrt(2))``: 1/e is left at 1 / resolution."""

VOLT_ANGSTROM2: Final = constants.h**2 / (2 * np.pi * constants.m_e * constants.e) * 1e20
"""Potential over scattering: ``h^2 / (2 pi m0 e)`` = 47.878 V Å^2 (Peng 1999, Micron 30, 625, eq. 2)."""

_VARIANCE_PER_B = 1 / (8 * np.pi**2)


def scatter(atoms: Atoms, scattering: Scattering, resolution: float, b_factors: bool) -> GaussianMixture:
    """The density of atoms as a sum of Gaussians.

    ``"molmap"``, the rule of UCSF Chimera's command of that name: one Gaussian an atom, its integral the atomic number, so
    electrons and electrons per cubic angstrom. ``"electron"``: the electrostatic potential of neutral free atoms in volts, from
    the five Gaussians of each element's electron scattering factor ``f(s) = sum_i a_i exp(-b_i s^2 / 4)`` (International Tables
    C, 4.3.2.2, as gemmi has them), of integrals ``47.878 V Å^2 a_i`` and variances ``b_i / 8 pi^2``. Both count
    occupancies, and both are blurred by ``molmap``'s Gaussian of 0.225 x ``resolution`` and, if asked, by each atom's isotropic
    B-factor, whose variance is ``B / 8 pi^2``.

    Args:
        atoms: what scatters; centres stay where they are.
        scattering: the rule.
        resolution: angstrom; 0 for no such blur.
        b_factors: whether B-factors blur.

    Raises:
        InputError: B-factors are asked for, and some are negative or all 0; atoms without any blur; an element that has no
            scattering factor.
    """
    variance = np.full(len(atoms.positions), (WIDTH_PER_RESOLUTION * resolution) ** 2)
    if b_factors:
        if atoms.b_factors.min() < 0 or atoms.b_factors.max() == 0:
            raise InputError(
                f"expected B-factors of at least 0 Å^2, some above, got {atoms.b_factors.min():g} to "
                f"{atoms.b_factors.max():g} Å^2; leave b_factors out"
            )
        variance += _VARIANCE_PER_B * atoms.b_factors
    if scattering == "molmap":
        if variance.min() == 0:
            raise InputError(
                "expected a resolution above 0 Å where atoms are points, got 0; state it, or use b_factors"
            )
        width = np.sqrt(variance) if b_factors else WIDTH_PER_RESOLUTION * resolution
        return GaussianMixture(atoms.positions, atoms.elements * atoms.occupancies, width)
    kinds, of = np.unique(atoms.elements, return_inverse=True)
    factors = [gemmi.Element(int(number)).c4322 for number in kinds]
    missing = [gemmi.Element(int(n)).name for n, factor in zip(kinds, factors, strict=True) if factor is None]
    if missing:
        raise InputError(f"expected elements with electron scattering factors, got {', '.join(missing)}; use molmap")
    strength, blur = (np.array([getattr(factor, name) for factor in factors])[of] for name in "ab")  # (atom, term)
    return GaussianMixture(
        np.repeat(atoms.positions, strength.shape[1], axis=0),
        (VOLT_ANGSTROM2 * strength * atoms.occupancies[:, None]).ravel(),
        np.sqrt(_VARIANCE_PER_B * blur + variance[:, None]).ravel(),
    )
