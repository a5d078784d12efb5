"""Particle-free patches of real micrographs, from a noise store or a stack of images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray

from cryobench.dataset.store import digest, open_store
from cryobench.errors import InputError
from cryobench.interop.mrc import open_stack
from cryobench.types import Images

OVERLAP_DEVIATIONS: Final = 6.0
"""Two patches share noise where their whitened cross-correlation peaks above this many standard deviations, ``1 / side``;
over all shifts of a 192 px patch chance alone reaches about 5."""


@final
@dataclass(frozen=True)
class Patches:
    """Noise images, protein bright, each of mean zero, of unit variance over all of them.

    Attributes:
        images: ``(patch, y, x)``, square.
        pixel_size: angstrom.
        micrograph: ``(patch,)`` row of ``names``, -1 where the source does not say.
        names: of the micrographs.
        source: where they come from, for messages.
        apart: whether the source says that no two share a pixel (a noise store does).
    """

    images: Images
    pixel_size: float
    micrograph: NDArray[np.int32]
    names: tuple[str, ...]
    source: Path
    apart: bool

    def __len__(self) -> int:
        return len(self.images)

    @property
    def box(self) -> int:
        """Side in pixels."""
        return self.images.shape[-1]

    def take(self, rows: slice | NDArray[np.intp] | list[int]) -> Patches:
        """The given patches alone, of unit variance again."""
        images, micrograph = self.images[rows], self.micrograph[rows]
        return Patches(images / images.std(), self.pixel_size, micrograph, self.names, self.source, self.apart)

    def independent(self) -> Patches:
        """Those that share no noise with one another: all where the source says so, else as their correlation tells."""
        return self if self.apart else self.take(independent_patches(self.images))

    def resampled(self, pixel_size: float, least_box: int = 8) -> Patches:
        """The same patches with pixels of ``pixel_size`` angstrom, by Fourier cropping.

        The whole square of the new frequencies is kept, not the Nyquist disc alone: noise that is white stays so, and its
        variance is that of the new pixel.

        Raises:
            InputError: if their pixels are larger than that, or fewer than ``least_box`` of the new ones would be left.
        """
        # a crop to an odd number of pixels is still centred; the field of view changes by less than half a pixel
        size = round(self.box * self.pixel_size / pixel_size)
        if size > self.box or size < least_box:
            raise InputError(
                f"{self.source}: expected square patches of at least {least_box * pixel_size:.0f} Å with pixels of at most "
                f"{pixel_size} Å, got {self.box} x {self.box} px of {self.pixel_size:g} Å"
            )
        images = _cropped(self.images, size)
        return Patches(images / images.std(), pixel_size, self.micrograph, self.names, self.source, self.apart)


def _cropped(images: Images, box: int) -> Images:
    """Images resampled to ``box`` pixels over the same field of view, every frequency with a partner kept."""
    n, keep = images.shape[-1], (box - 1) // 2
    if box == n:
        return images
    spectra = torch.fft.rfft2(images)
    cut = torch.zeros(*images.shape[:-2], box, box // 2 + 1, dtype=spectra.dtype)
    rows = torch.cat([torch.arange(keep + 1), torch.arange(-keep, 0)])
    cut[..., rows % box, : keep + 1] = spectra[..., rows % n, : keep + 1]
    return torch.fft.irfft2(cut, s=(box, box)) * (box / n) ** 2


def read_patches(
    path: str | Path,
    *,
    indices: str | Path | None = None,
    pixel_size: float | None = None,
    protein: Literal["dark", "bright"] = "dark",
) -> Patches:
    """Read patches from a noise store (``noise extract`` writes one) or an MRC stack.

    Args:
        path: of the store or stack.
        indices: text file of the patches to use, counted from 0; all if not given.
        pixel_size: angstrom, where a stack's header does not say.
        protein: contrast of a stack; a store has protein bright whatever is given.

    Raises:
        InputError: no such file, no pixel size or two that differ, patches that are not square or hold NaN, or constant ones.
        StoreError: if a store is unfinished, damaged or of another kind.
    """
    path = Path(path)
    return _read_store(path, indices, pixel_size) if path.is_dir() else _read_stack(path, indices, pixel_size, protein)


def _read_store(path: Path, indices: str | Path | None, pixel_size: float | None) -> Patches:
    store = open_store(path, "noise")
    stated = float(store.attrs["voxel_size"])
    if pixel_size is not None and abs(pixel_size / stated - 1) > 1e-3:
        raise InputError(f"{path}: expected pixels of {pixel_size:g} Å, the noise store has {stated:g} Å")
    rows = read_indices(Path(indices), store.sizes["patch"]) if indices else list(range(store.sizes["patch"]))
    images = torch.as_tensor(store["patches"].values[rows])
    micrograph = store["patch_micrograph"].values[rows].astype(np.int32)
    return Patches(images / images.std(), stated, micrograph, tuple(store.attrs["micrographs"]), path, True)


def read_patch_micrographs(
    path: str | Path, indices: str | Path | None = None
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Names of a noise store's micrographs, and the number of each patch's; of an MRC stack, which knows none, empty ones."""
    path = Path(path)
    if not path.is_dir():
        return (), np.empty(0, np.int32)
    store = open_store(path, "noise")
    rows = read_indices(Path(indices), store.sizes["patch"]) if indices else slice(None)
    return tuple(store.attrs["micrographs"]), store["patch_micrograph"].values[rows].astype(np.int32)


def _read_stack(path: Path, indices: str | Path | None, pixel_size: float | None, protein: str) -> Patches:
    stack, stated = open_stack(path)
    pixel = pixel_size or stated
    if not pixel:
        raise InputError(
            f"{path}: the header states no pixel size; give noise.pixel_size in angstrom (or --pixel-size)"
        )
    if stack.shape[-1] != stack.shape[-2]:
        raise InputError(f"{path}: expected square patches, got {stack.shape[-2]} x {stack.shape[-1]} px")
    rows = read_indices(Path(indices), len(stack)) if indices else list(range(len(stack)))
    images = torch.stack([torch.as_tensor(np.array(stack[row], dtype=np.float32)) for row in rows])
    broken = [row for row, image in zip(rows, images, strict=True) if not image.isfinite().all() or image.std() == 0]
    if broken:
        raise InputError(
            f"{path}: expected finite pixels that are not all alike, patch {broken[0]} (from 0) has others"
        )
    images = images * (-1.0 if protein == "dark" else 1.0)
    images = images - images.mean((-2, -1), keepdim=True)
    return Patches(images / images.std(), pixel, np.full(len(rows), -1, np.int32), (), path, False)


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of the arrays of a noise store."""
    if path.is_dir():
        return digest(open_store(path, "noise"))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_indices(path: Path, count: int) -> list[int]:
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
