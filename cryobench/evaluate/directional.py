"""Directional Fourier shell correlation: resolution along every direction, and how far from the same it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from torch import Tensor

from cryobench.evaluate.fsc import Resolution, frequency, fsc, resolution
from cryobench.evaluate.shells import check_pair, half_space_points, shared_shells, spectrum
from cryobench.types import Volume

CONE: Final = 20.0
"""Half-angle of a cone in degrees (Tan et al. 2017)."""
DIRECTIONS: Final = 200
"""Over the half-sphere: several for each cone that fits without overlap."""
_LEAST_COEFFICIENTS: Final = 6
_COEFFICIENTS_AT_ONCE: Final = 2**17


@dataclass(frozen=True)
class Anisotropy:
    """Resolution by direction at one threshold.

    Attributes:
        best: of the best direction.
        worst: of the worst direction.
        worst_direction: unit vector (x, y, z) of it in the frame of the maps, ``z >= 0``.
        mean_frequency: over directions, 1/angstrom.
        deviation_of_frequency: standard deviation over directions, 1/angstrom.
        sphericity: of the surface of resolved frequencies: that of a ball, 1, is isotropic; None where some direction
            resolves nothing.
    """

    best: Resolution
    worst: Resolution
    worst_direction: tuple[float, float, float]
    mean_frequency: float
    deviation_of_frequency: float
    sphericity: float | None


def spread_directions(count: int) -> NDArray[np.float64]:
    """``count`` unit vectors (x, y, z) spread evenly over the half-sphere ``z > 0``: a Fibonacci spiral. ``(count, 3)``."""
    z = (np.arange(count) + 0.5) / count
    azimuth = np.pi * (1 + np.sqrt(5)) * np.arange(count)
    rim = np.sqrt(1 - z**2)
    return np.stack([rim * np.cos(azimuth), rim * np.sin(azimuth), z], -1)


def correlate_cones(a: Volume, b: Volume, directions: NDArray[np.float64], half_angle: float = CONE) -> Tensor:
    """Fourier correlation of shells within a cone about each direction (3DFSC: Tan et al. 2017, Nat. Methods 14:793-796).

    Args:
        a: cubic volume ``(z, y, x)``.
        b: volume of the same shape.
        directions: unit vectors ``(direction, 3)``.
        half_angle: of the cones, degrees; 90 takes whole shells, which gives the plain curve for every direction.

    Returns:
        Curves ``(direction, box // 2 + 1)``, float64. Where a cone holds fewer than 6 coefficients of a shell in the
        half-space, it says nothing of its own, and the whole shell stands for it.
    """
    check_pair(a, b)
    box = a.shape[-1]
    spectrum_a, spectrum_b = spectrum(a.cpu()), spectrum(b.cpu())
    shells = shared_shells(spectrum_a, spectrum_b)
    inside = (shells.weight > 0).nonzero()[:, 0]
    inside = inside[shells.index[inside].argsort(stable=True)]
    spectrum_a, spectrum_b = spectrum_a.flatten()[inside], spectrum_b.flatten()[inside]
    grid = half_space_points(box)[inside]
    unit = (grid / grid.norm(dim=-1, keepdim=True).clamp(min=0.5)).float()
    values = torch.stack(
        [
            (spectrum_a * spectrum_b.conj()).real,
            spectrum_a.real**2 + spectrum_a.imag**2,
            spectrum_b.real**2 + spectrum_b.imag**2,
            torch.ones(len(inside), dtype=torch.float64),
        ],
        -1,
    )
    axes, closest = torch.from_numpy(directions).float(), float(np.cos(np.deg2rad(half_angle)))
    sums = torch.zeros(len(directions), box // 2 + 1, 4, dtype=torch.float64)
    ends = shells.index[inside].bincount(minlength=box // 2 + 1).cumsum(0).tolist()
    for shell, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        for first in range(start, end, _COEFFICIENTS_AT_ONCE):
            part = slice(first, min(first + _COEFFICIENTS_AT_ONCE, end))
            within = (axes @ unit[part].T).abs() >= closest - 1e-6
            sums[:, shell] += within.to(values.dtype) @ values[part]
    cross, power_a, power_b, count = sums.unbind(-1)
    whole, power = fsc(a.cpu(), b.cpu()), (power_a * power_b).sqrt()
    # a shell whose whole has no power to speak of has none in a part
    own = (count >= _LEAST_COEFFICIENTS) & (whole != 0)
    return torch.where(own, cross / power.clamp(min=torch.finfo(power.dtype).tiny), whole).clamp(-1, 1)


def measure_anisotropy(
    curves: Tensor, directions: NDArray[np.float64], threshold: float, voxel_size: float, box: int
) -> Anisotropy:
    """Resolution of every cone's curve at ``threshold``, and the spread over the directions."""
    found = [resolution(curve, threshold, box, voxel_size) for curve in curves]
    frequencies = np.array([frequency(one) for one in found])
    best, worst = int(frequencies.argmax()), int(frequencies.argmin())
    x, y, z = (float(v) for v in directions[worst])
    return Anisotropy(
        found[best],
        found[worst],
        (x, y, z),
        float(frequencies.mean()),
        float(frequencies.std()),
        measure_sphericity(directions, frequencies) if frequencies.min() > 0 else None,
    )


def measure_sphericity(directions: NDArray[np.float64], radii: NDArray[np.float64]) -> float:
    """``pi^(1/3) (6 V)^(2/3) / A`` (Wadell 1935) of the star-shaped surface with these radii along ``+-directions``.

    The surface is triangulated over the directions, and set against the same triangulation of a ball, which so has 1.
    """
    points = np.concatenate([directions, -directions])
    triangles = ConvexHull(points).simplices

    def raw(radius: NDArray[np.float64]) -> float:
        p, q, r = (points[corner] * radius[corner, None] for corner in triangles.T)
        volume = np.abs(np.einsum("ij,ij->i", p, np.cross(q, r))).sum() / 6
        area = np.linalg.norm(np.cross(q - p, r - p), axis=1).sum() / 2
        return float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area)

    return raw(np.concatenate([radii, radii])) / raw(np.ones(len(points)))
