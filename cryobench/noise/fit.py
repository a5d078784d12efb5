"""Generators fitted to few patches, each with what keeps it from fitting their chance."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cryobench.errors import InputError
from cryobench.noise.model import GaussianModel, ModelKind
from cryobench.noise.patches import Patches, content_digest, read_patches
from cryobench.physics.grids import friedel_weights, half_frequencies

STANDARD_ERROR: Final = 0.05
"""Largest relative standard error, one standard deviation, that a coefficient of a fitted 2D spectrum is left with."""
BATCH: Final = 64


def fit_noise(patches: Patches, kind: ModelKind, provenance: Mapping[str, Any] | None = None) -> GaussianModel:
    """Fit a generator of Gaussian noise to patches.

    ``radial`` averages the power over shells of one coefficient's width. ``spectrum2d`` smooths the power, divided by its radial
    mean, with a Gaussian kernel just wide enough that each coefficient's standard error is at most :data:`STANDARD_ERROR`.
    ``covariance`` averages the products of pixels by lag, without the bias of periodic images, and windows them (Parzen) to zero
    at a lag of half the patch.

    Args:
        patches: at least two.
        kind: of the generator.
        provenance: to keep with the model, beside what is said here.

    Raises:
        InputError: if there are fewer than two patches.
    """
    if len(patches) < 2:
        raise InputError(f"{patches.source}: expected at least 2 patches to fit noise to, got {len(patches)}")
    box, none = patches.box, np.empty(0)
    micrographs = len(set(patches.micrograph.tolist()) - {-1})
    known: dict[str, Any] = {"patches": len(patches), **({"micrographs": micrographs} if micrographs else {})}
    if kind == "covariance":
        values, regularisation = _covariance(patches.images)
        frequencies = none
    else:
        power = mean_periodogram(patches.images)
        shells, errors = _shells(power, len(patches))
        if kind == "radial":
            values, frequencies = shells, np.arange(len(shells)) / (box * patches.pixel_size)
            regularisation = (
                f"shell means, relative standard error {errors[1]:.1%} in shell 1, {errors[min(10, box // 2)]:.1%} in shell "
                f"{min(10, box // 2)}, {errors[box // 2]:.1%} at Nyquist; shell 0, lost with the means, has the value of 1"
            )
        else:
            values, regularisation = _smoothed(power, shells, len(patches))
            frequencies = none
    described = {**known, "regularisation": regularisation, **(provenance or {})}
    return GaussianModel(kind, patches.pixel_size, box, values, frequencies, described)


def fit_file(
    path: Path,
    kind: ModelKind,
    *,
    indices: Path | None = None,
    pixel_size: float | None = None,
    protein: Literal["dark", "bright"] = "dark",
    note: str | None = None,
    out: Path,
) -> GaussianModel:
    """Fit a generator to the patches of a noise store or MRC stack, and keep with it what was done to what.

    Args:
        path: of the store or stack.
        kind: of the generator.
        indices: text file of the patches to use, counted from 0.
        pixel_size: angstrom, where a stack's header does not say.
        protein: contrast of a stack.
        note: where the data are from.
        out: file that the model is to be written to; named in the command that is kept.

    Raises:
        InputError: if a file is not what is needed.
    """
    found = read_patches(path, indices=indices, pixel_size=pixel_size, protein=protein)
    patches = found.independent()
    options = {"indices": indices and indices.name, "pixel-size": pixel_size, "protein": protein}
    given = [f"--{key} {shlex.quote(str(value))}" for key, value in options.items() if value not in (None, "dark")]
    command = " ".join(["cryobench noise fit", shlex.quote(path.name), f"--model {kind}", *given, f"--out {out.name}"])
    provenance = {"source": path.name, "sha256": content_digest(path), "command": command}
    if len(patches) < len(found):
        provenance["left_out"] = f"{len(found) - len(patches)} patches that share noise with another one"
    return fit_noise(patches, kind, {**({"note": note} if note else {}), **provenance})


def mean_periodogram(images: Tensor) -> NDArray[np.float64]:
    """``mean |F|^2 / box^2`` over the half plane, ``(box, box // 2 + 1)``."""
    box = images.shape[-1]
    total = torch.zeros(box, box // 2 + 1, dtype=torch.float64)
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH].double()
        total += torch.fft.rfft2(part).abs().square().sum(0)
    return (total / (len(images) * box**2)).numpy()


def radii(box: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radius of every half-plane coefficient, and how many coefficients of the whole plane it stands for (1 or 2)."""
    like = torch.zeros(1, dtype=torch.float64)
    kx, ky = half_frequencies(box, like)
    return (kx**2 + ky**2).sqrt().numpy(), friedel_weights(box, like).numpy()


def _shells(power: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shell means out into the corner of the plane, and the relative standard error of each.

    Beyond Nyquist a shell is kept only where its error is below :data:`STANDARD_ERROR`.
    """
    box = power.shape[0]
    radius, weight = radii(box)
    shell = np.rint(radius).astype(int).ravel()
    members = np.bincount(shell, weight.ravel())
    means = np.bincount(shell, (power * weight).ravel()) / members
    errors = np.sqrt(2 / (members * count))  # a coefficient's power has its mean as standard deviation, and a twin
    means[0] = means[1]
    bad = np.flatnonzero(errors[box // 2 + 1 :] > STANDARD_ERROR)
    last = box // 2 + 1 + (int(bad[0]) if len(bad) else len(errors))
    return means[:last], errors[:last]


def _smoothed(power: NDArray[np.float64], shells: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], str]:
    """Power over radial power, smoothed, times radial power again."""
    box = power.shape[0]
    radius, _ = radii(box)
    expected = np.interp(radius, np.arange(len(shells)), shells)
    expected = np.maximum(expected, 1e-6 * expected.max())
    ratio = power / expected
    ratio[0, 0] = 1  # lost with each patch's mean
    # a Gaussian kernel of this width averages 4 pi sigma^2 coefficients, each with a relative variance of one a patch
    sigma = 1 / (STANDARD_ERROR * math.sqrt(4 * math.pi * count))
    # the half plane continued a kernel's width across the axis, where F(-k) = F(k)*, so that smoothing keeps the symmetry
    reach = min(math.ceil(4 * sigma) + 1, (box - 1) // 2)
    across = ratio[(-np.arange(box)) % box][:, 1 : reach + 1][:, ::-1]
    beyond = ratio[(-np.arange(box)) % box][:, (box - 1) // 2 - reach + 1 : (box - 1) // 2 + 1][:, ::-1]
    wide = np.concatenate([across, ratio, beyond], 1)
    smooth = ndimage.gaussian_filter(wide, sigma, mode=("wrap", "nearest"))[:, reach : reach + box // 2 + 1]
    said = (
        f"2D power over radial power smoothed by a Gaussian of {sigma:.3g} coefficients, which leaves each a relative standard "
        f"error of at most {STANDARD_ERROR:.0%}"
    )
    return smooth * expected, said


def _covariance(images: Tensor) -> tuple[NDArray[np.float64], str]:
    """Mean product of pixels by lag (y, x), windowed; the patches are padded, so that opposite edges do not meet."""
    box = images.shape[-1]
    longest, side = box // 2, 2 * box
    total = torch.zeros(side, side // 2 + 1, dtype=torch.float64)
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH].double()
        total += torch.fft.rfft2(part, s=(side, side)).abs().square().sum(0)
    products = torch.fft.irfft2(total / len(images), s=(side, side)).numpy()
    lags = np.arange(-longest, longest + 1)
    pairs = np.outer(box - np.abs(lags), box - np.abs(lags))
    window = _parzen(lags / (longest + 1))
    said = (
        f"mean product of pixels by lag, up to {longest} px, times a Parzen window in x and in y; each patch's mean is off, "
        f"which takes the power of frequency zero over the {box**2} pixels from every lag"
    )
    return products[np.ix_(lags, lags)] / pairs * np.outer(window, window), said


def _parzen(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Parzen window on -1 ... 1: its transform is nowhere negative (Parzen 1961)."""
    a = np.abs(x)
    return np.where(a <= 0.5, 1 - 6 * a**2 * (1 - a), 2 * (1 - a) ** 3)
