"""How well a pose superposes two volumes: shell correlations of a band of Fourier coefficients, and the nearest best pose."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from cryobench.conventions import origin
from cryobench.physics.fourier import fourier_crop_volumes, pad
from cryobench.physics.grids import coordinates
from cryobench.types import Volume

TINY = 1e-30
"""Power below that of any shell that says something, for volumes of densities about 1."""
_MEMORY = (0.8, 0.95)
"""What a step of the ascent keeps of the mean slope and of its mean square."""


@dataclass(frozen=True)
class Pose:
    """A candidate: rotation matrix, shift in voxels, hand, and what it scored."""

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]
    mirrored: bool
    score: float = 0.0


class Band:
    """Both volumes in Fourier space from shell 1 to ``last``: the score of any pose, and its gradient."""

    def __init__(self, moving: Volume, reference: Volume, last: int) -> None:
        self.box = moving.shape[-1]
        self.last = min(last, (self.box - 1) // 2)
        grid = min(2 * self.last + 2, self.box)
        moving, reference = (fourier_crop_volumes(v, grid) for v in (moving, reference))
        self.spectrum = _padded_spectrum(moving)
        spectrum = torch.fft.rfftn(torch.fft.ifftshift(reference))
        k = torch.fft.fftfreq(grid, 1 / grid, dtype=moving.dtype, device=moving.device)
        kz, ky, kx = torch.meshgrid(k, k, k[: grid // 2 + 1].abs(), indexing="ij")
        shells = (kx**2 + ky**2 + kz**2).sqrt().round().long()
        self.places = ((shells >= 1) & (shells <= self.last)).nonzero(as_tuple=True)
        self.frequencies = torch.stack([kx, ky, kz], -1)[self.places]
        self.shell = shells[self.places] - 1
        self.weight = torch.where(self.frequencies[:, 0] > 0, 2.0, 1.0).to(moving.dtype)
        self.count = self.over_shells(torch.ones_like(self.weight))
        self.reference = spectrum[self.places]
        self.reference_power = self.over_shells(_power(self.reference))

    def over_shells(self, values: Tensor) -> Tensor:
        """Sums over the coefficients of each shell, Friedel mates included: ``(..., points)`` to ``(..., last)``."""
        sums = torch.zeros(*values.shape[:-1], self.last, dtype=values.dtype, device=values.device)
        return sums.index_add(-1, self.shell, self.weight * values)

    def sample(self, matrices: Tensor, mirrored: Tensor) -> Tensor:
        """Spectrum of the mirrored and rotated moving volume at the band's frequencies. Shape ``(pose, points)``."""
        points = self.frequencies @ matrices  # rows: R^T k
        points = torch.cat([points[..., :2], torch.where(mirrored[:, None, None], -1, 1) * points[..., 2:]], -1)
        n = self.spectrum.shape[-1]
        grid = (2 * points + origin(n)) * (2 / (n - 1)) - 1
        values = grid_sample(self.spectrum, grid[None, :, :, None], align_corners=True)[0, ..., 0]
        return torch.complex(values[0], values[1])

    def curves(self, matrices: Tensor, shifts: Tensor, mirrored: Tensor) -> Tensor:
        """Fourier shell correlation of shells ``1 ... last`` for each pose; differentiable. Shape ``(pose, last)``."""
        moved = self.sample(matrices, mirrored)
        angle = (2 * torch.pi / self.box) * (shifts @ self.frequencies.T)
        product = self.reference * moved.conj()
        cross = self.over_shells(product.real * angle.cos() - product.imag * angle.sin())
        power = (self.reference_power * self.over_shells(_power(moved))).clamp(min=TINY)
        return cross / power.sqrt()

    def information(self, curves: Tensor) -> Tensor:
        """The score: ``-sum count log(1 - FSC^2) / sum count`` over the shells of the band; differentiable.

        Twice the gain in log-likelihood per coefficient that two Gaussian signals of this correlation bring over unrelated
        ones: shells weigh by what they can say, noise by next to nothing. Anticorrelation counts as none, and the
        1e-3 stands for interpolation errors.
        """
        return -(self.count * torch.log(1 + 1e-3 - curves.clamp(min=0) ** 2)).sum(-1) / self.count.sum()

    def mean(self, curves: Tensor) -> Tensor:
        """Mean correlation over the coefficients of the shells that the curves begin with."""
        count = self.count[: curves.shape[-1]]
        return (count * curves).sum(-1) / count.sum()

    def refine(self, poses: list[Pose], steps: int, pace: float) -> list[Pose]:
        """Climb from each pose to the nearest maximum of the score, by Adam (Kingma & Ba 2015).

        Steps shrink from ``pace`` voxels to 0. It is written out because importing ``torch.optim`` takes as long as an alignment.
        """
        matrices, shifts, mirrored = stack(poses, self.weight)
        lever = self.box / 5  # a rotation by 1 / lever moves a molecule's edge by about a voxel
        moves = torch.zeros(len(poses), 6, dtype=matrices.dtype, device=matrices.device, requires_grad=True)
        mean, square = torch.zeros_like(moves), torch.zeros_like(moves)

        def moved() -> tuple[Tensor, Tensor, Tensor]:
            return _exponential(moves[:, :3] / lever) @ matrices, shifts + moves[:, 3:], mirrored

        for step in range(steps):
            (slope,) = torch.autograd.grad(self.information(self.curves(*moved())).sum(), moves)
            mean = mean.lerp(slope, 1 - _MEMORY[0])
            square = square.lerp(slope**2, 1 - _MEMORY[1])
            unbiased = [
                moment / (1 - memory ** (step + 1)) for moment, memory in zip((mean, square), _MEMORY, strict=True)
            ]
            rate = pace * (1 + math.cos(math.pi * step / steps)) / 2
            with torch.no_grad():
                moves += rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
        with torch.no_grad():
            turned, shifted, _ = moved()
            scores = self.information(self.curves(turned, shifted, mirrored))
        ends = zip(turned.double().cpu().numpy(), shifted.double().cpu().numpy(), strict=True)
        return [
            Pose(matrix, shift, pose.mirrored, score)
            for (matrix, shift), pose, score in zip(ends, poses, scores.tolist(), strict=True)
        ]

    def search(self, matrices: NDArray[np.float64], mirrored: bool, keep: int, apart: float) -> list[Pose]:
        """The best ``keep`` of these rotations, each at its best shift, no two closer than ``apart`` (radians)."""
        grid = 2 * self.last + 4
        index = tuple(f % grid for f in self.frequencies.long().flip(-1).unbind(-1))
        whitened = self.reference / self.reference_power.clamp(min=TINY).sqrt()[self.shell]
        unmoved, _, hand = stack([Pose(np.eye(3), np.zeros(3), mirrored)], self.weight)
        moving_power = self.over_shells(_power(self.sample(unmoved, hand)[0]))
        # whitened coefficients over their shell's radius: high shells are many, and the first to miss a rotation
        whitened = whitened / moving_power.clamp(min=TINY).sqrt()[self.shell] / (1 + self.shell)
        scores, shifts = [], []
        for block in torch.split(torch.from_numpy(matrices).to(self.weight), 128):
            product = whitened.new_zeros(len(block), grid, grid, grid // 2 + 1)
            product[:, index[0], index[1], index[2]] = whitened * self.sample(block, hand).conj()
            correlation = torch.fft.irfftn(product, s=(grid, grid, grid), dim=(1, 2, 3)).flatten(1)
            best, where = correlation.max(1)
            scores.append(best)
            shifts.append(torch.stack(torch.unravel_index(where, (grid, grid, grid))[::-1], -1))
        voxels = torch.cat(shifts).cpu().numpy().astype(np.float64)
        voxels = ((voxels + grid / 2) % grid - grid / 2) * self.box / grid
        chosen: list[Pose] = []
        for i in torch.cat(scores).argsort(descending=True, stable=True).tolist():
            if all(distance(matrices[i], pose.matrix) > apart for pose in chosen):
                chosen.append(Pose(matrices[i], voxels[i], mirrored))
            if len(chosen) == keep:
                break
        return chosen


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real**2 + spectrum.imag**2


def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Angle between two rotation matrices in radians."""
    return float(2 * np.arcsin(min(1.0, np.sqrt(np.square(a - b).sum() / 8))))


def stack(poses: list[Pose], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices, shifts and hands of several poses, of the dtype and on the device of ``like``."""
    columns = ([p.matrix for p in poses], [p.shift for p in poses])
    matrices, shifts = (torch.from_numpy(np.stack(column)).to(like) for column in columns)
    return matrices, shifts, torch.tensor([p.mirrored for p in poses], device=like.device)


def _exponential(vectors: Tensor) -> Tensor:
    """Rotation matrices ``(pose, 3, 3)`` of rotation vectors; differentiable at zero too."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [torch.stack([zero, -z, y], -1), torch.stack([z, zero, -x], -1), torch.stack([-y, x, zero], -1)]
    return torch.linalg.matrix_exp(torch.stack(rows, -2))


def _padded_spectrum(volume: Volume) -> Tensor:
    """Spectrum of the twice zero-padded volume, corrected for trilinear interpolation; ``(1, 2, z, y, x)``, zero centred."""
    n = volume.shape[-1]
    taper = torch.sinc(coordinates(n, volume) / (2 * n)) ** 2
    corrected = volume / (taper[:, None, None] * taper[:, None] * taper)
    spectrum = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(pad(corrected, 2 * n, 3))))
    return torch.stack([spectrum.real, spectrum.imag])[None]
