"""What nothing but a shape, or nothing but noise, scores: the figures that any other figure is to be held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from cryobench.errors import InputError
from cryobench.evaluate.describe import describe_resolutions
from cryobench.evaluate.fsc import correlate, frequency, resolution
from cryobench.evaluate.noise_halves import correlate_unmoved_noise_halves, recall_noise_halves
from cryobench.evaluate.shells import Shells, half_space_points
from cryobench.evaluate.superpose import scaled_mean
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.types import Curve, Volume

FITTED_SHELLS: Final = 16
"""Of the ellipsoid: finer than that its ripples, and not its shape, decide."""


@dataclass(frozen=True)
class Ellipsoid:
    """The soft solid ellipsoid that scores best against a truth.

    Attributes:
        semi_axes: angstrom, ascending.
        edge: standard deviation of the Gaussian that softens it, angstrom.
        curve: Fourier shell correlation with the truth, shells ``0 ... box // 2``.
    """

    semi_axes: tuple[float, float, float]
    edge: float
    curve: Curve


def fit_ellipsoid(truth: Volume, voxel_size: float) -> Ellipsoid:
    """The ellipsoid whose correlation with the truth crosses 0.5 and 0.143 latest (sum of both spatial frequencies).

    Centre and axes are those of the truth's inertia; semi-axes and edge are searched by Nelder-Mead on the closed form
    ``3 (sin u - u cos u) / u^3 exp(-2 (pi edge |k|)^2)``, ``u = 2 pi |(a k1, b k2, c k3)|``. Two halves of such a blob agree
    perfectly with each other to any resolution.

    Args:
        truth: cubic volume ``(z, y, x)`` free of noise.
        voxel_size: angstrom.

    Raises:
        InputError: if the truth has no density above its surroundings.
    """
    box = truth.shape[-1]
    if not float(truth.max()) > float(truth.median()):
        raise InputError("expected a truth with density above its surroundings to fit an ellipsoid to, found none")
    small = min(box, 2 * FITTED_SHELLS + 2)
    centre, frame, semi_axes = _inertia(truth.detach().cpu().double().numpy(), voxel_size)
    length = box * voxel_size
    fitted = _Target(
        fourier_crop_volumes(truth.detach().cpu().double(), small), length, centre, frame, (small - 1) // 2
    )

    def crossings(parameters: NDArray[np.float64]) -> float:
        curve = torch.from_numpy(fitted.correlate(parameters))
        # the mean of the first shells leads on where no crossing moves
        lead = 1e-4 * float(curve[1:9].clamp(-1, 0.8).sum()) * voxel_size
        return -sum(frequency(resolution(curve, t, small, length / small)) for t in (0.143, 0.5)) - lead

    def shape(parameters: NDArray[np.float64]) -> float:
        return -float(np.clip(fitted.correlate(parameters)[1:7], -1, 0.8).sum())

    start = np.log([*semi_axes, 2 * voxel_size])
    best = minimize(shape, start, method="Nelder-Mead", options={"maxiter": 150}).x
    found = min(
        (minimize(crossings, x, method="Nelder-Mead", options={"maxiter": 200}) for x in (best, start)),
        key=lambda fit: fit.fun,
    )
    whole = _Target(truth.detach().cpu().double(), length, centre, frame, box // 2)
    a, b, c, edge = np.exp(found.x)
    x, y, z = (float(v) for v in sorted((a, b, c)))
    return Ellipsoid((x, y, z), float(edge), torch.from_numpy(whole.correlate(found.x)))


def _inertia(
    density: NDArray[np.float64], voxel_size: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centre (x, y, z) in angstrom, principal axes in columns, and semi-axes of the solid of this inertia, angstrom."""
    box = density.shape[0]
    weight = np.clip(density - np.median(density) - 0.1 * (density.max() - np.median(density)), 0, None)
    axis = (np.arange(box) - box // 2) * voxel_size
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack([x, y, z], -1)
    centre = np.einsum("zyx,zyxi->i", weight, points) / weight.sum()
    spread = np.einsum("zyx,zyxi,zyxj->ij", weight, points - centre, points - centre) / weight.sum()
    variances, frame = np.linalg.eigh(spread)
    return centre, frame, np.sqrt(5 * variances)


class _Target:
    """Shell correlation of a truth with any ellipsoid of one centre and frame."""

    def __init__(
        self, truth: Volume, length: float, centre: NDArray[np.float64], frame: NDArray[np.float64], last: int
    ) -> None:
        box = truth.shape[-1]
        shells = Shells(box, within_nyquist=True)
        used = (shells.weight > 0) & (shells.index <= last)
        grid = half_space_points(box)[used].numpy() / length
        spectrum = torch.fft.rfftn(torch.fft.ifftshift(truth)).flatten()[used].numpy()
        self.shell, self.count = shells.index[used].numpy(), box // 2 + 1
        # every coefficient once, its mate included: of a specimen with axes, the plane that a half-space holds twice is no sample
        self.weight = np.where(grid[:, 0] > 0, 2.0, 1.0)
        # the ellipsoid's own transform is real about its centre: only that part of the truth's can correlate with it
        self.aligned = (spectrum * np.exp(2j * np.pi * (grid @ centre))).real
        self.power = self._sum(np.abs(spectrum) ** 2)
        self.squared_axes, self.squared = (grid @ frame) ** 2, (grid**2).sum(1)

    def _sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(self.shell, self.weight * values, self.count).astype(np.float64)

    def correlate(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """Curve for logarithms of three semi-axes and of the edge."""
        a, b, c, edge = np.exp(np.clip(parameters, -20, 10))
        u = 2 * np.pi * np.sqrt(self.squared_axes @ np.array([a, b, c]) ** 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            ball = np.where(u > 1e-3, 3 * (np.sin(u) - u * np.cos(u)) / u**3, 1 - u**2 / 10)
        model = ball * np.exp(-2 * (np.pi * edge) ** 2 * self.squared)
        power = self.power * self._sum(model**2)
        return np.where(power > 0, self._sum(self.aligned * model) / np.sqrt(np.maximum(power, 1e-300)), 0.0)


def measure_yardsticks(
    truth: Volume | None,
    box: int,
    voxel_size: float,
    symmetry: str,
    oracle: tuple[Volume, Volume] | None = None,
) -> dict[str, Any]:
    """The yardsticks, as ``result.json`` carries them; the ellipsoid only where there is a truth.

    Args:
        truth: of the grid of the maps, or None.
        box: voxels along a side.
        voxel_size: angstrom.
        symmetry: point group of the maps.
        oracle: half-maps that were reconstructed with the true poses, in the frame of the truth; or None.
    """
    noise = recall_noise_halves(box, symmetry)
    yardsticks: dict[str, Any] = {
        "noise_halves": {
            **_describe({"half_map": noise.mean(0)}, box, voxel_size),
            "half_map_highest": noise.max(0).values.tolist(),
            "half_map_unmoved": correlate_unmoved_noise_halves(box, symmetry).mean(0).tolist(),
        },
        "ellipsoid": None,
        "oracle_poses": None,
    }
    if truth is not None:
        found = fit_ellipsoid(truth, voxel_size)
        yardsticks["ellipsoid"] = {
            **_describe({"half_map": torch.ones_like(found.curve), "truth": found.curve}, box, voxel_size),
            "semi_axes": list(found.semi_axes),
            "edge": found.edge,
        }
        if oracle is not None:  # in the frame of the truth already, so that nothing is aligned
            curves = {"half_map": correlate(*oracle), "truth": correlate(scaled_mean(*oracle), truth)}
            yardsticks["oracle_poses"] = _describe(curves, box, voxel_size)
    return yardsticks


def _describe(curves: Mapping[str, Curve], box: int, voxel_size: float) -> dict[str, Any]:
    """Curves by what they compare, and their resolutions."""
    return {
        **{name: curve.tolist() for name, curve in curves.items()},
        "resolution": {name: describe_resolutions(curve, box, voxel_size) for name, curve in curves.items()},
    }
