"""The noise spectrum measured where the particle is not: outside a disc.

The periodogram of such a masked image leaks between shells (measured: up to 12 % on the spectrum of real particles, more on
steeper ones). Its autocorrelation does not: the mean product of the background pixels that lie a lag apart estimates the noise's
autocovariance without bias, whatever the shape of the region (but for the constant that goes with each image's mean: 3-6 % of
shell 1). Weighted by the number of pixel pairs a whole image has at that lag and transformed, it is the expected power of whole
images of that noise, shell by shell (Wiener-Khinchin; the Blackman-Tukey estimate for a region with a hole).
"""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.grids import friedel_weights, half_shells, radius
from cryobench.types import Curve, Images

MAXIMUM_RADIUS: Final = 0.45
"""Beyond this fraction of the side, lags of the autocorrelation are left with too few pairs of background pixels."""

FLAT: Final = 1e-6
"""A background whose standard deviation is below this fraction of the largest grey value is a single grey value."""


def outside(box: int, radius_in_pixels: float) -> Tensor:
    """Which pixels ``(y, x)`` of a square image are background: farther than the radius from the centre.

    Raises:
        InputError: if the radius leaves too little background.
    """
    if not 0 < radius_in_pixels <= MAXIMUM_RADIUS * box:
        raise _too_large(box, radius_in_pixels)
    return radius(box, 2, torch.zeros(1)) > radius_in_pixels


def _too_large(box: int, radius_in_pixels: float) -> InputError:
    return InputError(
        f"expected a particle radius above 0 and at most {MAXIMUM_RADIUS * box:.4g} px ({MAXIMUM_RADIUS:g} of the box of "
        f"{box} px), with background around it, got {radius_in_pixels:.4g} px; give a smaller radius or a larger box"
    )


@final
class BackgroundSpectrum:
    """Radial noise power outside a disc of square images, accumulated block by block.

    Args:
        box: pixels of the images' side.
        radius_in_pixels: of the disc that may hold the particle, at most 0.45 of the box.

    Raises:
        InputError: if the disc leaves too little background.
    """

    def __init__(self, box: int, radius_in_pixels: float) -> None:
        self.box, self.count = box, 0
        self.background = outside(box, radius_in_pixels).float()
        self._power = torch.zeros(2 * box, box + 1, dtype=torch.float64)
        self._pairs = self._lagged(self._padded(self.background.double()))
        self._whole = self._lagged(self._padded(torch.ones(box, box, dtype=torch.float64)))
        # in boxes under 20 px or so a lag may be left without any pair below the largest radius too
        if bool(((self._whole > 0.5) & (self._pairs < 0.5)).any()):
            raise _too_large(box, radius_in_pixels)

    def _padded(self, images: Images) -> Tensor:
        return torch.fft.rfft2(images, s=(2 * self.box, 2 * self.box)).abs().square()

    def _lagged(self, power: Tensor) -> Tensor:
        return torch.fft.irfft2(power, s=(2 * self.box, 2 * self.box))

    def add(self, images: Images) -> None:
        """Count ``(batch, y, x)`` images in; the mean of each one's background is taken off first."""
        mean = (images * self.background).sum((-2, -1), keepdim=True) / self.background.sum()
        self._power += self._padded((images - mean) * self.background).sum(0, dtype=torch.float64)
        self.count += len(images)

    def power(self) -> Curve:
        """Expected ``mean |F|^2 / box^2`` of whole images of the noise, shells 0 ... box // 2.

        Shell 0 went with the means and is given the value of shell 1. Where very few images leave a shell's estimate at or
        below nothing, it is a thousandth of the largest.
        """
        if self.count == 0:
            raise InputError("expected images to measure the noise on, got none")
        products = self._lagged(self._power / self.count)
        covariance = torch.where(self._whole > 0.5, products / self._pairs.clamp(min=0.5), 0) * self._whole
        # a lag and the lag less a box meet in an image's discrete transform
        periodic = covariance[: self.box] + covariance[self.box :]
        periodic = periodic[:, : self.box] + periodic[:, self.box :]
        spectrum = torch.fft.rfft2(periodic).real / self.box**2
        shells, weight = half_shells(self.box, spectrum).flatten(), friedel_weights(self.box, spectrum).flatten()
        power = torch.bincount(shells, spectrum.flatten() * weight) / torch.bincount(shells, weight)
        power = torch.cat([power[1:2], power[1:]])[: self.box // 2 + 1]
        return power.clamp(min=1e-3 * float(power.max())).float()


@final
class BackgroundNormalisation:
    """Images whose background, outside a disc, has the mean 0 and the standard deviation 1, as RELION extracts particles.

    The deviation is that of the images cropped to the working box, so that what is stored has it; the images given back keep
    their own box.

    Args:
        box: pixels of the images' side.
        working: pixels that they will be Fourier-cropped to.
        radius_in_pixels: of the disc, in pixels of the images.
        ramp: take off the plane fitted to the background (least squares), not its mean alone.

    Raises:
        InputError: if the disc leaves too little background.
    """

    def __init__(self, box: int, working: int, radius_in_pixels: float, *, ramp: bool) -> None:
        self.working = working
        mask = outside(box, radius_in_pixels).flatten()
        self._outside = outside(working, radius_in_pixels * working / box).flatten()
        coordinates = torch.linspace(-1, 1, box, dtype=torch.float64)
        y, x = torch.meshgrid(coordinates, coordinates, indexing="ij")
        basis = torch.stack([torch.ones_like(x), x, y] if ramp else [torch.ones_like(x)]).flatten(1)
        fit = torch.zeros_like(basis)  # of all pixels, so that none need be gathered: nothing but the background counts
        fit[:, mask] = torch.linalg.pinv(basis[:, mask].T)
        self._basis, self._fit = basis.float(), fit.float()

    def __call__(self, images: Images) -> tuple[Images, Tensor]:
        """Normalised ``(batch, y, x)`` images, and the deviation that each was divided by, 0 where it had none."""
        # about its mean an image of few large grey values is exact enough in single precision
        largest = images.abs().amax((-2, -1))
        centred = (images - images.mean((-2, -1), keepdim=True, dtype=torch.float64)).float().flatten(1)
        centred = (centred - (centred @ self._fit.T) @ self._basis).reshape(images.shape)
        background = fourier_crop_images(centred, self.working).flatten(1)[:, self._outside].double()
        mean, deviation = background.mean(-1), background.std(-1, correction=0)
        flat = deviation <= FLAT * largest
        deviation = torch.where(flat, 0.0, deviation).float()
        scaled = (centred - mean.float()[:, None, None]) / torch.where(flat, 1.0, deviation)[:, None, None]
        return scaled.to(images), deviation
