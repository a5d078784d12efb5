"""Fourier shells of a cubic box: which coefficient belongs to which, and sums over them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.types import Curve, Volume

Counting = Literal["once", "relion"]


class Shells:
    """Shells ``0 ... box // 2`` of the half-space spectrum that ``rfftn`` gives of a cubic box.

    A coefficient belongs to the shell of its rounded radius (Harauz & van Heel 1986).

    Args:
        box: voxels along a side.
        device: where the tables lie.
        counting: ``"once"``: every coefficient of the whole spectrum counts once, and none at or beyond the Nyquist sphere,
            so a rotation of the grid onto itself changes no sum. ``"relion"``: as RELION 3.1 counts, over the half-space
            alone, where coefficients of the plane ``kx = 0`` come with their mates and so weigh double, and over the whole
            last shell.

    Attributes:
        index: shell of every coefficient, flat, ``(z * y * xhalf,)``.
        weight: how often it counts, float64, flat.
    """

    def __init__(self, box: int, device: torch.device | str = "cpu", counting: Counting = "once") -> None:
        self.box = box
        x, y, z = half_space(box, device)
        squared = (x**2 + y**2 + z**2).flatten()
        radius = squared.sqrt().round().long()
        if counting == "once":
            # a coefficient with kx > 0 stands for its Friedel mate too
            weight = torch.where(x > 0, 2.0, 1.0).expand(box, box, -1).flatten() * (squared < (box / 2) ** 2)
        else:
            weight = (radius <= box // 2).double()
        self.weight = weight
        self.index = radius.clamp(max=box // 2)

    def sum(self, values: Tensor) -> Curve:
        """Sums of real ``(z, y, xhalf)`` values over shells ``0 ... box // 2``."""
        sums = torch.zeros(self.box // 2 + 1, dtype=torch.float64, device=values.device)
        return sums.index_add(0, self.index, self.weight * values.flatten().to(torch.float64))

    def at_shells(self, curve: Curve) -> Tensor:
        """The curve's value at every coefficient, ``(z, y, xhalf)``; beyond its last shell, that of the last."""
        return curve.to(self.index.device)[self.index].reshape(self.box, self.box, -1)


def half_space(box: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Integer frequencies ``(kx, ky, kz)`` of ``rfftn``'s coefficients in cycles per box, float64, to be broadcast."""
    full = torch.fft.fftfreq(box, 1 / box, device=device, dtype=torch.float64)
    half = torch.fft.rfftfreq(box, 1 / box, device=device, dtype=torch.float64)
    return half, full[:, None], full[:, None, None]


def half_space_points(box: int) -> Tensor:
    """The same as points ``(z * y * xhalf, 3)`` in (x, y, z) order, on the CPU."""
    x, y, z = half_space(box)
    shape = (box, box, box // 2 + 1)
    return torch.stack([x.expand(shape), y.expand(shape), z.expand(shape)], -1).reshape(-1, 3)


def spectrum(volume: Volume) -> Tensor:
    """Half-space spectrum in double precision; its phase origin is voxel 0, which correlations do not see."""
    return torch.fft.rfftn(volume.to(torch.float64))


def check_pair(a: Volume, b: Volume) -> None:
    """Refuse two volumes that cannot be compared.

    Raises:
        InputError: if the shapes differ or are not cubic, or a volume holds NaN, infinity or nothing but zeros.
    """
    for volume, name in ((a, "first"), (b, "second")):
        if volume.ndim != 3 or len(set(volume.shape)) != 1 or volume.shape != a.shape:
            raise InputError(f"expected two cubic volumes of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
        if not torch.isfinite(volume).all():
            raise InputError(f"expected finite densities, the {name} volume holds NaN or infinity; repair it first")
        if not volume.any():
            raise InputError(f"expected densities to correlate, the {name} volume is zero everywhere")
