"""What an evaluation may be asked to do differently."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How to compare.

    Attributes:
        mask: ``"specimen"`` (drawn from the truth), ``"sphere"``, ``"auto"`` (the one where there is a truth, the other where
            there is none), or the path of a map in the frame of the truth.
        mask_radius: of a sphere, angstrom; the largest that the box holds where None.
        gaussian_filter: standard deviation in voxels of a Gaussian that all maps and the truth are convolved with before
            they are compared (not before they are aligned, nor where they are written); 0 for none.
        yardsticks: also measure what an ellipsoid and two pure-noise halves score (see :mod:`cryobench.evaluate.yardsticks`).
        bootstrap_draws: resamples for the intervals.
        resample: put a truth map of another box or voxel size onto the grid of the maps.
    """

    mask: str | Path = "auto"
    mask_radius: float | None = None
    gaussian_filter: float = 0.0
    yardsticks: bool = False
    bootstrap_draws: int = 400
    resample: bool = False
