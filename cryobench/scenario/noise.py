"""Where a dataset's noise comes from: a spectrum, or real patches in disjoint pools, or a generator fitted to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.noise.fit import fit_noise
from cryobench.noise.model import GaussianModel, ModelKind, find_spectrum, radial_model, read_model
from cryobench.noise.patches import Patches, read_patches
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.noise import colour, crop_power, cut, mean_power, radial_power, spread_power, turn, whiten
from cryobench.scenario.noise_spec import ColouredNoise, FittedNoise, PatchNoise, WhiteNoise
from cryobench.scenario.pairing import POOLS, choose_patches, micrograph_numbers, paired_rows
from cryobench.scenario.spec import Scenario
from cryobench.scenario.streams import BLOCK, draw_rows
from cryobench.types import Curve, Images, Plane

ENOUGH_PATCHES: Final = 64
HALF_TURNS: Final = (0, 2)
_TOLD: Final[dict[ModelKind, str]] = {
    "radial": "radial spectrum",
    "spectrum2d": "two-dimensional spectrum",
    "covariance": "covariance by lag",
}


@final
@dataclass(frozen=True)
class NoiseSource:
    """Noise images of unit variance at the native box.

    Attributes:
        box: native, pixels.
        power: spectrum of the generator: radial, over the half plane of the box, or over that of a larger box that images are cut
            from; None for white noise.
        patches: real patches of at least ``box`` pixels; None where the generator makes all.
        micrograph: ``(patch,)`` numbers of the patches' micrographs, -1 where it is not known.
        turns: quarter turns that patches are drawn in: all, and mirrored; or half turns alone, which keep the rings of an
            astigmatic CTF.
    """

    box: int
    power: Curve | Plane | None = None
    patches: Images | None = None
    micrograph: NDArray[np.int32] | None = None
    turns: tuple[int, ...] = tuple(range(8))

    @property
    def periodic(self) -> bool:
        """Whether images are periodic Gaussian noise, whose Fourier coefficients are independent."""
        return self.patches is None and (self.power is None or self.power.ndim == 1 or len(self.power) == self.box)

    def draw(self, seed: int, factor: str, start: int, stop: int, box: int | None = None) -> Images:
        """Noise images ``start ... stop - 1`` of a factor of the seed.

        Args:
            seed: of the dataset.
            factor: a name of :data:`POOLS`.
            start: first image.
            stop: one past the last.
            box: of the images, pixels over the same field of view: Fourier-cropped from the native ones, or, where these are
                :attr:`periodic`, drawn as they are distributed, which is the same and many times faster. Native if not given.

        Returns:
            ``(stop - start, box, box)``.
        """
        size = self.box if box is None else box
        if self.patches is not None:
            return fourier_crop_images(self._cut(self.patches, seed, factor, start, stop), size)
        if self.periodic:
            white, power = _white(seed, factor, start, stop, size), self._plane(size)
            return white if power is None else colour(white, power)
        assert self.power is not None
        fields = colour(_white(seed, factor, start, stop, len(self.power)), self.power)
        return fourier_crop_images(fields[:, : self.box, : self.box], size)

    def variance(self, box: int) -> float | None:
        """Expected pixel variance of images at ``box``, where it follows from a spectrum; None where it is to be measured."""
        if not self.periodic:
            return None
        power = self._plane(box)
        return 1.0 if power is None else mean_power(power)

    def micrographs(self, seed: int, factor: str, start: int, stop: int) -> NDArray[np.int32]:
        """Number of the micrograph that each of these images comes from, -1 where it is generated."""
        if self.patches is None or self.micrograph is None:
            return np.full(stop - start, -1, np.int32)
        return self.micrograph[choose_patches(seed, factor, start, stop, len(self.patches))]

    def _plane(self, box: int) -> Plane | None:
        """Spectrum at ``box``; None where it is white of unit variance."""
        if self.power is None:
            return None if box == self.box else crop_power(torch.ones(self.box, self.box // 2 + 1), box)
        return crop_power(spread_power(self.power, self.box) if self.power.ndim == 1 else self.power, box)

    def _cut(self, patches: Images, seed: int, factor: str, start: int, stop: int) -> Images:
        limit = patches.shape[-1] - self.box + 1

        def choose(source: np.random.Generator, n: int) -> NDArray[np.int64]:
            # a whole block at a time: how many words a bounded integer takes depends on those before it
            which = source.integers(len(patches), size=BLOCK)  # first, as choose_patches draws it alone
            corners = source.integers(limit, size=(BLOCK, 2))
            turned = np.array(self.turns)[source.integers(len(self.turns), size=BLOCK)]
            return np.column_stack([which, corners, turned])[:n]

        choices = draw_rows(seed, factor, start, stop, choose)
        windows = cut(patches[choices[:, 0]], self.box, torch.as_tensor(choices[:, 1:3]))
        return turn(windows, torch.as_tensor(choices[:, 3]))


def _white(seed: int, factor: str, start: int, stop: int, box: int) -> Images:
    def draw(source: np.random.Generator, n: int) -> NDArray[np.float32]:
        return source.standard_normal((n, box, box), dtype=np.float32)

    return torch.as_tensor(draw_rows(seed, factor, start, stop, draw))


def noise_sources(scenario: Scenario) -> tuple[dict[str, NoiseSource], str]:
    """One source for each of :data:`POOLS`, and a sentence for the report on where its noise comes from.

    Raises:
        InputError: if a file is not what the settings need, or too few patches are independent.
        UnknownName: if there is no spectrum of that name.
    """
    spec, apart = scenario.noise, "data and method draw from independent streams."
    match spec:
        case WhiteNoise():
            source = NoiseSource(scenario.image.native_box)
            return dict.fromkeys(POOLS, source), f"White Gaussian noise; {apart}"
        case ColouredNoise(spectrum=None):
            model = radial_model(spec.frequencies or [], spec.power or [], {})
            return _gaussian(model, scenario, f"Gaussian noise of the scenario's spectrum; {apart}")
        case ColouredNoise():
            model = find_spectrum(str(spec.spectrum))
            measured = f", measured on {model.provenance['patches']} patches" if "patches" in model.provenance else ""
            note = f"Gaussian noise of the radial spectrum {Path(str(spec.spectrum)).name}{measured}; {apart}"
            return _gaussian(model, scenario, note)
        case FittedNoise():
            model = read_model(spec.path)
            count = model.provenance.get("patches", "an unknown number of")
            note = (
                f"Gaussian noise of a {_TOLD[model.kind]} fitted to {count} patches ({Path(spec.path).name}); {apart}"
            )
            return _gaussian(model, scenario, f"{note} What the patches hold beyond it is not in the data.")
        case PatchNoise():
            return _patch_sources(spec, scenario)


def _gaussian(model: GaussianModel, scenario: Scenario, note: str) -> tuple[dict[str, NoiseSource], str]:
    box, pixel_size = scenario.image.native_box, scenario.image.native_pixel_size
    if model.highest_frequency < 0.5 / pixel_size * (1 - 1e-3):
        note += (
            f" The spectrum is known up to {model.highest_frequency:.3g} 1/Å and taken as constant from there to the native "
            f"pixel's {0.5 / pixel_size:.3g} 1/Å."
        )
    return dict.fromkeys(POOLS, NoiseSource(box, power=model.power(box, pixel_size))), note


def _patch_sources(spec: PatchNoise, scenario: Scenario) -> tuple[dict[str, NoiseSource], str]:
    box, count = scenario.image.native_box, len(POOLS)
    found = read_patches(spec.path, indices=spec.indices, pixel_size=spec.pixel_size, protein=spec.protein)
    found = found.resampled(scenario.image.native_pixel_size, box)
    patches = found.independent()
    independent = len(patches)
    if spec.pair:
        patches = patches.take(np.flatnonzero(paired_rows(patches.names, patches.micrograph, scenario.ctf) >= 0))
    if len(patches) < 2 * count:
        which = "that do not overlap, of micrographs with a CTF," if spec.pair else "that do not overlap,"
        raise InputError(
            f"{spec.path}: expected at least {2 * count} patches {which} for {count} disjoint pools, found {len(patches)} "
            f"among {len(found)}; extract more, or draw from a model that `cryobench noise fit` makes of them"
        )
    if spec.whiten:
        patches = replace(patches, images=whiten(patches.images, radial_power(patches.images)))
    pools = [patches.take(slice(number, None, count)) for number in range(count)]
    sizes = [len(pool) for pool in pools]
    if spec.pair and min(sizes) < ENOUGH_PATCHES:
        raise InputError(
            f"{spec.path}: expected at least {ENOUGH_PATCHES} patches in each of {count} pools to pair particles with, got "
            f"{min(sizes)}: the generator that fills a smaller pool has no micrograph; extract more, or leave noise.pair out"
        )
    numbers = np.append(micrograph_numbers(patches.names, scenario.ctf)[0], np.int32(-1))  # the last stands for unknown
    turns = HALF_TURNS if spec.pair else tuple(range(8))
    sources = {name: _fill(spec, pool, box, numbers, turns) for name, pool in zip(POOLS, pools, strict=True)}
    return sources, _describe(spec, len(found), independent, patches, sizes)


def _fill(spec: PatchNoise, pool: Patches, box: int, numbers: NDArray[np.int32], turns: tuple[int, ...]) -> NoiseSource:
    """A source from a pool: its patches where there are enough, else the generator fitted to them."""
    if len(pool) >= ENOUGH_PATCHES:
        return NoiseSource(box, patches=pool.images, micrograph=numbers[pool.micrograph], turns=turns)
    return NoiseSource(box, power=fit_noise(pool, spec.generator).power(box, pool.pixel_size))


def _describe(spec: PatchNoise, found: int, independent: int, patches: Patches, sizes: list[int]) -> str:
    """Where the noise comes from, and what so few patches limit."""
    micrographs = len(set(patches.micrograph.tolist()) - {-1})
    of = f" of {micrographs} micrographs" if micrographs else ""
    note = (
        f"Real patches ({Path(spec.path).name}): {found} taken{of}, {independent} of them independent, in disjoint pools of "
        f"{sizes[0]} (data), {sizes[1]} (method, half 1) and {sizes[2]} (method, half 2)."
    )
    if spec.pair:
        note += (
            f" A particle has the CTF of its patch's micrograph; {len(patches)} patches are of micrographs with one."
        )
    if spec.whiten:
        note += " The patches' radial spectrum was divided out."
    if min(sizes) >= ENOUGH_PATCHES:
        return (
            f"{note} Images are windows of patches, turned: with more images than patches the same noise comes back, and "
            f"averages over the data do not fall below what {sizes[0]} patches leave."
        )
    pixels = min(sizes) * patches.box**2
    return (
        f"{note} With fewer than {ENOUGH_PATCHES} patches a pool is filled by a generator: Gaussian noise of the "
        f"{_TOLD[spec.generator]} measured on that pool's own patches. So few give its total power to {(2 / pixels) ** 0.5:.1%}, "
        f"that of the lowest shell to {(2 / (8 * min(sizes))) ** 0.5:.0%}. What the patches hold beyond that (skewness, a "
        "micrograph's own rings, defects) is not in the data."
    )
