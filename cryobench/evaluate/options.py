"""What an evaluation may be asked to do differently."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryobench.errors import InputError
from cryobench.evaluate.describe import describe_file

MASKS: Final = ("auto", "specimen", "sphere")


@dataclass(frozen=True)
class Options:
    """How to compare.

    Attributes:
        mask: ``"specimen"`` (drawn from the truth), ``"sphere"``, ``"auto"`` (the one where there is a truth, the other where
            there is none), or the path of a map in the frame of the truth.
        mask_radius: of a sphere, angstrom; the largest that the box holds where None.
        gaussian_filter: standard deviation in voxels of a Gaussian that all maps and the truth are convolved with before
            they are compared (not before they are aligned, nor where they are written); 0 for none.
        yardsticks: also measure what an ellipsoid, two pure-noise halves and, where there are such maps, the true poses score
            (see :mod:`cryobench.evaluate.yardsticks`).
        bootstrap_draws: resamples for the intervals.
        resample: put a truth or a mask of another box or voxel size onto the grid of the maps.

    Raises:
        InputError: if an option is out of range, or there is no such mask.
    """

    mask: str | Path = "auto"
    mask_radius: float | None = None
    gaussian_filter: float = 0.0
    yardsticks: bool = True
    bootstrap_draws: int = 400
    resample: bool = False

    def __post_init__(self) -> None:
        if str(self.mask) not in MASKS and not Path(self.mask).is_file():
            raise InputError(
                f"expected a mask 'specimen', 'sphere' or the path of a map, got {str(self.mask)!r}, and found no file there"
            )
        if self.mask_radius is not None and self.mask != "sphere":
            raise InputError(
                f"expected no mask radius with the mask {str(self.mask)!r}, got {self.mask_radius:g} Å; ask for the mask 'sphere'"
            )
        if not 0 <= self.gaussian_filter < float("inf"):
            raise InputError(
                f"expected a Gaussian filter of a standard deviation of 0 voxels or more, got {self.gaussian_filter:g}"
            )

    def describe(self) -> dict[str, Any]:
        """As ``result.json`` states them: a mask's file by its name and SHA-256."""
        return {
            "mask": str(self.mask) if str(self.mask) in MASKS else describe_file(Path(self.mask)),
            "mask_radius": self.mask_radius,
            "gaussian_filter": self.gaussian_filter,
            "yardsticks": self.yardsticks,
            "bootstrap_draws": self.bootstrap_draws,
            "resample": self.resample,
        }
