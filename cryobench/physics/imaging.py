"""The forward model ``C S P``: from a volume to the clean images of a batch of particles, and its exact adjoint."""

from __future__ import annotations

from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import crop, invert_images, shift_phases
from cryobench.physics.project import VolumeSpectrum, slice_spectrum, transform_volume
from cryobench.types import Images, Rotations, Shifts, Volume

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
    ) -> None:
        batch = len(rotations)
        for name, part in (("shifts", shifts), ("CTFs", ctf)):
            if part is not None and len(part) != batch:
                raise InputError(f"expected as many {name} as the {batch} rotations, got {len(part)}")
        self.box, self.voxel_size, self.rotations, self.shifts, self.ctf = box, voxel_size, rotations, shifts, ctf
        self.image_box = box if image_box is None else image_box
        self.slicing, self.padding = slicing, padding

    def __repr__(self) -> str:
        shifts = None if self.shifts is None else f"<{len(self.shifts)} shifts>"
        ctf = None if self.ctf is None else f"<{len(self.ctf)} CTFs>"
        return (
            f"ImagingOperator({self.box}, {self.voxel_size}, <{len(self.rotations)} rotations>, {shifts}, {ctf}, "
            f"image_box={self.image_box}, slicing={self.slicing!r}, padding={self.padding})"
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
        oversampling = 2 if self.slicing == "padded" else 1
        box = self.image_box * oversampling
        slices = slice_spectrum(spectrum, self.rotations, box, oversampling)
        if self.shifts is not None:
            slices = slices * shift_phases(self.shifts.to(spectrum.values), box, self.pixel_size)
        if self.ctf is not None:
            slices = slices * self.ctf.to(spectrum.values).evaluate(box, self.pixel_size)
        return crop(invert_images(slices, box), self.image_box, 2)

    def __call__(self, volume: Volume) -> Float[Tensor, "batch {self.image_box} {self.image_box}"]:
        """Clean images ``(batch, y, x)`` of ``volume``."""
        return self.image(self.transform(volume))

    def T(self, images: Images) -> Float[Tensor, "{self.box} {self.box} {self.box}"]:
        """The adjoint: the volume ``A^T y``, exact to rounding, as the vector-Jacobian product of the linear ``A``."""
        with torch.enable_grad():
            zero = images.new_zeros((self.box,) * 3, requires_grad=True)
            (adjoint,) = torch.autograd.grad(self(zero), zero, images)
        assert isinstance(adjoint, Tensor)
        return adjoint
