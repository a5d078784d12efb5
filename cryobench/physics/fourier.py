"""Fourier transforms of centred boxes, cropping and padding in either space, sub-pixel shifts."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryobench.conventions import origin
from cryobench.errors import InputError
from cryobench.physics.grids import half_frequencies, inside_nyquist
from cryobench.types import Images, Shifts, Spectra, Volumes


def transform_images(images: Images) -> Spectra:
    """Half-space spectrum, phase origin at pixel ``n // 2``: ``F[k] = sum_x y(x) exp(-2 pi i k (x - n // 2) / n)``."""
    return torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))


def invert_images(spectra: Spectra, box: int) -> Images:
    """Inverse of :func:`transform_images` for square images of ``box`` pixels."""
    return torch.fft.fftshift(torch.fft.irfft2(spectra, s=(box, box)), dim=(-2, -1))


def _half_rows(spectrum: Tensor, box: int, dims: tuple[int, ...]) -> Tensor:
    """Keep the frequencies of a smaller ``box`` on full-length axes ``dims`` in FFT order."""
    positive, negative = (box + 1) // 2, box // 2
    for dim in dims:
        n = spectrum.shape[dim]
        spectrum = torch.cat([spectrum.narrow(dim, 0, positive), spectrum.narrow(dim, n - negative, negative)], dim)
    return spectrum


def crop_spectra(spectra: Spectra, box: int) -> Complex[Tensor, "*batch {box} {box}//2+1"]:
    """Half-space spectra of a larger square image cut to those of ``box`` pixels over the same field of view.

    Values are scaled so that the images keep their pixel values. Nothing at or beyond the new Nyquist frequency is kept:
    at an even box the coefficient there has lost its partner.
    """
    n = spectra.shape[-2]
    if box > n:
        raise InputError(f"expected a box of at most {n} pixels to crop to, got {box}")
    if box == n:
        return spectra
    kept = _half_rows(spectra[..., : box // 2 + 1], box, (-2,))
    return kept * inside_nyquist(box, kept.real) * (box / n) ** 2


def fourier_crop_images(images: Images, box: int) -> Float[Tensor, "*batch {box} {box}"]:
    """Images resampled to ``box`` pixels over the same field of view by cutting their spectra to the Nyquist disc."""
    if images.shape[-1] == box:
        return images
    return invert_images(crop_spectra(transform_images(images), box), box)


def fourier_crop_volumes(volumes: Volumes, box: int) -> Float[Tensor, "*batch {box} {box} {box}"]:
    """Volumes resampled to ``box`` voxels over the same field of view, cut strictly inside the Nyquist sphere."""
    n = volumes.shape[-1]
    if box > n:
        raise InputError(f"expected a box of at most {n} voxels to crop to, got {box}")
    if box == n:
        return volumes
    spectrum = torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=(-3, -2, -1)), dim=(-3, -2, -1))
    kept = _half_rows(spectrum[..., : box // 2 + 1], box, (-3, -2))
    kx, ky = half_frequencies(box, kept.real)
    kz = torch.fft.fftfreq(box, 1 / box, device=volumes.device, dtype=volumes.dtype)[:, None, None]
    kept = kept * (kx**2 + ky**2 + kz**2 < (box / 2) ** 2) * (box / n) ** 3
    return torch.fft.fftshift(torch.fft.irfftn(kept, s=(box, box, box), dim=(-3, -2, -1)), dim=(-3, -2, -1))


def fourier_pad_volumes(volumes: Volumes, box: int) -> Float[Tensor, "*batch {box} {box} {box}"]:
    """Volumes resampled to a larger ``box`` over the same field of view: band-limited interpolation.

    :func:`fourier_crop_volumes` undoes it for what lies strictly inside the smaller box's Nyquist sphere, which is all that is
    kept.

    Raises:
        InputError: if the box is smaller.
    """
    n = volumes.shape[-1]
    if box < n:
        raise InputError(f"expected a box of at least {n} voxels to pad to, got {box}")
    if box == n:
        return volumes
    axes = (-3, -2, -1)
    spectrum = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(volumes, dim=axes), dim=axes), dim=axes)
    k = torch.arange(n, device=volumes.device) - origin(n)
    inside = 4 * (k**2 + k[:, None] ** 2 + k[:, None, None] ** 2) < n**2
    wide = pad(spectrum * inside, box, 3) * (box / n) ** 3
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(wide, dim=axes), dim=axes), dim=axes).real


def pad(array: Tensor, box: int, dims: int) -> Tensor:
    """Zero-pad the last ``dims`` axes to ``box``, origin kept on ``n // 2``."""
    widths: list[int] = []
    for n in reversed(array.shape[-dims:]):
        before = origin(box) - origin(n)
        widths += [before, box - n - before]
    return torch.nn.functional.pad(array, widths)


def crop(array: Tensor, box: int, dims: int) -> Tensor:
    """Cut the last ``dims`` axes to ``box``, origin kept on ``n // 2``; the adjoint of :func:`pad`."""
    for dim in range(-dims, 0):
        n = array.shape[dim]
        array = array.narrow(dim, origin(n) - origin(box), box)
    return array


def shift_phases(shifts: Shifts, box: int, pixel_size: float) -> Spectra:
    """Factors ``exp(-2 pi i k t / (n a))`` that move images by ``shifts`` (x, y) in angstrom: ``(S_t y)(x) = y(x - t)``."""
    kx, ky = half_frequencies(box, shifts)
    t = shifts / (box * pixel_size)
    angle = -2 * torch.pi * (kx * t[..., 0, None, None] + ky * t[..., 1, None, None])
    return torch.polar(torch.ones_like(angle), angle)


def shift_images(images: Images, shifts: Shifts, pixel_size: float) -> Images:
    """Move images by ``shifts`` (x, y) in angstrom, sub-pixel and periodic.

    Frequencies at and beyond the Nyquist disc are dropped (at an even box a fraction of a pixel has no meaning there), so that
    shifts compose exactly: ``S_a S_b = S_(a + b)``.
    """
    box = images.shape[-1]
    spectra = transform_images(images) * shift_phases(shifts, box, pixel_size)
    return invert_images(spectra * inside_nyquist(box, images), box)
