"""The contrast transfer function: weak-phase aberrations, amplitude contrast and an envelope."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from scipy import constants
from torch import Tensor

from cryobench.physics import kernels
from cryobench.physics.formation import serves
from cryobench.physics.grids import half_frequencies
from cryobench.types import Images, Scalars


def electron_wavelength(voltage: Scalars) -> Scalars:
    """Relativistic electron wavelength in angstrom for ``voltage`` in kV.

    ``h c / sqrt(E (E + 2 m c^2))`` with the energies in keV, which single precision holds; in SI units it underflows.
    """
    kilovolts = constants.e * 1e3
    return (constants.h * constants.c * 1e10 / kilovolts) / torch.sqrt(
        voltage * (voltage + 2 * constants.m_e * constants.c**2 / kilovolts)
    )


@dataclass(frozen=True)
class ContrastTransfer:
    """CTF parameters of a batch of images, one tensor of the batch's shape each.

    Attributes:
        defocus_u, defocus_v: defocus along the major and minor axis in angstrom, underfocus positive.
        defocus_angle: angle of the ``defocus_u`` axis from x towards y, radians.
        voltage: acceleration voltage, kV.
        spherical_aberration: Cs, mm.
        amplitude_contrast: fraction in [0, 1).
        phase_shift: of a phase plate, radians.
        b_factor: envelope ``exp(-B s^2 / 4)``, angstrom squared.
    """

    defocus_u: Tensor
    defocus_v: Tensor
    defocus_angle: Tensor
    voltage: Tensor
    spherical_aberration: Tensor
    amplitude_contrast: Tensor
    phase_shift: Tensor
    b_factor: Tensor

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Parameter names in order: the CTF columns of every store."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def stack(cls, table: dict[str, Tensor]) -> ContrastTransfer:
        """From a table of one column per parameter."""
        return cls(**{name: table[name] for name in cls.names()})

    def __len__(self) -> int:
        return len(self.defocus_u)

    def __getitem__(self, index: Tensor | slice) -> ContrastTransfer:
        return replace(self, **{name: getattr(self, name)[index] for name in self.names()})

    def to(self, like: Tensor) -> ContrastTransfer:
        """The same parameters with the device and dtype of ``like``."""
        return replace(self, **{name: getattr(self, name).to(like) for name in self.names()})

    def evaluate(self, box: int, pixel_size: float) -> Images:
        """CTF on the half-space frequencies of square images. Shape ``(*batch, box, box // 2 + 1)``.

        ``chi = pi lambda df(theta) s^2 - (pi / 2) Cs lambda^3 s^4 + phase_shift`` and
        ``ctf = sin(chi + asin(Q0)) exp(-B s^2 / 4)`` (Rohou & Grigorieff 2015, eq. 2-4, protein bright).
        """
        if serves(self.defocus_u, *vars(self).values()):
            transfer = torch.empty(*self.defocus_u.shape, box, box // 2 + 1)
            coefficients = self.coefficients(box, pixel_size).reshape(-1, 6)
            kernels.evaluate_transfer(coefficients.numpy(), transfer.view(-1, box, box // 2 + 1).numpy())
            return transfer
        return self._evaluate(box, pixel_size)

    def coefficients(self, box: int, pixel_size: float) -> Float[Tensor, "*batch 6"]:
        """``(xx, xy, yy, q, c, e)`` in double precision, of integer frequencies ``(kx, ky)`` of the box.

        ``(chi + asin(Q0)) / (2 pi) = xx kx^2 + xy kx ky + yy ky^2 + q k^4 + c``; the envelope is ``exp(-e k^2)``.
        """
        length = box * pixel_size
        double = replace(self, **{name: getattr(self, name).detach().double() for name in self.names()})
        wavelength, angle = electron_wavelength(double.voltage), 2 * double.defocus_angle
        mean, half_difference = (double.defocus_u + double.defocus_v) / 2, (double.defocus_u - double.defocus_v) / 2
        scale = wavelength / (2 * length**2)
        return torch.stack(
            [
                scale * (mean + half_difference * angle.cos()),
                scale * 2 * half_difference * angle.sin(),
                scale * (mean - half_difference * angle.cos()),
                -0.25e7 * double.spherical_aberration * wavelength**3 / length**4,
                (double.phase_shift + torch.asin(double.amplitude_contrast)) / (2 * torch.pi),
                0.25 * double.b_factor / length**2,
            ],
            -1,
        ).contiguous()

    def _evaluate(self, box: int, pixel_size: float) -> Images:
        kx, ky = half_frequencies(box, self.defocus_u)
        s2 = (kx**2 + ky**2) / (box * pixel_size) ** 2
        # cos(2 (theta - angle)) s^2 without an arctangent
        cos2, sin2 = (kx**2 - ky**2) / (box * pixel_size) ** 2, 2 * kx * ky / (box * pixel_size) ** 2

        def column(values: Tensor) -> Tensor:
            return values[..., None, None]

        wavelength = column(electron_wavelength(self.voltage))
        mean, half_difference = (self.defocus_u + self.defocus_v) / 2, (self.defocus_u - self.defocus_v) / 2
        angle = 2 * self.defocus_angle
        defocus_s2 = column(mean) * s2 + column(half_difference) * (
            column(angle.cos()) * cos2 + column(angle.sin()) * sin2
        )
        chi = torch.pi * wavelength * defocus_s2
        chi = chi - 0.5e7 * torch.pi * column(self.spherical_aberration) * wavelength**3 * s2**2
        chi = chi + column(self.phase_shift) + torch.asin(column(self.amplitude_contrast))
        return torch.sin(chi) * torch.exp(-0.25 * column(self.b_factor) * s2)
