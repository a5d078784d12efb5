"""Fourier shell correlation under a mask, and what is left of it when the mask's own part is taken away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.fsc import correlate
from cryobench.evaluate.shells import Shells, spectrum
from cryobench.types import Curve, Volume

RANDOMISED_BELOW = 0.8
"""Phases are drawn anew from the first shell on whose unmasked correlation is lower (RELION's default)."""
_DRAWS = 4
"""Of random phases, averaged; RELION draws once, which moves a corrected curve that lies flat by up to two shells."""
SPARED = 2
"""Shells after the first randomised one that are not corrected: a mask's spectrum mixes the phases that were kept into them."""


@dataclass(frozen=True)
class MaskedCurves:
    """Correlation of two maps under one mask, shells ``0 ... box // 2``.

    Attributes:
        unmasked: without the mask.
        masked: of both maps times the mask.
        randomised: of both maps times the mask, after their phases were drawn anew from ``randomised_from`` on: what the
            mask alone makes correlate.
        corrected: ``(masked - randomised) / (1 - randomised)``.
        randomised_from: first shell of random phases; None if the maps agree too well for any, and nothing was corrected.
    """

    unmasked: Curve
    masked: Curve
    randomised: Curve
    corrected: Curve
    randomised_from: int | None


def correct_for_mask(a: Volume, b: Volume, mask: Volume, seed: int = 0) -> MaskedCurves:
    """Masked correlation, corrected for the mask by phase randomisation (Chen et al. 2013, Ultramicroscopy 135:24-35).

    ``FSC_true = (FSC_t - FSC_n) / (1 - FSC_n)``, with ``FSC_t`` under the mask and ``FSC_n`` under the mask after phase
    randomisation. As in RELION the correction begins two shells after the randomisation; where the randomised maps
    correlate more than the real ones, nothing is left.

    Args:
        a: cubic volume ``(z, y, x)``.
        b: volume of the same shape, in the same frame.
        mask: of the same shape, 0 to 1.
        seed: of the phases.

    Raises:
        InputError: if the shapes differ.
    """
    if mask.shape != a.shape:
        raise InputError(f"expected a mask of shape {tuple(a.shape)}, got {tuple(mask.shape)}; resample it")
    unmasked, masked = correlate(a, b), correlate(a * mask, b * mask)
    low = [shell for shell, value in enumerate(unmasked.tolist()) if shell > 0 and value < RANDOMISED_BELOW]
    if not low:
        return MaskedCurves(unmasked, masked, masked, masked, None)
    generator = torch.Generator().manual_seed(seed)
    drawn = ([randomise_phases(volume, low[0], generator) * mask for volume in (a, b)] for _ in range(_DRAWS))
    randomised = torch.stack([correlate(first, second) for first, second in drawn]).mean(0)
    corrected = torch.where(randomised > masked, 0.0, (masked - randomised) / (1 - randomised).clamp(min=1e-9))
    start = low[0] + SPARED
    return MaskedCurves(
        unmasked, masked, randomised, torch.cat([masked[:start], corrected[start:]]).clamp(-1, 1), low[0]
    )


def randomise_phases(volume: Volume, first_shell: int, generator: torch.Generator) -> Volume:
    """The volume with its amplitudes, and from ``first_shell`` on with the phases of white noise; double precision.

    Phases of noise are uniform, and mates stay mates, so the volume stays real and no amplitude changes.
    """
    box = volume.shape[-1]
    noise = spectrum(torch.randn(volume.shape, generator=generator, dtype=torch.float64)).to(volume.device)
    own = spectrum(volume)
    random: Tensor = own.abs() * noise / noise.abs()
    kept = Shells(box, volume.device).index.reshape(own.shape) < first_shell
    return torch.fft.irfftn(torch.where(kept, own, random), s=(box, box, box))
