"""The generator of CryoGAN: the physics of the microscope around a volume that is learned."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_pad_volumes
from cryobench.physics.grids import soft_sphere
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.project import VolumeSpectrum, transform_volume
from cryobench.physics.symmetry import symmetrise
from cryobench.reconstruct.contract import Observed
from cryobench_cryogan.method import Params
from cryobench_cryogan.noise import Noise
from cryobench_cryogan.parallel import Team
from cryobench_cryogan.prepare import prepare


@final
class Simulator(nn.Module):
    """Simulated images of a learned volume (Algorithm 2): ``exp(s) C S P x + exp(b) n``, poses and noise drawn anew each time.

    The volume is kept in units in which both it and its images are of order one; ``unit`` takes it back to the data's.

    Args:
        observed: the half-set whose imaging conditions are simulated.
        params: of the method.
        data_scale: standard deviation of the data's pixels, by which the images are normalised.
        generator: for every draw.
        team: that shares the batches.
    """

    def __init__(
        self, observed: Observed, params: Params, data_scale: float, generator: torch.Generator, team: Team
    ) -> None:
        super().__init__()
        device, box = generator.device, observed.box
        self.observed, self.params, self.generator, self.data_scale = observed, params, generator, data_scale
        self.team = team
        self.ctf: ContrastTransfer = observed.ctf.to(torch.zeros((), device=device))
        self.noise = Noise(observed, params.noise, params.normalise == "image", data_scale, device)
        # a protein fills the box thinly: with densities of one, an image sums about a sixteenth of the box's voxels
        self.unit = data_scale / (observed.voxel_size * box / 16)
        self.values = nn.Parameter(torch.zeros(box, box, box, device=device))
        self.log_signal = nn.Parameter(torch.zeros((), device=device))
        self.log_noise = nn.Parameter(torch.zeros((), device=device))
        like = torch.zeros((), device=device)
        self.register_buffer("mask", soft_sphere(box, params.mask_radius * box / 2 - 2, 2.0, like))

    def constrained(self, values: Tensor) -> Tensor:
        """Densities as they are imaged: symmetrised and masked, in the simulator's units."""
        if self.params.symmetrise:
            values = symmetrise(values, self.observed.symmetry)
        assert isinstance(self.mask, Tensor)
        return values * self.mask

    @torch.no_grad()
    def resume(self, coarse: Simulator, values: Tensor) -> None:
        """Start from a volume ``values (z, y, x)`` of a smaller box's simulator, and from its scales."""
        wider = fourier_pad_volumes(values, self.observed.box) * (coarse.unit / self.unit)
        self.values.copy_(wider)
        self.constrain()
        self.log_signal.copy_(coarse.log_signal)
        self.log_noise.copy_(coarse.log_noise)

    @torch.no_grad()
    def constrain(self) -> None:
        """Project the volume onto the non-negative ones (after every step, as the paper does)."""
        if self.params.nonnegative:
            self.values.clamp_(min=0)

    def transform(self) -> VolumeSpectrum:
        """The volume's spectrum, from which any number of batches may be formed until the volume moves."""
        return transform_volume(self.constrained(self.values), self.observed.voxel_size)

    def simulate(self, spectrum: VolumeSpectrum, count: int, width: float = 0.0) -> tuple[Tensor, Tensor]:
        """This member's share of ``count`` simulated images ``(image, y, x)``, differentiable in the volume and the scales.

        With them the particles ``(image,)`` whose CTFs they have.

        Args:
            spectrum: of the volume, see :meth:`transform`; detached for images that are not.
            count: images of the whole team.
            width: of their smoothing, pixels.
        """
        seen, share = self.observed, self.team.share(count)
        rotations, shifts = seen.sample_poses(count, self.generator)
        rows, noise = self.noise.draw(count, self.generator, self.team)
        if self.params.whole_pixel_shifts:
            shifts = (shifts / seen.voxel_size).trunc() * seen.voxel_size
        operator = ImagingOperator(
            seen.box, seen.voxel_size, rotations[share], shifts[share], self.ctf[rows], detector=seen.detector
        )
        signal = operator.image(spectrum) * (self.unit / self.data_scale)
        images = self.log_signal.exp() * signal + self.log_noise.exp() * noise
        return prepare(images, self.params.normalise, width), rows

    def forward(self, count: int, width: float = 0.0) -> tuple[Tensor, Tensor]:
        """``count`` simulated images of the volume as it is, and their particles."""
        return self.simulate(self.transform(), count, width)


def detach(spectrum: VolumeSpectrum) -> VolumeSpectrum:
    """The same spectrum, through which no gradient flows."""
    return replace(spectrum, values=spectrum.values.detach())
