"""Fourier shell correlation of two volumes, and the resolution that a threshold reads off it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from cryobench.conventions import THRESHOLDS
from cryobench.errors import InputError
from cryobench.evaluate.shells import check_pair, shared_shells, spectrum
from cryobench.types import Curve, Volume

State = Literal["crossed", "above_to_nyquist", "below_at_first_shell"]


@dataclass(frozen=True)
class Resolution:
    """Where a Fourier shell correlation falls through a threshold.

    Attributes:
        value: resolution in angstrom; the Nyquist limit, shown as "<=", if the curve never falls through; None if it was
            never above.
        state: which of the three.
    """

    value: float | None
    state: State


def fsc(a: Volume, b: Volume) -> Curve:
    """Fourier shell correlation ``Re sum A conj(B) / sqrt(sum |A|^2 sum |B|^2)`` of hard shells, no mask.

    A coefficient belongs to the shell of its rounded radius (Harauz & van Heel 1986). Shells run from 0 (the mean density)
    to ``box // 2``, and coefficients count as in ``relion_postprocess``, whose unmasked curve this is, shell by shell (to 1e-6
    where both programs read the same maps). One thing differs: the last shell of an even box, half of which lies beyond the
    Nyquist sphere, ends at that sphere where one of the volumes does (:func:`~cryobench.evaluate.shells.shared_shells`). A
    shell without power in either volume has correlation 0.

    Args:
        a: cubic volume ``(z, y, x)``.
        b: volume of the same shape.

    Returns:
        Curve of shape ``(box // 2 + 1,)``, float64, on the device of ``a``.

    Raises:
        InputError: if the shapes differ or are not cubic, or a volume holds NaN, infinity or nothing but zeros.
    """
    check_pair(a, b)
    spectrum_a, spectrum_b = spectrum(a), spectrum(b.to(a.device))
    shells = shared_shells(spectrum_a, spectrum_b)

    def rounding(volume: Volume) -> float:
        return torch.finfo(volume.dtype).eps ** 2

    cross = shells.sum((spectrum_a * spectrum_b.conj()).real)
    power_a, power_b = (shells.sum(s.real**2 + s.imag**2) for s in (spectrum_a, spectrum_b))
    # rounding errors may correlate perfectly: what they amount to is no power
    present = (power_a > rounding(a) * power_a.sum()) & (power_b > rounding(b) * power_b.sum())
    return torch.where(present, cross / (power_a.sqrt() * power_b.sqrt()), 0.0).clamp(-1, 1)


def correlate(a: Volume, b: Volume) -> Curve:
    """FSC, and 0 in every shell where a volume is empty still."""
    if a.any() and b.any():
        return fsc(a, b)
    return torch.zeros(a.shape[-1] // 2 + 1, dtype=torch.float64)


def spatial_frequencies(box: int, voxel_size: float) -> Curve:
    """Spatial frequency of shells ``0 ... box // 2`` in 1/angstrom. Shape ``(box // 2 + 1,)``."""
    return torch.arange(box // 2 + 1, dtype=torch.float64) / (box * voxel_size)


def resolution(curve: Curve, threshold: float, box: int, voxel_size: float) -> Resolution:
    """The first downward crossing of ``threshold``, interpolated linearly in spatial frequency between two shells.

    Shell 0 says nothing about resolution and is left out of the search.

    Args:
        curve: correlation of shells ``0 ... box // 2``.
        threshold: for instance 0.143 (Rosenthal & Henderson 2003) or 0.5.
        box: voxels along a side.
        voxel_size: angstrom.
    """
    values = curve.tolist()
    if len(values) != box // 2 + 1:
        raise InputError(f"expected a curve of {box // 2 + 1} shells for box {box}, got {len(values)}")
    below = [shell for shell in range(1, len(values)) if values[shell] < threshold]
    if not below:
        return Resolution(2 * voxel_size, "above_to_nyquist")
    if below[0] == 1:
        return Resolution(None, "below_at_first_shell")
    after, before = values[below[0]], values[below[0] - 1]
    crossing = below[0] - 1 + (before - threshold) / (before - after)
    return Resolution(box * voxel_size / crossing, "crossed")


def resolutions(curve: Curve, box: int, voxel_size: float) -> dict[str, Resolution]:
    """Resolution at each of the two thresholds of the conventions, keyed ``"0.143"`` and ``"0.5"``."""
    return {f"{threshold:g}": resolution(curve, threshold, box, voxel_size) for threshold in THRESHOLDS}


def frequency(found: Resolution) -> float:
    """The resolution as a spatial frequency in 1/angstrom, which averages and orders as resolutions do not; 0 for none."""
    return 0.0 if found.value is None else 1 / found.value


def half_map_ssnr(curve: Curve) -> Curve:
    """Spectral signal-to-noise ratio of the mean of two half-maps that correlate by ``F``: ``2 F / (1 - F)``.

    (Unser et al. 1987, Penczek 2002; where ``F`` is below 0 it is 0, where ``F`` is 1 infinite.)
    """
    return 2 * curve.clamp(min=0) / (1 - curve)


def truth_ssnr(curve: Curve) -> Curve:
    """Spectral signal-to-noise ratio of a map that correlates by ``C`` with a truth free of noise: ``C^2 / (1 - C^2)``."""
    return curve.clamp(min=0) ** 2 / (1 - curve**2)
