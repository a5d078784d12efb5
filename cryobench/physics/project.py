"""Projection along the beam: by Fourier central slice, and, as its check, by summing rotated voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cryobench.conventions import origin
from cryobench.errors import InputError
from cryobench.physics.formation import Formation, serves
from cryobench.physics.grids import coordinates, half_frequencies, inside_nyquist
from cryobench.physics.linear import apply_linear
from cryobench.physics.padded import transform_padded, transpose_padded
from cryobench.types import Images, Rotations, Spectra, Volume


@dataclass(frozen=True)
class VolumeSpectrum:
    """The padded spectrum of a volume, cut to what the slices of an image box can reach.

    Attributes:
        values: ``(2 r + 1, 2 r + 1, r + 1, 2)`` real and imaginary part at integer frequencies of the padded box:
            z and y from ``-r`` to ``r``, x from 0 to ``r``.
        reach: ``r``.
        padding: how many times finer than the image's own frequencies the samples lie.
    """

    values: Tensor
    reach: int
    padding: int


def transform_volume(
    volume: Volume, voxel_size: float, image_box: int | None = None, padding: int = 2
) -> VolumeSpectrum:
    """Spectrum of a cubic volume, ready for slicing into images of ``image_box`` pixels over the same field of view.

    The volume is divided by the transform of the trilinear kernel (gridding correction, Jackson et al. 1991), zero-padded,
    transformed and cut to the images' Nyquist sphere. Scaled so that slices are spectra of projections in density x angstrom
    with their pixel values kept at any ``image_box``.

    Args:
        volume: ``(n, n, n)``.
        voxel_size: angstrom.
        image_box: pixels of the images, at most ``n``; ``n`` if not given.
        padding: zero-padding factor; the trilinear error falls with its square.

    Raises:
        InputError: if the volume is no cube or the image box is larger.
    """
    n = volume.shape[-1]
    if volume.shape != (n, n, n):
        raise InputError(f"expected a cubic volume, got shape {tuple(volume.shape)}; pad or crop it to a cube first")
    image_box = n if image_box is None else image_box
    if image_box > n:
        raise InputError(f"expected an image box of at most the volume's {n} voxels, got {image_box}")
    reach = math.ceil(padding * image_box / 2)
    scale = voxel_size * (image_box / n) ** 2
    kernel = _gridding(n, padding, volume) / scale
    values = apply_linear(
        volume,
        lambda array: transform_padded(array / kernel, padding * n, reach),
        lambda table: transpose_padded(table, padding * n, n) / kernel,
    )
    return VolumeSpectrum(values, reach, padding)


def transpose_transform(spectrum: VolumeSpectrum, box: int, voxel_size: float, image_box: int) -> Volume:
    """The exact transpose of :func:`transform_volume`: from the values of a spectrum to a volume of ``box`` voxels."""
    reach, padding = spectrum.reach, spectrum.padding
    kernel = _gridding(box, padding, spectrum.values) / (voxel_size * (image_box / box) ** 2)
    return apply_linear(
        spectrum.values,
        lambda table: transpose_padded(table, padding * box, box) / kernel,
        lambda array: transform_padded(array / kernel, padding * box, reach),
    )


def _gridding(n: int, padding: int, like: Tensor) -> Volume:
    """What trilinear interpolation between the samples of a padded spectrum does to a volume of ``n`` voxels."""
    kernel = torch.sinc(coordinates(n, like) / (padding * n)) ** 2
    return kernel[:, None, None] * kernel[:, None] * kernel


def slice_spectrum(spectrum: VolumeSpectrum, rotations: Rotations, box: int, oversampling: int = 1) -> Spectra:
    """Central slices ``(*batch, box, box // 2 + 1)``: the half-space spectra of projections under ``rotations``.

    ``P(k) = V(R^T (kx, ky, 0))`` (Fourier slice theorem), trilinear between the samples of the padded spectrum, strictly
    inside the Nyquist disc and zero outside it.

    Args:
        spectrum: of the volume.
        rotations: poses ``(*batch, 3, 3)``.
        box: pixels of the images that the slices belong to, padding included.
        oversampling: how many times larger ``box`` is than the images that the volume spectrum was cut for.
    """
    batch = rotations.shape[:-2]
    if serves(spectrum.values, rotations):
        formation = Formation(spectrum.reach, spectrum.padding / oversampling, box, rotations.reshape(-1, 3, 3))
        slices = apply_linear(spectrum.values, formation.form_spectra, formation.collect_spectra)
        return torch.view_as_complex(slices).reshape(*batch, box, box // 2 + 1)
    disc, inside = _nyquist_disc(box, spectrum.values.device)
    frequencies = inside.to(spectrum.values.dtype) * (spectrum.padding / oversampling)
    # rows 0 and 1 of R are the specimen directions of the image's x and y: R^T (kx, ky, 0)
    points = rotations[..., :2, :].reshape(-1, 2, 3).transpose(1, 2).to(frequencies) @ frequencies
    values = _interpolate(spectrum, points)
    flat = values.new_zeros(*values.shape[:1], box * (box // 2 + 1)).index_copy(1, disc, values)
    return flat.reshape(*batch, box, box // 2 + 1)


@lru_cache(maxsize=16)
def _nyquist_disc(box: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where the Nyquist disc lies in a flattened half-space: indices ``(p,)``, and frequencies ``(2, p)``, x and y.

    Found on the CPU and kept: to count them on a GPU would make the processor wait for it at every batch.
    """
    with torch.inference_mode(False):
        like = torch.zeros((), dtype=torch.float64)
        disc = torch.nonzero(inside_nyquist(box, like).flatten()).squeeze(-1)
        frequencies = torch.stack([k.flatten()[disc] for k in half_frequencies(box, like)])
        return disc.to(device), frequencies.to(device)


def _interpolate(spectrum: VolumeSpectrum, points: Tensor) -> Tensor:
    """Trilinear samples of a half-space spectrum at ``points (b, 3, p)``, x y z in padded frequencies. Returns ``(b, p)``."""
    reach, rows, columns = spectrum.reach, 2 * spectrum.reach + 1, spectrum.reach + 1
    table = spectrum.values.reshape(-1, 2)
    mirrored = points[:, 0] < 0  # Friedel: V(-k) = conj V(k)
    points = torch.where(mirrored[:, None], -points, points)
    lower = points.floor()
    weight = points - lower
    corner = lower.long()
    index = ((corner[:, 2] + reach) * rows + corner[:, 1] + reach) * columns + corner[:, 0]
    wx, wy, wz = (torch.stack([1 - weight[:, a], weight[:, a]]) for a in range(3))
    weights = (wz[:, None, None] * wy[:, None] * wx).reshape(8, *index.shape)
    side = torch.arange(2, device=index.device)
    corners = ((side[:, None, None] * rows + side[:, None]) * columns + side).reshape(8, 1, 1)
    # all eight at once: the gradient of each selection is a table of its own
    samples = table.index_select(0, (index + corners).flatten()).reshape(*weights.shape, 2)
    values = torch.view_as_complex((samples * weights[..., None]).sum(0))
    return torch.where(mirrored, values.conj(), values)


def project_voxels(volume: Volume, rotations: Rotations, voxel_size: float) -> Images:
    """Projections by rotating the voxel grid (trilinear, zero outside the box) and summing along the beam.

    The second implementation that the Fourier slices are held against: it blurs fine detail but wraps nothing.
    Differentiable in the volume; memory ``batch x n^3``. Returns ``(*batch, n, n)`` in density x angstrom.
    """
    n = volume.shape[-1]
    axis = coordinates(n, volume)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    grid = torch.stack([x, y, z], -1)
    flat = rotations.reshape(-1, 3, 3).to(volume)
    # voxel q of the microscope frame shows the specimen at R^T q, which is q @ R for row vectors
    points = torch.einsum("zyxi,bij->bzyxj", grid, flat)
    samples = (points + origin(n)) * (2 / (n - 1)) - 1
    expanded = volume.expand(len(flat), 1, n, n, n)
    rotated = torch.nn.functional.grid_sample(expanded, samples, align_corners=True)
    return rotated[:, 0].sum(1).mul(voxel_size).reshape(*rotations.shape[:-2], n, n)
