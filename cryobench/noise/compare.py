"""Is a generator's noise like the real patches? Every difference beside the error that sampling alone would give it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cryobench.errors import InputError
from cryobench.noise.fit import fit_noise, mean_periodogram
from cryobench.noise.model import GaussianModel, ModelKind
from cryobench.noise.patches import Patches
from cryobench.noise.statistics import Statistics, describe_noise
from cryobench.types import Images

DRAWN: Final = 128
"""Images drawn from a model, at least; four to a patch where there are more patches."""
HELD_OUT: Final = 8
"""Fewest patches of which half are held out of a second fit."""

Progress = Callable[[str, int, int], None]


@final
@dataclass(frozen=True)
class Row:
    """One statistic: means over patches and over drawn images, their standard errors, and how many errors apart they are.

    Attributes:
        name: of the statistic.
        patches: mean over the patches.
        patches_error: its standard error.
        model: mean over the drawn images.
        model_error: its standard error.
        z: the difference in standard errors, as of a normal deviate that is as unlikely: Welch's t for few patches.
        held_out: the same for patches that the model (of the same kind, fitted to the others) has not seen; NaN if too few.
    """

    name: str
    patches: float
    patches_error: float
    model: float
    model_error: float
    z: float
    held_out: float


@final
@dataclass(frozen=True)
class Comparison:
    """Patches and a model's images, compared.

    Attributes:
        rows: by statistic.
        patches, drawn: how many of each.
        held_out: patches not seen by the second fit; 0 if there was none.
        spectra: mean periodograms ``(box, box // 2 + 1)`` of patches and of drawn images.
        examples: a few of each, ``(image, y, x)``.
        histograms: bin centres in standard deviations, and the densities of both.
        kind: of the model.
    """

    rows: list[Row]
    patches: int
    drawn: int
    held_out: int
    spectra: tuple[NDArray[np.float64], NDArray[np.float64]]
    examples: tuple[Images, Images]
    histograms: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    kind: ModelKind

    def beyond(self, deviations: float = 3.0, held_out: bool = False) -> tuple[int, int, float]:
        """Statistics that differ by more than so many standard errors, of how many, and how many chance would give."""
        z = np.array([row.held_out if held_out else row.z for row in self.rows])
        z = z[np.isfinite(z)]
        return int((np.abs(z) > deviations).sum()), len(z), float(len(z) * 2 * stats.norm.sf(deviations))


def compare_noise(
    patches: Patches, model: GaussianModel, seed: int = 0, on_progress: Progress = lambda *_: None
) -> Comparison:
    """Draw images of the patches' box and pixel from a model and compare their statistics with the patches'.

    What was taken from the patches is taken from the images: each one's mean, and its standard deviation where each patch has its
    own taken out, as those of a noise store have.

    With at least :data:`HELD_OUT` patches a model of the same kind is also fitted to every second one and compared with the
    others, which tells an overfitted model from a good one.

    Raises:
        InputError: if there are fewer than two patches, or their pixels are smaller than those the model was fitted to.
    """
    if len(patches) < 2:
        raise InputError(f"{patches.source}: expected at least 2 patches to compare with, got {len(patches)}")
    if patches.pixel_size < model.pixel_size * (1 - 1e-3):
        raise InputError(
            f"{patches.source}: expected pixels of at least {model.pixel_size:g} Å, those of the model, got "
            f"{patches.pixel_size:g} Å; give patches that were extracted with --pixel-size {model.pixel_size:g}"
        )
    source, count = np.random.default_rng(seed), max(DRAWN, 4 * len(patches))
    steps = 2 + (len(patches) >= HELD_OUT)
    on_progress("compare", 0, steps)
    drawn = _treated(model.draw(count, patches.box, patches.pixel_size, source), patches)
    on_progress("compare", 1, steps)
    real, made = (describe_noise(x, patches.pixel_size) for x in (patches.images, drawn))
    on_progress("compare", 2, steps)
    held, unseen = dict.fromkeys(real, math.nan), 0
    if len(patches) >= HELD_OUT:
        seen, rest = patches.take(slice(0, None, 2)), patches.take(slice(1, None, 2))
        unseen = len(rest)
        again = _treated(fit_noise(seen, model.kind).draw(count, patches.box, patches.pixel_size, source), patches)
        held = _deviates(describe_noise(rest.images, patches.pixel_size), describe_noise(again, patches.pixel_size))
        on_progress("compare", 3, steps)
    deviates = _deviates(real, made)
    # what is the same in every image, as the spread of deviations that were taken out, says nothing
    told = [name for name in real if math.isfinite(deviates[name])]
    rows = [Row(name, *_mean(real[name]), *_mean(made[name]), deviates[name], held[name]) for name in told]
    edges = np.linspace(-6, 6, 97)
    densities = [np.histogram(x.numpy(), edges, density=True)[0] for x in (patches.images, drawn)]
    return Comparison(
        rows,
        len(patches),
        count,
        unseen,
        (mean_periodogram(patches.images), mean_periodogram(drawn)),
        (patches.images[:3], drawn[:3]),
        ((edges[:-1] + edges[1:]) / 2, densities[0], densities[1]),
        model.kind,
    )


def _treated(drawn: Images, patches: Patches) -> Images:
    """Drawn images without what the patches lost."""
    drawn = drawn - drawn.mean((-2, -1), keepdim=True)
    deviations = patches.images.std((-2, -1))
    if float(deviations.std()) < 1e-4 * float(deviations.mean()):
        drawn = drawn / drawn.std((-2, -1), keepdim=True)
    return drawn


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def _deviates(real: Statistics, made: Statistics) -> dict[str, float]:
    """Differences in standard errors: Welch's t with its degrees of freedom, as the normal deviate of the same tail."""
    found = {}
    for name in real:
        (a, ea), (b, eb) = _mean(real[name]), _mean(made[name])
        variance = ea**2 + eb**2
        if variance < 1e-20:
            found[name] = math.nan
            continue
        t = (a - b) / math.sqrt(variance)
        freedom = variance**2 / (ea**4 / (len(real[name]) - 1) + eb**4 / (len(made[name]) - 1))
        # in logarithms, where the tail itself would be zero; beyond that the deviate is far enough to be cut
        tail = stats.t.logsf(abs(t), freedom)
        found[name] = math.copysign(float(-stats.norm.ppf(math.exp(max(tail, -700)))), t)
    return found
