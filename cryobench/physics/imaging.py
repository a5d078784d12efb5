"""The forward model ``C S P``: from a volume to the clean images of a batch of particles, and its exact adjoint."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.formation import Formation, serves
from cryobench.physics.fourier import crop, invert_images, shift_phases, transform_images
from cryobench.physics.linear import apply_linear
from cryobench.physics.project import VolumeSpectrum, slice_spectrum, transform_volume, transpose_transform
from cryobench.types import Images, Plane, Rotations, Shifts, Spectra, Volume

if TYPE_CHECKING:
    from cryobench.physics.detector import DetectorTransfer

Slicing: TypeAlias = Literal["image", "padded"]
"""Where slices are taken. ``image``: at the image's own frequencies, the fastest; what a projection, a shift or the CTF moves
past the edge wraps around (up to 6 % of a Gaussian near the edge). ``padded``: at twice the box, cropped after CTF and shift,
so that nothing wraps; four times the samples and about four times the time (up to 3 %, the trilinear error alone)."""


@final
class ImagingOperator:
    """``A = C S P`` for one batch of particles: ``y = A(volume)``, ``volume = A.T(y)``.

    Linear in the volume and differentiable; follows its input's device and dtype.

    Args:
        box: voxels of the volume's side.
        voxel_size: of the volume, angstrom.
        rotations: poses ``(batch, 3, 3)``.
        shifts: ``(batch, 2)`` in angstrom, or None for none.
        ctf: parameters of the batch, or None for none.
        image_box: pixels of the images, over the same field of view; the volume's box if not given.
        slicing: ``"image"`` or ``"padded"``, see :data:`Slicing`.
        padding: zero-padding of the volume before its transform.
        detector: what the detector transfers of every frequency; None for all of it.

    Raises:
        InputError: if batch sizes disagree or boxes do not fit.
    """

    def __init__(
        self,
        box: int,
        voxel_size: float,
        rotations: Rotations,
        shifts: Shifts | None = None,
        ctf: ContrastTransfer | None = None,
        *,
        image_box: int | None = None,
        slicing: Slicing = "image",
        padding: int = 2,
        detector: DetectorTransfer | None = None,
    ) -> None:
        batch = len(rotations)
        for name, part in (("shifts", shifts), ("CTFs", ctf)):
            if part is not None and len(part) != batch:
                raise InputError(f"expected as many {name} as the {batch} rotations, got {len(part)}")
        self.box, self.voxel_size, self.rotations, self.shifts, self.ctf = box, voxel_size, rotations, shifts, ctf
        self.image_box = box if image_box is None else image_box
        self.slicing, self.padding, self.detector = slicing, padding, detector

    def __repr__(self) -> str:
        shifts = None if self.shifts is None else f"<{len(self.shifts)} shifts>"
        ctf = None if self.ctf is None else f"<{len(self.ctf)} CTFs>"
        detector = "" if self.detector is None else f", detector={self.detector!r}"
        return (
            f"ImagingOperator({self.box}, {self.voxel_size}, <{len(self.rotations)} rotations>, {shifts}, {ctf}, "
            f"image_box={self.image_box}, slicing={self.slicing!r}, padding={self.padding}{detector})"
        )

    @property
    def pixel_size(self) -> float:
        """Of the images, angstrom."""
        return self.voxel_size * self.box / self.image_box

    def transform(self, volume: Volume) -> VolumeSpectrum:
        """The volume's padded spectrum, which several operators of the same boxes may share."""
        if volume.shape != (self.box,) * 3:
            raise InputError(f"expected a volume of shape {(self.box,) * 3}, got {tuple(volume.shape)}")
        return transform_volume(volume, self.voxel_size, self.image_box, self.padding)

    def image(self, spectrum: VolumeSpectrum) -> Images:
        """Clean images ``(batch, y, x)`` of a volume given by its spectrum."""
        if self._is_served(spectrum.values):
            formation = self._formation(spectrum.reach, spectrum.padding, spectrum.values)
            form = partial(formation.form_images, image_box=self.image_box)
            return apply_linear(spectrum.values, form, formation.collect_images)
        return crop(invert_images(self.spectra(spectrum), self._slice_box), self.image_box, 2)

    def spectra(self, spectrum: VolumeSpectrum) -> Spectra:
        """Half-space spectra ``C S P`` of the clean images before the last transform, phase origin in the middle.

        Of images of ``image_box`` pixels, or where slices are padded of twice as many, which :meth:`image` crops.
        """
        if self._is_served(spectrum.values):
            formation = self._formation(spectrum.reach, spectrum.padding, spectrum.values)
            return torch.view_as_complex(
                apply_linear(spectrum.values, formation.form_spectra, formation.collect_spectra)
            )
        values = spectrum.values
        slices = slice_spectrum(spectrum, self.rotations, self._slice_box, self._oversampling)
        return slices * self._phases(values) * self._transfer(values)

    def insert(self, images: Images, precision: Plane, sums: Tensor) -> None:
        """Add to ``sums``, in place, what images say of the volume's spectrum: both sides of its normal equations.

        Args:
            images: ``(batch, y, x)``.
            precision: ``(image_box, image_box // 2 + 1)``, one over the noise's variance of every coefficient.
            sums: ``(2 r + 1, 2 r + 1, r + 1, 3)`` on the grid of :class:`VolumeSpectrum`: real and imaginary part of
                ``S^T [C F / sigma^2]``, and ``S^T [C^2 / sigma^2]``, where ``S^T`` is the transpose of slicing.

        Raises:
            InputError: if the operator's slices are padded.
        """
        if self.slicing == "padded":
            raise InputError("expected an operator with slicing='image' to insert images, got slicing='padded'")
        reach = sums.shape[-2] - 1
        # on the column kx = 0 both partners of a Friedel pair are there, elsewhere one stands for two
        precision = precision.to(sums).clone()
        precision[:, 0] *= 0.5
        if self._is_served(sums):
            self._formation(reach, self.padding, sums).insert_images(images.to(sums), precision, sums)
            return
        transfer = self._transfer(sums)
        spectra = transform_images(images.to(sums)) * self._phases(sums).conj() * (transfer * precision)
        with torch.enable_grad():
            zero = sums.new_zeros(*sums.shape[:-1], 2, requires_grad=True)
            slices = slice_spectrum(VolumeSpectrum(zero, reach, self.padding), self.rotations, self.image_box)
            (data,) = torch.autograd.grad(slices, zero, spectra, retain_graph=True)
            (weight,) = torch.autograd.grad(slices, zero, (transfer.square() * precision).expand(slices.shape) + 0j)
        sums[..., :2] += data
        sums[..., 2] += weight[..., 0]

    @property
    def _oversampling(self) -> int:
        return 2 if self.slicing == "padded" else 1

    @property
    def _slice_box(self) -> int:
        return self.image_box * self._oversampling

    def _phases(self, like: Tensor) -> Tensor:
        if self.shifts is None:
            return like.new_ones(()) + 0j
        return shift_phases(self.shifts.to(like), self._slice_box, self.pixel_size)

    def _transfer(self, like: Tensor) -> Tensor:
        box, pixel_size = self._slice_box, self.pixel_size
        transfer = like.new_ones(()) if self.ctf is None else self.ctf.to(like).evaluate(box, pixel_size)
        return transfer if self.detector is None else transfer * self.detector.evaluate(box, pixel_size, like)

    def _is_served(self, values: Tensor) -> bool:
        return serves(values, self.rotations, self.shifts, *(vars(self.ctf).values() if self.ctf else ()))

    def _formation(self, reach: int, padding: int, like: Tensor) -> Formation:
        box, pixel_size = self._slice_box, self.pixel_size
        return Formation(
            reach,
            padding / self._oversampling,
            box,
            self.rotations.to(like),
            None if self.shifts is None else self.shifts.to("cpu", torch.float64) / (box * pixel_size),
            None if self.ctf is None else self.ctf.coefficients(box, pixel_size).to("cpu"),
            None if self.detector is None else self.detector.evaluate(box, pixel_size, like),
        )

    def __call__(self, volume: Volume) -> Float[Tensor, "batch {self.image_box} {self.image_box}"]:
        """Clean images ``(batch, y, x)`` of ``volume``."""
        return self.image(self.transform(volume))

    def T(self, images: Images) -> Float[Tensor, "{self.box} {self.box} {self.box}"]:
        """The adjoint: the volume ``A^T y``, exact to rounding."""
        reach = math.ceil(self.padding * self.image_box / 2)
        if self._is_served(images):
            formation = self._formation(reach, self.padding, images)
            form = partial(formation.form_images, image_box=self.image_box)
            values = apply_linear(images, formation.collect_images, form)
        else:
            rows = 2 * reach + 1
            with torch.enable_grad():
                zero = images.new_zeros(rows, rows, reach + 1, 2, requires_grad=True)
                formed = self.image(VolumeSpectrum(zero, reach, self.padding))
                # the vector-Jacobian product of a linear map is its adjoint
                (values,) = torch.autograd.grad(formed, zero, images)
        return transpose_transform(
            VolumeSpectrum(values, reach, self.padding), self.box, self.voxel_size, self.image_box
        )
