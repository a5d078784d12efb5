"""What RELION is asked to do: arguments of its stages, and how many iterations a budget allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryobench.reconstruct.contract import Observed

PROBE_IMAGES: Final = 20
PROBE_ITERATIONS: Final = 3
"""The first takes the images as they are turned by chance, and is no measure of those that follow."""
FEWEST_ITERATIONS: Final = 60
"""Of gradient descent: a shorter budget takes smaller subsets of the images first."""
FEWEST_IMAGES: Final = 20
FIRST_SHELLS: Final = 4
LARGEST_SEED: Final = 10**9
SHARED: Final = (
    "--ctf --zero_mask --flatten_solvent --K 1 --pad 1 --skip_gridding --oversampling 1 --pool 30 --preread_images",
    "--dont_combine_weights_via_disc --dont_check_norm",
)
"""Unpadded and without gridding correction, as RELION's initial model is made: passes over all images then find it on a scale
that fits (padded, they lost it at first and took six iterations to come back)."""


@dataclass(frozen=True)
class Schedule:
    """Of gradient descent: iterations at the first resolution, on the way and at the last one; images of the first and last."""

    initial: int
    between: int
    final: int
    first_subset: int
    last_subset: int

    @property
    def iterations(self) -> int:
        """All of them."""
        return self.initial + self.between + self.final

    @property
    def images(self) -> float:
        """Images compared in all; subsets grow evenly on the way."""
        way = self.between * (self.first_subset + self.last_subset) / 2
        return self.initial * self.first_subset + way + self.final * self.last_subset

    def arguments(self) -> list[str]:
        """For the command line."""
        named = {
            "--sgd_ini_iter": self.initial,
            "--sgd_inbetween_iter": self.between,
            "--sgd_fin_iter": self.final,
            "--sgd_ini_subset": self.first_subset,
            "--sgd_fin_subset": self.last_subset,
            "--sgd_write_iter": 1,
        }
        return [word for name, value in named.items() for word in (name, str(value))]


PROBE: Final = Schedule(PROBE_ITERATIONS, 0, 0, PROBE_IMAGES, PROBE_IMAGES)


def schedule(iterations: int, first_subset: int, last_subset: int, particles: int) -> Schedule:
    """A sixth of the iterations at the first resolution and a sixth at the last, as RELION's own 50 + 200 + 50."""
    ends = max(1, round(iterations / 6))
    return Schedule(
        ends, max(0, iterations - 2 * ends), ends, min(first_subset, particles), min(last_subset, particles)
    )


def fit_schedule(full: Schedule, seconds: float, seconds_per_image: float, particles: int) -> Schedule:
    """The full schedule, or one that ``seconds`` allow: fewer iterations, then smaller subsets too."""
    share = seconds / (seconds_per_image * full.images)
    if share >= 1:
        return full
    iterations = max(min(FEWEST_ITERATIONS, full.iterations), math.floor(full.iterations * share))
    smaller = min(1.0, max(share, 0.0) * full.iterations / iterations)
    first, last = (max(FEWEST_IMAGES, round(n * smaller)) for n in (full.first_subset, full.last_subset))
    return schedule(iterations, first, last, particles)


def first_cutoff(box: int, voxel_size: float) -> float:
    """Resolution in angstrom of the model that randomly turned images make: a quarter of the box.

    RELION's own choice, 0.07 of the shells, is meant for images that are not binned: at 16 pixels it is a single shell, and it
    fails. On 300 images of 32 pixels gradient descent came to the right map from 4 shells (7 runs of 7), not from 3 (0 of 4).
    """
    return box * voxel_size / FIRST_SHELLS


def search_range(prior: Mapping[str, Any], pixel_size: float) -> tuple[int, int]:
    """Range and step of the search for shifts in pixels: as far as the assumed prior reaches, two pixels apart beyond three."""
    reach = prior.get("half_width", 3 * prior.get("sigma", 0.0)) / pixel_size
    pixels = math.ceil(reach - 1e-6)
    return pixels, 1 if pixels <= 3 else 2


def shared_arguments(observed: Observed, seed: int, threads: int, diameter: float | None) -> list[str]:
    """Of both stages: CTF correction, the point group imposed, masks, the search for shifts, threads and the seed."""
    reach, step = search_range(observed.assumed_shift, observed.voxel_size)
    words = " ".join(SHARED).split()
    words += ["--sym", observed.symmetry, "--offset_range", str(reach), "--offset_step", str(step)]
    words += ["--j", str(threads), "--random_seed", str(1 + seed % LARGEST_SEED)]
    return words if diameter is None else [*words, "--particle_diameter", f"{diameter:g}"]
