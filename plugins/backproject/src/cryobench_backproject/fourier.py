"""Reconstruction in Fourier space: insert, weight, filter, transform back.

Every image ``i`` says ``F_i(k) = CTF_i(k) V(R_i^T k) + noise`` on its central slice. With the noise's variance per
coefficient ``sigma^2`` and the signal's expected power ``tau^2``, the most probable ``V`` is

    V = sum_i S_i^T [CTF_i F_i / sigma^2] / (sum_i S_i^T [CTF_i^2 / sigma^2] + 1 / tau^2)

(Scheres 2012, J. Mol. Biol. 415, eq. 8), where ``S_i^T`` is the transpose of the library's own slicing. ``tau^2`` is the
cross-power, shell by shell, of the sums over the even and the odd particles: their noise is independent, so that it
needs no guess of the noise that is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import torch
from torch import Tensor

from cryobench.physics.grids import half_shells
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.noise import radial_power
from cryobench.physics.padded import zeros
from cryobench.physics.project import VolumeSpectrum, transpose_transform
from cryobench.physics.symmetry import symmetry_rotations
from cryobench.types import Images, Plane, Volume
from cryobench_backproject.kernels import combine, divide

if TYPE_CHECKING:
    from cryobench.dataset.view import Batch, Observed
    from cryobench.physics.detector import DetectorTransfer

PADDING: Final = 2
NOISE_FLOOR: Final = 1e-4
"""Of the images' own power: what noise is taken to be where the dataset has none."""
SIGNAL_FLOOR: Final = 1e-3
"""Of the noise left in a shell: the least signal assumed there. It scales the shell as a whole and leaves its phases."""


@final
@dataclass
class FourierAccumulator:
    """Sums over the images inserted so far, on the padded half-space grid of :class:`VolumeSpectrum`.

    Attributes:
        box: pixels of the images and voxels of the volume.
        voxel_size: angstrom.
        detector: what the detector transferred.
        precision: one over the noise's variance of every image coefficient, ``(box, box // 2 + 1)``.
        sums: ``(2, z, y, x, 3)`` of even and of odd particles: data (real and imaginary part) and weight.
    """

    box: int
    voxel_size: float
    detector: DetectorTransfer | None
    precision: Plane
    sums: Tensor

    @classmethod
    def prepare(cls, observed: Observed, sample: Images, device: torch.device) -> FourierAccumulator:
        """Empty sums for a half-set; ``sample`` are some of its images, from which the floor of the noise is taken."""
        box = observed.box
        power = torch.maximum(observed.noise_power.to(sample), NOISE_FLOOR * radial_power(sample)).to(device)
        shells = half_shells(box, power).clamp(max=box // 2)
        reach = PADDING * box // 2
        sums = zeros((2, 2 * reach + 1, 2 * reach + 1, reach + 1, 3), power)
        return cls(box, observed.voxel_size, observed.detector, 1 / (power[shells] * box**2), sums)

    def insert(self, batch: Batch, first: int) -> None:
        """Add images; ``first`` is the number of the first one, which tells even from odd."""
        assert batch.rotations is not None
        assert batch.shifts is not None
        for parity, sums in enumerate(self.sums):
            chosen = slice((first + parity) % 2, None, 2)
            operator = ImagingOperator(
                self.box,
                self.voxel_size,
                batch.rotations[chosen],
                batch.shifts[chosen],
                batch.ctf[chosen],
                padding=PADDING,
                detector=self.detector,
            )
            operator.insert(batch.images[chosen], self.precision, sums)

    def solve(self, symmetry: str, wiener: float) -> Volume:
        """The volume ``(box, box, box)``, float32, from the images so far.

        Args:
            symmetry: point group whose copies are summed.
            wiener: factor of the term ``1 / tau^2``.
        """
        sums = self.sums.cpu()
        reach = sums.shape[-2] - 1
        total, moments = zeros(tuple(sums.shape[1:]), sums), np.zeros((self.box // 2 + 1, 4))
        rotations = symmetry_rotations(symmetry, torch.float32)
        # on the plane x = 0 both partners of a Friedel pair are there: each is given what was inserted at the other
        middle = sums[..., 0, :]
        inserted = middle.clone()
        middle += inserted.flip(1, 2) * inserted.new_tensor([1, -1, 1])
        combine(sums[0].numpy(), sums[1].numpy(), rotations.numpy(), PADDING, total.numpy(), moments)
        middle.copy_(inserted)
        cross, both, weight, square = moments.T
        tiny = 1e-300
        signal = np.maximum(cross / np.maximum(both, tiny), SIGNAL_FLOOR * weight / np.maximum(square, tiny))
        # a padded voxel holds 1 / padding^3 of the information that a voxel of the volume's own spectrum does
        spectrum = zeros((*total.shape[:-1], 2), total)
        divide(total.numpy(), wiener / (PADDING**3 * signal), PADDING, spectrum.numpy())
        volume = transpose_transform(VolumeSpectrum(spectrum, reach, PADDING), self.box, self.voxel_size, self.box)
        return volume / (self.voxel_size**2 * (PADDING * self.box) ** 3)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"sums": self.sums}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up the sums of :meth:`state`."""
        self.sums = state["sums"].clone()
