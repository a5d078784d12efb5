"""The detector's modulation transfer function: how much of each spatial frequency it passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.grids import half_frequencies
from cryobench.types import Plane


@final
@dataclass(frozen=True)
class DetectorTransfer:
    """A radial transfer function that multiplies the spectra of images; noise is measured behind it and keeps its spectrum.

    Attributes:
        frequencies: ``(k,)`` ascending spatial frequencies, 1/angstrom.
        values: ``(k,)`` what is passed of each, 1 for all of it.

    Raises:
        InputError: if they do not match, do not ascend, or hold what is no number.
    """

    frequencies: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        ascending = self.frequencies.ndim == 1 and bool((self.frequencies.diff() > 0).all())
        finite = bool(self.frequencies.isfinite().all() and self.values.isfinite().all())
        if not (ascending and finite and self.frequencies.shape == self.values.shape and len(self.frequencies)):
            raise InputError(
                f"expected ascending frequencies with one finite value each, got shapes {tuple(self.frequencies.shape)} and "
                f"{tuple(self.values.shape)}{'' if finite else ', not all finite'}{'' if ascending else ', not ascending'}"
            )

    def at(self, frequency: Tensor) -> Tensor:
        """Its value at spatial frequencies in 1/angstrom, any shape: linear between samples, the end values beyond them."""
        known, values = self.frequencies.to(frequency), self.values.to(frequency)
        if len(known) == 1:
            return values.expand(frequency.shape)
        upper = torch.searchsorted(known, frequency.contiguous()).clamp(1, len(known) - 1)
        fraction = ((frequency - known[upper - 1]) / (known[upper] - known[upper - 1])).clamp(0, 1)
        return torch.lerp(values[upper - 1], values[upper], fraction)

    def evaluate(self, box: int, pixel_size: float, like: Tensor) -> Plane:
        """On the half-space frequencies of square images of ``box`` pixels of ``pixel_size`` angstrom.

        Shape ``(box, box // 2 + 1)``, device and dtype of ``like``.
        """
        kx, ky = half_frequencies(box, like)
        return self.at((kx**2 + ky**2).sqrt() / (box * pixel_size))
