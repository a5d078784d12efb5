"""Where a dataset's noise comes from: white, or real patches in disjoint pools, each filled by a generator where it is small."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryobench.errors import InputError
from cryobench.interop.mrc import open_stack
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.grids import half_frequencies
from cryobench.physics.noise import colour, cut, radial_power, turn, whiten
from cryobench.scenario.noise_spec import ColouredNoise, NoiseSpec, PatchNoise, WhiteNoise
from cryobench.scenario.spec import Scenario
from cryobench.scenario.streams import generator
from cryobench.types import Curve, Images

POOLS: Final = ("noise", "pool-1", "pool-2")
"""The data's own pool, and one for the method in each half."""
ENOUGH_PATCHES: Final = 64
OVERLAP_DEVIATIONS: Final = 6.0
"""Two patches share noise where their whitened cross-correlation peaks above this many standard deviations, ``1 / side``;
over all shifts of a 192 px patch chance alone reaches about 5."""


@final
@dataclass(frozen=True)
class NoiseSource:
    """Noise images of unit variance at the native box.

    Attributes:
        box: native, pixels.
        power: radial power spectrum of the generator; None for white noise.
        patches: real patches of at least ``box`` pixels; None where the generator makes all.
    """

    box: int
    power: Curve | None = None
    patches: Tensor | None = None

    def draw(self, seed: int, factor: str, start: int, stop: int) -> Images:
        """Noise images ``start ... stop - 1`` of a factor of the seed, shape ``(n, box, box)``."""
        sources = [generator(seed, factor, index) for index in range(start, stop)]
        if self.patches is not None:
            limit = self.patches.shape[-1] - self.box + 1
            choices = np.array(
                [[s.integers(len(self.patches)), *s.integers(limit, size=2), s.integers(8)] for s in sources]
            )
            windows = cut(self.patches[choices[:, 0]], self.box, torch.as_tensor(choices[:, 1:3]))
            return turn(windows, torch.as_tensor(choices[:, 3]))
        white = np.stack([s.standard_normal((self.box, self.box), dtype=np.float32) for s in sources])
        return torch.as_tensor(white) if self.power is None else colour(torch.as_tensor(white), self.power)


def noise_sources(scenario: Scenario) -> tuple[dict[str, NoiseSource], str]:
    """One source for each of :data:`POOLS`, and a sentence for the report on where its noise comes from."""
    spec: NoiseSpec = scenario.noise
    box = scenario.image.native_box
    match spec:
        case WhiteNoise():
            return dict.fromkeys(
                POOLS, NoiseSource(box)
            ), "White Gaussian noise; data and method draw from independent streams."
        case ColouredNoise():
            shells = np.arange(box // 2 + 1) / scenario.field_of_view
            source = _generator(box, np.interp(shells, spec.frequencies, spec.power))
            note = "Gaussian noise of the scenario's spectrum; data and method draw from independent streams."
            return dict.fromkeys(POOLS, source), note
        case PatchNoise():
            return _patch_sources(spec, box, scenario.image.native_pixel_size)


def _patch_sources(spec: PatchNoise, box: int, pixel_size: float) -> tuple[dict[str, NoiseSource], str]:
    patches = load_patches(spec, box, pixel_size)
    kept = independent_patches(patches)
    found, patches = len(patches), patches[kept]
    if spec.whiten:
        patches = whiten(patches, radial_power(patches))
    if len(patches) < 2 * len(POOLS):
        raise InputError(
            f"{spec.path}: expected at least {2 * len(POOLS)} patches that do not overlap, for {len(POOLS)} disjoint pools, "
            f"found {len(patches)} among {found}"
        )
    sources, sizes = {}, []
    for number, name in enumerate(POOLS):
        pool = patches[number :: len(POOLS)]
        sizes.append(len(pool))
        sources[name] = _fill(pool, box)
    note = (
        f"Real patches ({Path(spec.path).name}): {found} taken from the stack, {len(patches)} of them independent, "
        f"in disjoint pools of {sizes[0]} (data), {sizes[1]} (method, half 1) and {sizes[2]} (method, half 2)."
    )
    if min(sizes) < ENOUGH_PATCHES:
        note += (
            f" With fewer than {ENOUGH_PATCHES} patches a pool is filled by a generator: Gaussian noise with the radial power "
            "spectrum measured on that pool's own patches. What the patches hold beyond their spectrum is not in the data."
        )
    return sources, note


def _fill(pool: Tensor, box: int) -> NoiseSource:
    """A source from a pool: its patches where there are enough, else the generator fitted to them."""
    if len(pool) >= ENOUGH_PATCHES:
        return NoiseSource(box, patches=pool)
    measured = radial_power(pool)
    measured[0] = measured[1]  # each patch lost its mean
    # the same spatial frequencies are other shells in a box of another size
    shells = np.arange(box // 2 + 1) * (pool.shape[-1] / box)
    return _generator(box, np.interp(shells, np.arange(len(measured)), measured.numpy()))


def _generator(box: int, power: NDArray[np.float64]) -> NoiseSource:
    """Gaussian noise of unit variance with a radial spectrum given per shell."""
    curve = torch.as_tensor(power, dtype=torch.float32)
    return NoiseSource(box, power=curve / _variance(curve, box))


def _variance(power: Curve, box: int) -> float:
    """Pixel variance of noise coloured by ``power``: the mean of the spectrum over all coefficients."""
    kx, ky = half_frequencies(box, power)
    radius = (kx**2 + ky**2).sqrt().clamp(max=box // 2).numpy()
    values = np.interp(radius, np.arange(len(power)), power.numpy())
    weight = np.where((kx.numpy() == 0) | (2 * kx.numpy() == box), 1.0, 2.0)
    return float((values * weight).sum() / weight.sum())


def load_patches(spec: PatchNoise, box: int, pixel_size: float) -> Tensor:
    """Patches at the native pixel, protein bright, zero mean and unit variance over the stack. Shape ``(n, m, m)``, m >= box."""
    stack, header_pixel = open_stack(Path(spec.path))
    source_pixel = spec.pixel_size or header_pixel
    if not source_pixel:
        raise InputError(f"{spec.path}: the header states no pixel size; give noise.pixel_size in angstrom")
    side = stack.shape[-1]
    size = round(side * source_pixel / pixel_size)
    if stack.shape[-2] != side or size > side or size < box:
        raise InputError(
            f"{spec.path}: expected square patches of at least {box * pixel_size:.0f} Å with pixels of at most {pixel_size} Å, "
            f"got {stack.shape[-2]} x {side} px of {source_pixel} Å"
        )
    sign = -1.0 if spec.protein == "dark" else 1.0
    chosen = _listed(Path(spec.indices), len(stack)) if spec.indices else list(range(len(stack)))
    images = torch.stack([torch.as_tensor(np.array(stack[index], dtype=np.float32)) for index in chosen]) * sign
    images = images - images.mean((-2, -1), keepdim=True)
    # a crop to an odd number of pixels is still centred; the field of view changes by less than half a pixel
    images = fourier_crop_images(images, size)
    return images / images.std()


def _listed(path: Path, count: int) -> list[int]:
    """Indices in a text file, one a line or space apart; those of patches beyond this stack are left out."""
    try:
        indices = sorted({int(word) for word in path.read_text(encoding="utf-8").split()})
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a text file of patch indices from 0, got {error}") from error
    inside = [index for index in indices if 0 <= index < count]
    if not inside:
        raise InputError(f"{path}: expected indices below {count}, the patches of the stack, got {indices[:3]} ...")
    return inside


def independent_patches(patches: Images) -> list[int]:
    """Indices of patches that pairwise share no noise: greedy, by the peak of the whitened cross-correlation at any shift."""
    spectra = torch.fft.rfft2(patches)
    side = patches.shape[-1]
    # flatten the mean spectrum, so that colour common to all patches does not raise the correlation of strangers
    spectra = spectra / spectra.abs().square().mean(0).clamp(min=1e-12).sqrt()
    energy = torch.fft.irfft2(spectra, s=(side, side)).square().sum((-2, -1)).sqrt()
    bound = OVERLAP_DEVIATIONS / side
    kept: list[int] = []
    for index in range(len(patches)):
        if kept:
            cross = torch.fft.irfft2(spectra[kept] * spectra[index].conj(), s=(side, side))
            peaks = cross.abs().amax((-2, -1)) / (energy[kept] * energy[index])
            if bool((peaks > bound).any()):
                continue
        kept.append(index)
    return kept
