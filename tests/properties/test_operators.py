"""Every operator of the forward model is linear, and its adjoint is its adjoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cryobench.physics import fourier
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.project import project_voxels, slice_spectrum, transform_volume
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.physics.symmetry import rotate_volume, symmetrise

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
VOXEL = 4.5


class Draw:
    """Seeded random inputs of one dtype."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self.generator, self.dtype = torch.Generator().manual_seed(seed), dtype

    def array(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def between(self, low: float, high: float, count: int) -> Tensor:
        return (low + (high - low) * torch.rand(count, generator=self.generator, dtype=torch.float64)).to(self.dtype)

    def rotations(self, count: int) -> Tensor:
        return quaternion_to_matrix(uniform_quaternions(count, self.generator, torch.float64)).to(self.dtype)

    def transfer(self, count: int) -> ContrastTransfer:
        return ContrastTransfer(
            defocus_u=self.between(8e3, 25e3, count),
            defocus_v=self.between(8e3, 25e3, count),
            defocus_angle=self.between(-3, 3, count),
            voltage=self.between(100, 300, count),
            spherical_aberration=self.between(0, 2.7, count),
            amplitude_contrast=self.between(0, 0.3, count),
            phase_shift=self.between(0, 2, count),
            b_factor=self.between(0, 200, count),
        )


@dataclass(frozen=True)
class Operator:
    """A linear map with the shape of what it takes; its adjoint, where that is known in closed form."""

    apply: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    adjoint: Callable[[Tensor], Tensor] | None = None

    def transpose(self, y: Tensor) -> Tensor:
        if self.adjoint is not None:
            return self.adjoint(y)
        zero = torch.zeros(self.shape, dtype=y.real.dtype, requires_grad=True)
        (result,) = torch.autograd.grad(self.apply(zero), zero, y)
        return result


def slices(box: int, small: int, draw: Draw) -> Operator:
    poses = draw.rotations(2)
    return Operator(lambda v: slice_spectrum(transform_volume(v, VOXEL, small), poses, small), (box,) * 3)


def voxels(box: int, small: int, draw: Draw) -> Operator:
    poses = draw.rotations(2)
    return Operator(lambda v: project_voxels(v, poses, VOXEL), (box,) * 3)


def shift(box: int, small: int, draw: Draw) -> Operator:
    by = draw.between(-20, 20, 4).reshape(2, 2)
    return Operator(
        lambda y: fourier.shift_images(y, by, VOXEL), (2, box, box), lambda y: fourier.shift_images(y, -by, VOXEL)
    )


def modulate(box: int, small: int, draw: Draw) -> Operator:
    ctf = draw.transfer(2).evaluate(box, VOXEL)

    def apply(images: Tensor) -> Tensor:
        return fourier.invert_images(fourier.transform_images(images) * ctf, box)

    return Operator(apply, (2, box, box), apply)


def image_transform(box: int, small: int, draw: Draw) -> Operator:
    return Operator(fourier.transform_images, (2, box, box))


def image_crop(box: int, small: int, draw: Draw) -> Operator:
    return Operator(lambda y: fourier.fourier_crop_images(y, small), (2, box, box))


def volume_crop(box: int, small: int, draw: Draw) -> Operator:
    return Operator(lambda v: fourier.fourier_crop_volumes(v, small), (box,) * 3)


def pad(box: int, small: int, draw: Draw) -> Operator:
    return Operator(lambda v: fourier.pad(v, box, 3), (small,) * 3, lambda v: fourier.crop(v, small, 3))


def crop(box: int, small: int, draw: Draw) -> Operator:
    return Operator(lambda y: fourier.crop(y, small, 2), (2, box, box), lambda y: fourier.pad(y, box, 2))


def rotate(box: int, small: int, draw: Draw) -> Operator:
    rotation = draw.rotations(1)[0]
    return Operator(lambda v: rotate_volume(v, rotation), (box,) * 3)


def symmetrise_d2(box: int, small: int, draw: Draw) -> Operator:
    return Operator(lambda v: symmetrise(v, "D2"), (box,) * 3, lambda v: symmetrise(v, "D2"))


def symmetrise_o(box: int, small: int, draw: Draw) -> Operator:
    return Operator(lambda v: symmetrise(v, "O"), (box,) * 3, lambda v: symmetrise(v, "O"))


def symmetrise_c3(box: int, small: int, draw: Draw) -> Operator:
    return Operator(lambda v: symmetrise(v, "C3"), (box,) * 3)


def image_formation(box: int, small: int, draw: Draw, slicing: str, padding: int) -> Operator:
    operator = ImagingOperator(
        box,
        VOXEL,
        draw.rotations(3),
        draw.between(-20, 20, 6).reshape(3, 2),
        draw.transfer(3),
        image_box=small,
        slicing=slicing,  # type: ignore[arg-type]
        padding=padding,
    )
    return Operator(operator, (box,) * 3, operator.T)


def imaging(box: int, small: int, draw: Draw) -> Operator:
    return image_formation(box, small, draw, "image", 2)


def imaging_padded(box: int, small: int, draw: Draw) -> Operator:
    return image_formation(box, small, draw, "padded", 2)


def imaging_finer(box: int, small: int, draw: Draw) -> Operator:
    return image_formation(box, small, draw, "image", 3)


OPERATORS = [
    slices,
    voxels,
    shift,
    modulate,
    image_transform,
    image_crop,
    volume_crop,
    pad,
    crop,
    rotate,
    symmetrise_d2,
    symmetrise_o,
    symmetrise_c3,
    imaging,
    imaging_padded,
    imaging_finer,
]


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The real inner product, of complex arrays too."""
    return (a.conj() * b).real.double().sum()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("build", OPERATORS)
@given(box=st.integers(4, 9), less=st.integers(0, 3), seed=st.integers(0, 2**32 - 1))
def test_is_linear_and_has_its_adjoint(
    build: Callable[[int, int, Draw], Operator], dtype: torch.dtype, box: int, less: int, seed: int
) -> None:
    draw, tolerance = Draw(seed, dtype), TOLERANCE[dtype]
    operator = build(box, max(box - less, 3), draw)
    x, other = draw.array(*operator.shape), draw.array(*operator.shape)
    image, other_image = operator.apply(x), operator.apply(other)

    combined = operator.apply(2 * x - 3 * other)
    scale = 2 * image.norm() + 3 * other_image.norm()
    assert (combined - (2 * image - 3 * other_image)).norm() <= tolerance * scale

    y = draw.array(*image.shape)
    if image.is_complex():
        y = torch.complex(y, draw.array(*image.shape))
    back = operator.transpose(y)
    assert back.shape == x.shape
    assert back.dtype == x.dtype
    assert abs(inner(image, y) - inner(x, back)) <= tolerance * image.norm() * y.norm()


@given(box=st.integers(4, 9), seed=st.integers(0, 2**32 - 1), slicing=st.sampled_from(["image", "padded"]))
def test_single_precision_follows_double(box: int, seed: int, slicing: str) -> None:
    """All of the forward model, CTF of a microscope included, holds 1e-4 of the image in float32."""
    draw = Draw(seed, torch.float64)
    volume, poses, shifts, ctf = draw.array(box, box, box), draw.rotations(2), draw.array(2, 2), draw.transfer(2)
    double = ImagingOperator(box, VOXEL, poses, shifts, ctf, slicing=slicing)  # type: ignore[arg-type]
    single = double(volume.float())
    assert single.dtype == torch.float32
    assert (single.double() - double(volume)).norm() <= 1e-4 * double(volume).norm()
