"""Intervals for resolutions and gaps of one run: a bootstrap over Fourier coefficients. Error of the alignment is not in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.hallucination import expect_truth_curve
from cryobench.evaluate.independent import Independent
from cryobench.types import Curve

LEVEL = 0.9
DRAWS = 400
_FEWEST = 4.0
"""Independent numbers in a shell, below which there is no plane of two signals with noise beside it."""
_ALIKE = 1 - 1e-6
"""A correlation that is taken for 1."""


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high`` at the stated level; an infinite end is open."""

    low: float
    high: float
    level: float


def bootstrap_curves(
    half_map: Curve | None, truth: Curve | None, independent: Independent, draws: int = DRAWS, seed: int = 0
) -> tuple[Tensor | None, Tensor | None]:
    """Fourier shell correlations of coefficients drawn anew: a parametric bootstrap (Efron & Tibshirani 1993, section 6.5).

    The model: in each shell, ``n`` independent numbers of half-maps ``h + n1`` and ``h + n2`` and of a truth ``t``, with
    Gaussian noise and fixed ``h`` and ``t`` whose lengths and angle are those that the curves imply. What the halves share
    need not be the truth. Errors of the drawn correlations, as Fisher's ``artanh``, are taken off the curves, and so is their
    bias (the pivotal bootstrap). Sums over neighbouring shells are drawn as correlated as they are. (Resampling the
    coefficients themselves would do if noise filled the box: noise within a mask leaves so few independent patches of a
    shell that their scatter understates the error.)

    Args:
        half_map: correlation of shells ``0 ... box // 2`` of the half-maps, or None.
        truth: of their mean with the truth, or None.
        independent: how many coefficients are.
        draws: how many curves.
        seed: of the draws.

    Returns:
        For each curve ``(draw, box // 2 + 1)``, float64, draw by draw of the same noise; None where there is no curve.

    Raises:
        InputError: if there is no curve, or one of another box.
    """
    given = [curve.numpy() for curve in (half_map, truth) if curve is not None]
    if not given or any(len(curve) != len(independent.count) for curve in given):
        raise InputError(f"expected curves of {len(independent.count)} shells, got {[len(curve) for curve in given]}")
    if half_map is None:
        positive = given[0].clip(0, _ALIKE) ** 2
        between = positive / (2 - positive)  # so that what the halves promise is what the truth bears out
    else:
        between = given[0].clip(0, _ALIKE)
    promised = expect_truth_curve(torch.from_numpy(between)).numpy()
    against = promised if truth is None else given[-1]
    cosine = np.clip(against / np.maximum(promised, 1 - _ALIKE), -1, 1)
    drawn = _draw_correlations(between, cosine, independent, draws, seed)
    found = [
        None if curve is None else torch.from_numpy(_take_off(curve.numpy(), values, model))
        for curve, values, model in zip((half_map, truth), drawn, (between, cosine * promised), strict=True)
    ]
    return found[0], found[1]


def _draw_correlations(
    between: NDArray[np.float64], cosine: NDArray[np.float64], independent: Independent, draws: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half-map and truth correlations under new noise: along ``h``, along what of ``t`` is beside it, and along the rest."""
    values, vectors = np.linalg.eigh(independent.correlation)
    root = vectors * np.sqrt(values.clip(min=0))
    root /= np.sqrt((root**2).sum(1, keepdims=True))
    normal = np.random.default_rng(seed).standard_normal((7, draws, len(between))) @ root.T
    count = np.maximum(independent.count, _FEWEST)
    along1, along2, beside1, beside2, common = normal[:5]
    # the rest of both noises: a Wishart matrix by Bartlett's decomposition
    rest1 = stats.chi2.ppf(stats.norm.cdf(normal[5]), count - 2)
    rest2 = stats.chi2.ppf(stats.norm.cdf(normal[6]), count - 3) + common**2
    signal = np.sqrt(count * between / (1 - between))
    power1 = (signal + along1) ** 2 + beside1**2 + rest1
    power2 = (signal + along2) ** 2 + beside2**2 + rest2
    cross = (signal + along1) * (signal + along2) + beside1 * beside2 + np.sqrt(rest1) * common
    mean_along, mean_beside = signal + (along1 + along2) / 2, (beside1 + beside2) / 2
    with_truth = cosine * mean_along + np.sqrt(1 - cosine**2) * mean_beside
    return cross / np.sqrt(power1 * power2), with_truth / (np.sqrt(power1 + power2 + 2 * cross) / 2)


def _take_off(
    curve: NDArray[np.float64], drawn: NDArray[np.float64], model: NDArray[np.float64]
) -> NDArray[np.float64]:
    def fisher(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.arctanh(values.clip(-_ALIKE, _ALIKE))

    found = np.tanh(fisher(curve) - fisher(drawn) + fisher(model))
    found[:, 0] = curve[0]  # one number, of which there is nothing to resample
    return found


def take_interval(values: NDArray[np.float64], measured: float | None = None, level: float = LEVEL) -> Interval:
    """The central interval of bootstrapped values: their percentiles.

    Args:
        values: one of each draw.
        measured: what was measured; where given, the percentiles are those that put it in the middle (Efron's bias-corrected
            interval). A mean over as many shells as a curve happens to reach has a bias that draws have twice.
        level: of confidence.
    """
    tails = np.array([-1.0, 1.0]) * float(stats.norm.ppf((1 + level) / 2))
    if measured is not None:
        below = (np.mean(values < measured) + np.mean(values <= measured)) / 2
        tails += 2 * float(stats.norm.ppf(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values))))
    low, high = (float(np.quantile(values, stats.norm.cdf(tail))) for tail in tails)
    return Interval(low, high, level)
