"""Radial filters of volumes in Fourier space."""

from __future__ import annotations

import math

import torch

from cryobench.errors import InputError
from cryobench.evaluate.shells import half_space, spectrum
from cryobench.types import Volume


def filter_volume(volume: Volume, deviation: float) -> Volume:
    """The volume convolved with a normalised Gaussian of this standard deviation in voxels; periodic; dtype kept.

    Its transform is ``exp(-2 pi^2 deviation^2 |k|^2 / box^2)``. A radial filter of both volumes changes an unmasked Fourier
    shell correlation only as far as it varies within a shell; it changes real-space correlation, and what a mask cuts.

    Raises:
        InputError: if the deviation is negative or not finite.
    """
    if not (deviation >= 0 and math.isfinite(deviation)):
        raise InputError(f"expected a Gaussian of a standard deviation of 0 voxels or more, got {deviation:g}")
    box = volume.shape[-1]
    x, y, z = half_space(box, volume.device)
    factor = torch.exp(-2 * (math.pi * deviation / box) ** 2 * (x**2 + y**2 + z**2))
    return torch.fft.irfftn(spectrum(volume) * factor, s=(box, box, box)).to(volume.dtype)
