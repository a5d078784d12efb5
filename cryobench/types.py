"""Shapes of the tensors that cross module borders (checked at run time in the tests)."""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Complex, Float
from torch import Tensor

Volume: TypeAlias = Float[Tensor, "z y x"]
Volumes: TypeAlias = Float[Tensor, "*batch z y x"]
Images: TypeAlias = Float[Tensor, "*batch y x"]
Spectra: TypeAlias = Complex[Tensor, "*batch y xhalf"]
"""Half-space spectra of real images: rows in FFT order, columns 0 ... x // 2."""
Rotations: TypeAlias = Float[Tensor, "*batch 3 3"]
Quaternions: TypeAlias = Float[Tensor, "*batch 4"]
Shifts: TypeAlias = Float[Tensor, "*batch 2"]
"""In-plane shifts (x, y) in angstrom."""
Scalars: TypeAlias = Float[Tensor, "*batch"]
Curve: TypeAlias = Float[Tensor, "shell"]
Plane: TypeAlias = Float[Tensor, "y xhalf"]
"""A real function on the half-space frequencies of images, in the order of :data:`Spectra`."""
