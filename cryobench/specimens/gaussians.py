"""Sums of isotropic Gaussians: their density on any grid, and their projections in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.physics.grids import coordinates, half_frequencies, inside_nyquist
from cryobench.specimens.render import Widths, render_points
from cryobench.types import Images, Rotations, Shifts, Spectra, Volume


@dataclass(frozen=True)
class GaussianMixture:
    """``f(p) = sum_j w_j N(p; c_j, width_j^2)``: point masses, each blurred by a normalised isotropic Gaussian.

    Attributes:
        centres: ``(point, xyz)`` in angstrom, float64.
        weights: ``(point,)``, the integral of each Gaussian.
        width: standard deviation in angstrom, one for all or ``(point,)``.
    """

    centres: NDArray[np.float64]
    weights: NDArray[np.float64]
    width: Widths

    @cached_property
    def support_radius(self) -> float:
        """Radius in angstrom of the sphere round the origin that holds every Gaussian out to three widths."""
        return float((np.linalg.norm(self.centres, axis=1) + 3 * np.asarray(self.width)).max())

    def describe_extent(self) -> str:
        """Its size, for people."""
        x, y, z = np.ptp(self.centres, axis=0)
        return f"{x:.0f} x {y:.0f} x {z:.0f} Å (x, y, z), all within {self.support_radius:.0f} Å of the origin"

    def require_fit(self, box: int, voxel_size: float) -> None:
        """Refuse a field of view into which the mixture does not fit in every pose.

        Raises:
            InputError: that is so.
        """
        if box * voxel_size < 2 * self.support_radius:
            raise InputError(
                f"expected a field of view of at least {2 * self.support_radius:.0f} Å for a specimen of radius "
                f"{self.support_radius:.0f} Å, got {box} voxels of {voxel_size:g} Å = {box * voxel_size:.0f} Å; "
                "enlarge the box or the voxel size"
            )

    def density(self, box: int, voxel_size: float) -> Volume:
        """Density per cubic angstrom on a cubic grid; see :func:`render_points`.

        Raises:
            InputError: the mixture does not fit into the field of view in every pose.
        """
        self.require_fit(box, voxel_size)
        return render_points(self.centres, self.weights, self.width, box, voxel_size)

    def project(self, rotations: Rotations, shifts: Shifts, box: int, pixel_size: float) -> Images:
        """Exact integrals along the beam, per square angstrom, sampled at the pixels' centres.

        A point ``p`` lands at ``(R p)[:2] + shift`` and a Gaussian integrates to a Gaussian, so each image is
        ``sum_j w_j N(x; x_j, width_j^2) N(y; y_j, width_j^2)``.

        Args:
            rotations: poses, ``(batch, 3, 3)``.
            shifts: ``(batch, 2)`` in angstrom.
            box: pixels along each axis.
            pixel_size: angstrom.
        """
        landed, weights, width = self._land(rotations, shifts)
        axis = coordinates(box, landed) * pixel_size
        squares = (landed[:, None] - axis[:, None, None]).square()  # (batch, pixel, point, xy)
        profiles = torch.exp(squares / (-2 * width**2)) / (width * (2 * torch.pi) ** 0.5)
        return torch.einsum("biq,bjq->bij", profiles[..., 1] * weights, profiles[..., 0])

    def transform_projections(self, rotations: Rotations, shifts: Shifts, box: int, pixel_size: float) -> Spectra:
        """Exact Fourier transforms of the projections, as :func:`cryobench.physics.fourier.transform_images` would have them.

        Only frequencies strictly inside the Nyquist disc are kept: inverted, these are the projections band-limited to the
        grid, with nothing aliased. Arguments as in :meth:`project`.
        """
        landed, weights, width = self._land(rotations, shifts)
        kx, ky = half_frequencies(box, landed)
        length = box * pixel_size
        turn_x, turn_y = (
            torch.exp(
                -2j * torch.pi * k[:, None] * landed[:, None, :, axis] / length
                - 2 * (torch.pi * width[:, 0] * k[:, None] / length) ** 2
            )
            for axis, k in enumerate((kx[0], ky[:, 0]))
        )
        return torch.einsum("biq,bjq->bij", turn_y * weights, turn_x) * inside_nyquist(box, kx) / pixel_size**2

    def _land(self, rotations: Rotations, shifts: Shifts) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where the centres land, ``(batch, point, xy)`` in angstrom, weights and widths ``(point or 1, 1)`` in that dtype."""
        centres = torch.from_numpy(self.centres).to(rotations)
        landed = torch.einsum("bij,qj->bqi", rotations[:, :2], centres) + shifts[:, None].to(rotations)
        width = torch.from_numpy(np.atleast_1d(self.width)).to(rotations)[:, None]
        return landed, torch.from_numpy(self.weights).to(rotations), width
