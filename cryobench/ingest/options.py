"""What every import is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from cryobench.errors import InputError
from cryobench.physics.symmetry import symmetry_rotations

BACKGROUND_RADIUS: Final = 0.4
"""Default particle radius as a fraction of the image side: 0.8 of half the box."""
SHIFT_HALF_WIDTH: Final = 28.0
"""Default of the shift prior in angstrom: the triangle with the spread of RELION's automatic (Laplacian-of-Gaussian) picks of
EMPIAR-10204, whose origins after 2D classification have a standard deviation of 11.5 Å on either axis (times sqrt(6))."""
SMALLEST_BOX: Final = 8


@dataclass(frozen=True)
class ImportOptions:
    """What every import is asked.

    Attributes:
        symmetry: point group to assume.
        box: Fourier-crop the images to this many pixels; their own number if not given.
        particle_radius: angstrom; beyond it is noise. 0.4 of the image side (0.8 of half the box) if not given.
        seed: of the split and of the noise patches.
        noise_patches: to make for each half.
        shift_half_width: of the triangular shift prior to assume, angstrom; 0 for none.

    Raises:
        InputError: if one of them is not what is needed.
    """

    symmetry: str = "C1"
    box: int | None = None
    particle_radius: float | None = None
    seed: int = 0
    noise_patches: int = 512
    shift_half_width: float = SHIFT_HALF_WIDTH

    def __post_init__(self) -> None:
        symmetry_rotations(self.symmetry)
        if self.noise_patches < 1 or not 0 <= self.shift_half_width < math.inf:
            raise InputError(
                f"expected at least 1 noise patch and a shift half-width of 0 Å or more, "
                f"got {self.noise_patches} and {self.shift_half_width}"
            )

    def working_box(self, native: int) -> int:
        """Pixels that images of ``native`` pixels are stored with."""
        working = native if self.box is None else self.box
        if not SMALLEST_BOX <= working <= native:
            raise InputError(f"expected a box from {SMALLEST_BOX} to the images' {native} px, got {working}")
        return working

    def radius(self, native: int, pixel_size: float) -> float:
        """Angstrom from the centre of an image beyond which it is noise."""
        return BACKGROUND_RADIUS * native * pixel_size if self.particle_radius is None else self.particle_radius

    def assumed_shift(self) -> dict[str, Any]:
        """The shift prior as stores carry it."""
        if not self.shift_half_width:
            return {"kind": "none"}
        return {"kind": "triangular", "half_width": self.shift_half_width}
