"""The generator of CryoGAN: the physics of the microscope around a volume that is learned."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.grids import inside_nyquist, soft_sphere
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.noise import colour, turn
from cryobench.physics.symmetry import symmetrise
from cryobench.reconstruct.contract import Observed
from cryobench_cryogan.method import Params


@final
class Simulator(nn.Module):
    """Simulated images of a learned volume (Algorithm 2): ``exp(s) C S P x + exp(b) n``, poses and noise drawn anew each time.

    The volume is kept in units in which both it and its images are of order one; ``unit`` takes it back to the data's.

    Args:
        observed: the half-set whose imaging conditions are simulated.
        params: of the method.
        data_scale: standard deviation of the data's pixels, by which the images are normalised.
        generator: for every draw.
    """

    def __init__(self, observed: Observed, params: Params, data_scale: float, generator: torch.Generator) -> None:
        super().__init__()
        device, box = generator.device, observed.box
        self.observed, self.params, self.generator, self.data_scale = observed, params, generator, data_scale
        self.ctf: ContrastTransfer = observed.ctf.to(torch.zeros((), device=device))
        self.patches = observed.noise_patches.to(device) / data_scale
        self.power = observed.noise_power.to(device) / data_scale**2
        # a protein fills the box thinly: with densities of one, an image sums about a sixteenth of the box's voxels
        self.unit = data_scale / (observed.voxel_size * box / 16)
        self.values = nn.Parameter(torch.zeros(box, box, box, device=device))
        self.log_signal = nn.Parameter(torch.zeros((), device=device))
        self.log_noise = nn.Parameter(torch.zeros((), device=device))
        like = torch.zeros((), device=device)
        self.register_buffer("mask", soft_sphere(box, params.mask_radius * box / 2 - 2, 2.0, like))

    def volume(self) -> Tensor:
        """The volume that is imaged: masked, symmetrised and clamped, in the simulator's units."""
        values = self.values
        if self.params.symmetrise:
            values = symmetrise(values, self.observed.symmetry)
        assert isinstance(self.mask, Tensor)
        return values * self.mask

    @torch.no_grad()
    def constrain(self) -> None:
        """Project the volume onto the non-negative ones (after every step, as the paper does)."""
        if self.params.nonnegative:
            self.values.clamp_(min=0)

    def draw_noise(self, count: int) -> Tensor:
        """Noise images ``(count, y, x)`` in the units of the normalised data."""
        box, device = self.observed.box, self.generator.device
        if self.params.noise == "spectrum":
            white = torch.randn(count, box, box, generator=self.generator, device=device)
            return colour(white, self.power)
        chosen = torch.randint(len(self.patches), (count,), generator=self.generator, device=device)
        turns = torch.randint(8, (count,), generator=self.generator, device=device)
        return turn(self.patches[chosen], turns)

    def forward(self, count: int) -> Tensor:
        """``count`` simulated images ``(count, y, x)``, differentiable in the volume and the scales."""
        rotations, shifts = self.observed.sample_poses(count, self.generator)
        chosen = torch.randint(len(self.ctf), (count,), generator=self.generator, device=self.generator.device)
        seen = self.observed
        operator = ImagingOperator(
            seen.box, seen.voxel_size, rotations, shifts, self.ctf[chosen], detector=seen.detector
        )
        signal = operator(self.volume()) * (self.unit / self.data_scale)
        return keep_disc(self.log_signal.exp() * signal + self.log_noise.exp() * self.draw_noise(count))


def keep_disc(images: Tensor) -> Tensor:
    """Images without their mean and without frequencies beyond the Nyquist disc.

    The mean is the background's and says nothing of the particle; the corners of the spectrum, which projections never reach,
    would only tell the discriminator how an image was resampled.
    """
    box = images.shape[-1]
    spectra = torch.fft.rfft2(images) * inside_nyquist(box, images)
    spectra[..., 0, 0] = 0
    return torch.fft.irfft2(spectra, s=(box, box))
