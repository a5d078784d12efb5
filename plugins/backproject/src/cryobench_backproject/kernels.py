"""Compiled passes over the padded half-space grid: symmetry copies, shell sums and the final division."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cryobench.physics.kernels import compiled, locate

Singles: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]


@compiled
def combine(even: Singles, odd: Singles, rotations: Singles, padding: int, total: Singles, moments: Doubles) -> None:
    """Sum of the rotated copies of two grids, and what their shells have in common.

    Rotations that map the grid onto itself are exact, others trilinear.

    Args:
        even: ``(z, y, x, 3)`` data (real and imaginary part) and weight, for ``x >= 0``.
        odd: the same of other particles.
        rotations: ``(order, 3, 3)`` the group, identity included.
        padding: samples per frequency of the volume.
        total: of the same shape, zero: gets the sum of both grids' copies inside the Nyquist sphere.
        moments: ``(shell, 4)``, zero: gets the sums over whole shells of ``Re(even conj(odd))`` of the data, of the
            product of the weights, of the total weight, and of its square.
    """
    one, reach = np.float32(1), even.shape[2] - 1
    flat_even, flat_odd = even.reshape(-1), odd.reshape(-1)
    to_y, to_z = 3 * (reach + 1), 3 * (reach + 1) * (2 * reach + 1)
    of_even, of_odd = np.empty(3, np.float32), np.empty(3, np.float32)
    for iz in range(2 * reach + 1):
        z = np.float32(iz - reach)
        for iy in range(2 * reach + 1):
            y = np.float32(iy - reach)
            for ix in range(reach + 1):
                x = np.float32(ix)
                square = x * x + y * y + z * z
                if square >= reach * reach:
                    break
                of_even[:], of_odd[:] = 0, 0
                for g in range(rotations.shape[0]):
                    r = rotations[g]
                    px = r[0, 0] * x + r[0, 1] * y + r[0, 2] * z
                    py = r[1, 0] * x + r[1, 1] * y + r[1, 2] * z
                    pz = r[2, 0] * x + r[2, 1] * y + r[2, 2] * z
                    index, wx, wy, wz, sign = locate(px, py, pz, reach)
                    for corner in range(8 if wx + wy + wz > 0 else 1):
                        dx, dy, dz = corner % 2, corner // 2 % 2, corner // 4
                        weight = (wx if dx else one - wx) * (wy if dy else one - wy) * (wz if dz else one - wz)
                        first = 3 * (index + dx) + dy * to_y + dz * to_z
                        for part in range(3):
                            factor = weight * sign if part == 1 else weight
                            of_even[part] += factor * flat_even[np.uint64(first + part)]
                            of_odd[part] += factor * flat_odd[np.uint64(first + part)]
                weight = of_even[2] + of_odd[2]
                for part in range(3):
                    total[iz, iy, ix, part] = of_even[part] + of_odd[part]
                shell = int(np.rint(np.sqrt(square) / padding))
                count = 1.0 if ix == 0 else 2.0  # with its Friedel partner
                moments[shell, 0] += count * (of_even[0] * of_odd[0] + of_even[1] * of_odd[1])
                moments[shell, 1] += count * (of_even[2] * of_odd[2])
                moments[shell, 2] += count * weight
                moments[shell, 3] += count * (weight * weight)


@compiled
def divide(total: Singles, prior: Doubles, padding: int, spectrum: Singles) -> None:
    """Data over weight plus ``prior (shell,)`` into ``spectrum (z, y, x, 2)``, doubled where a Friedel partner is left out."""
    reach = total.shape[2] - 1
    for iz in range(2 * reach + 1):
        for iy in range(2 * reach + 1):
            across = (iz - reach) ** 2 + (iy - reach) ** 2
            for ix in range(reach + 1):
                square = across + ix * ix
                if square >= reach * reach:
                    break
                shell = int(np.rint(np.sqrt(square) / padding))
                factor = np.float32((1.0 if ix == 0 else 2.0) / (total[iz, iy, ix, 2] + prior[shell]))
                spectrum[iz, iy, ix, 0] = factor * total[iz, iy, ix, 0]
                spectrum[iz, iy, ix, 1] = factor * total[iz, iy, ix, 1]
