"""Fourier shells of a cubic box: which coefficient belongs to which, and sums over them."""

from __future__ import annotations

import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.types import Curve, Volume

_NEXT_TO_NOTHING = 1e-3
"""Power beyond the Nyquist sphere, of what the last shell holds within it: what the edge of a mask spills, and no steep decay."""


class Shells:
    """Shells ``0 ... box // 2`` of the half-space spectrum that ``rfftn`` gives of a cubic box.

    A coefficient belongs to the shell of its rounded radius (Harauz & van Heel 1986). Every coefficient of the half-space
    counts once, as in RELION: those of the plane ``kx = 0`` come with their mates and so weigh double, which moves the curve of
    noisy maps by a fraction of its own standard error, ``sqrt(1 / (2 shell))`` or so, and makes it the one that others see.

    Args:
        box: voxels along a side.
        device: where the tables lie.
        within_nyquist: leave out the half of an even box's last shell that lies at or beyond the Nyquist sphere.

    Attributes:
        index: shell of every coefficient, flat, ``(z * y * xhalf,)``.
        weight: whether it counts, 0 or 1, float64, flat.
    """

    def __init__(self, box: int, device: torch.device | str = "cpu", within_nyquist: bool = False) -> None:
        self.box = box
        x, y, z = half_space(box, device)
        squared = (x**2 + y**2 + z**2).flatten()
        radius = squared.sqrt().round().long()
        self.weight = (squared < (box / 2) ** 2 if within_nyquist else radius <= box // 2).double()
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


def shared_shells(a: Tensor, b: Tensor) -> Shells:
    """The shells over which two spectra compare: within the Nyquist sphere, if one of them ends there.

    Volumes that were rotated, or cut to a coarser grid, hold nothing beyond that sphere; the last shell of an even box reaches
    half a shell beyond. What one of two volumes cannot hold says nothing about how well they agree.
    """
    box = a.shape[0]
    shells = Shells(box, a.device)
    if box % 2:
        return shells
    within = Shells(box, a.device, within_nyquist=True)
    last = ((shells.weight > 0) & (shells.index == box // 2)).nonzero()[:, 0]
    inside = within.weight[last]
    for values in (a, b):
        power = values.flatten()[last].abs() ** 2
        if ((1 - inside) * power).sum() <= _NEXT_TO_NOTHING * (inside * power).sum():
            return within
    return shells


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
