"""What a rotating eye sees of an image: its Fourier transform on rings, as harmonics of the angle."""

from __future__ import annotations

import math
from typing import Final, final

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from cryobench.physics.fourier import pad
from cryobench.types import Images

PADDING: Final = 2
"""Of images before their transform, between whose samples rings are interpolated."""
MARGIN: Final = 4
"""Harmonics kept beyond those of a point at the edge of the particle's disc."""


@final
class PolarTransform(nn.Module):
    """Images ``(batch, y, x)`` to their harmonics on rings ``(batch, coefficient, 2)`` (real and imaginary part); linear.

    On the ring of radius ``k`` shells, ``c_m(k) = w sum_theta F(k, theta) exp(-i m theta)`` for ``m >= 0`` (real images have
    ``c_-m = (-1)^m conj(c_m)``); ``w`` makes white noise of unit variance come out with about unit variance a part, and the
    scalar product of two images supported in the disc that of their coefficients. An image turned by ``phi`` has its
    coefficients multiplied by ``exp(-i m phi)``. What lies beyond the disc is attenuated: on ring ``k`` only ``m`` up to
    ``pi k extent + 4`` are kept, those of points within it.

    Args:
        box: pixels of the images.
        extent: radius of the disc that holds the particle, fraction of half the box.

    Attributes:
        rings: their number; radii 1, 2, ... shells, strictly inside the Nyquist frequency.
        harmonics: their number on the outermost ring.
        slots: ``(coefficient,)`` where each belongs in a table ``(harmonics, rings)``.
    """

    slots: Tensor

    def __init__(self, box: int, extent: float) -> None:
        super().__init__()
        self.box, self.extent = box, extent
        self.rings = (box + 1) // 2 - 1
        kept = [math.ceil(math.pi * ring * extent) + MARGIN for ring in range(1, self.rings + 1)]
        self.harmonics = kept[-1]
        # angles on half a turn, an even number and twice what the highest harmonic needs
        half = 2 * next_fast_len(self.harmonics // 2 + 1, real=True)
        angle = math.pi * (torch.arange(half).double() / half - 0.5)
        radius = torch.arange(1, self.rings + 1).double()
        x, y = radius[:, None] * angle.cos(), radius[:, None] * angle.sin()
        wide = PADDING * box
        columns = wide // 2 + 1
        places = torch.stack([2 * PADDING * x / (columns - 1) - 1, 2 * (PADDING * y + wide // 2) / (wide - 1) - 1], -1)
        # an image of n x n pixels has n^2 numbers, and ring k has 2 pi k of them
        weight = (math.pi * radius / half).sqrt() / box / (2 * half) ** 0.5
        # what linear interpolation between samples takes away towards the edges of the image
        along = torch.sinc((torch.arange(box).double() - box // 2) / wide).square()
        table = torch.arange(self.harmonics)[:, None] < torch.tensor(kept)
        like = torch.get_default_dtype()
        self.register_buffer("_places", places.to(like), persistent=False)
        self.register_buffer("_weight", weight.to(like)[:, None], persistent=False)
        self.register_buffer("_lift", (1 / (along * along[:, None])).to(like), persistent=False)
        both_signs = torch.full((self.harmonics,), 2**0.5)
        both_signs[0] = 1.0
        self.register_buffer("_both_signs", both_signs, persistent=False)
        self.register_buffer("slots", table.flatten().nonzero().squeeze(-1), persistent=False)

    def forward(self, images: Images) -> Float[Tensor, "batch coefficient 2"]:
        """Coefficients of ``images (batch, y, x)``."""
        wide = pad(images * self._lift, PADDING * self.box, 2)
        spectra = torch.fft.fftshift(torch.fft.rfft2(torch.fft.ifftshift(wide, dim=(-2, -1))), dim=-2)
        parts = torch.stack([spectra.real, spectra.imag], 1)
        places = self._places.expand(len(images), -1, -1, -1)
        rings = grid_sample(parts, places, align_corners=True) * self._weight
        half = torch.complex(rings[:, 0], rings[:, 1])
        harmonics = torch.fft.fft(torch.cat([half, half.conj()], -1))[..., : self.harmonics]
        table = (harmonics * self._both_signs).transpose(-2, -1).flatten(1)
        return torch.view_as_real(table[:, self.slots])
