"""Projection operators: gradients, batches, devices, dtypes, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics import fourier
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.grids import half_shells, inside_nyquist, radius, soft_sphere
from cryobench.physics.imaging import ImagingOperator, Slicing
from cryobench.physics.project import project_voxels, slice_spectrum, transform_volume
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.physics.symmetry import symmetrise

VOXEL = 4.0


def volume(box: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(box, box, box, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def poses(count: int) -> Tensor:
    return quaternion_to_matrix(uniform_quaternions(count, torch.Generator().manual_seed(1), torch.float64))


def transfer(count: int) -> ContrastTransfer:
    def column(value: float) -> Tensor:
        return torch.full((count,), value, dtype=torch.float64)

    return ContrastTransfer(*map(column, (1.5e4, 1.2e4, 0.4, 300.0, 2.7, 0.1, 0.2, 50.0)))


SHIFTS = torch.tensor([[3.0, -7], [0.5, 11]], dtype=torch.float64)


@pytest.mark.parametrize("box", [4, 5])
@pytest.mark.parametrize("slicing", ["image", "padded"])
def test_gradients_of_the_imaging_operator(box: int, slicing: Slicing) -> None:
    operator = ImagingOperator(box, VOXEL, poses(2), SHIFTS, transfer(2), image_box=4, slicing=slicing)
    assert torch.autograd.gradcheck(operator, volume(box).requires_grad_())


def test_gradients_of_the_other_operators() -> None:
    image = volume(5)[:2].requires_grad_()
    assert torch.autograd.gradcheck(lambda v: project_voxels(v, poses(1), VOXEL), volume(4).requires_grad_())
    assert torch.autograd.gradcheck(lambda v: symmetrise(v, "D2"), volume(4).requires_grad_())
    assert torch.autograd.gradcheck(lambda v: symmetrise(v, "C3"), volume(4).requires_grad_())
    assert torch.autograd.gradcheck(lambda v: fourier.fourier_crop_volumes(v, 4), volume(5).requires_grad_())
    assert torch.autograd.gradcheck(lambda y: fourier.shift_images(y, SHIFTS, VOXEL), image)
    assert torch.autograd.gradcheck(lambda y: fourier.fourier_crop_images(y, 4), image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("slicing", ["image", "padded"])
def test_device_and_dtype_follow_the_volume(device: torch.device, dtype: torch.dtype, slicing: Slicing) -> None:
    """Poses, shifts and CTFs may be of any: they are taken to the volume's."""
    operator = ImagingOperator(6, VOXEL, poses(2), SHIFTS, transfer(2), slicing=slicing)
    x = volume(6, dtype).to(device)
    for result in (operator(x), operator.T(operator(x)), project_voxels(x, poses(2), VOXEL)):
        assert result.dtype == dtype
        assert result.device.type == device.type
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    assert (operator(x).cpu() - operator(volume(6))).norm() <= tolerance * operator(volume(6)).norm()


def test_leading_batch_axes_are_kept() -> None:
    grid, flat = poses(6).reshape(2, 3, 3, 3), poses(6)
    spectrum = transform_volume(volume(6), VOXEL)
    assert torch.equal(slice_spectrum(spectrum, grid, 6).reshape(6, 6, 4), slice_spectrum(spectrum, flat, 6))
    assert slice_spectrum(spectrum, flat[0], 6).shape == (6, 4)
    several = project_voxels(volume(6), grid, VOXEL)
    assert torch.allclose(several.reshape(6, 6, 6), project_voxels(volume(6), flat, VOXEL))
    images, shifts = several, 5 * torch.ones(2, 3, 2, dtype=torch.float64)
    moved = fourier.shift_images(images, shifts, VOXEL)
    assert torch.allclose(moved[1, 2], fourier.shift_images(images[1, 2], shifts[1, 2], VOXEL))
    assert fourier.fourier_crop_images(images, 5).shape == (2, 3, 5, 5)


def test_a_spectrum_serves_several_operators() -> None:
    first, second = ImagingOperator(6, VOXEL, poses(1)), ImagingOperator(6, VOXEL, poses(4), image_box=6)
    spectrum = first.transform(volume(6))
    assert torch.equal(second.image(spectrum), second(volume(6)))


@pytest.mark.parametrize(("box", "larger"), [(4, 7), (5, 8), (4, 8), (5, 9)])
def test_padding_keeps_the_origin_and_cropping_undoes_it(box: int, larger: int) -> None:
    padded = fourier.pad(volume(box), larger, 3)
    assert padded.shape == (larger,) * 3
    assert padded[(larger // 2,) * 3] == volume(box)[(box // 2,) * 3]
    assert torch.equal(fourier.crop(padded, box, 3), volume(box))
    assert padded.abs().sum() == pytest.approx(volume(box).abs().sum().item())


@pytest.mark.parametrize("box", [6, 7])
def test_transforms_invert_and_have_their_phase_origin_in_the_middle(box: int) -> None:
    images = volume(box)
    assert torch.allclose(fourier.invert_images(fourier.transform_images(images), box), images)
    point = torch.zeros(box, box, dtype=torch.float64)
    point[box // 2, box // 2] = 1
    assert torch.allclose(fourier.transform_images(point), torch.ones(box, box // 2 + 1, dtype=torch.complex128))


@pytest.mark.parametrize("box", [6, 7])
def test_grids(box: int) -> None:
    like = torch.zeros(1, dtype=torch.float64)
    distance = radius(box, 3, like)
    assert distance.shape == (box,) * 3
    assert distance[(box // 2,) * 3] == 0
    assert distance[box // 2 + 2, box // 2 + 1, box // 2 - 2] == 3
    ball = soft_sphere(box, 1.5, 1.0, like)
    assert ball[(box // 2,) * 3] == 1
    assert (ball[distance <= 1.5] == 1).all()
    assert (ball[distance >= 2.5] == 0).all()
    assert ball[box // 2, box // 2, box // 2 + 2].item() == pytest.approx(0.5)
    assert half_shells(box, like)[1, 1] == 1
    assert half_shells(box, like)[-1, 2] == 2
    assert not inside_nyquist(6, like)[3, 0]
    assert not inside_nyquist(6, like)[0, 3]
    assert inside_nyquist(7, like)[3, 0]


def test_nothing_is_mutated_and_the_repr_reads_as_the_call() -> None:
    x, rotations, shifts = volume(6), poses(2), SHIFTS.clone()
    operator = ImagingOperator(6, VOXEL, rotations, shifts, transfer(2), slicing="padded")
    operator.T(operator(x))
    assert torch.equal(x, volume(6))
    assert torch.equal(shifts, SHIFTS)
    assert repr(operator) == (
        "ImagingOperator(6, 4.0, <2 rotations>, <2 shifts>, <2 CTFs>, image_box=6, slicing='padded', padding=2)"
    )


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected a cubic volume, got shape \(4, 5, 5\)"):
        transform_volume(volume(5)[:4], VOXEL)
    with pytest.raises(InputError, match="at most the volume's 5 voxels, got 6"):
        ImagingOperator(5, VOXEL, poses(1), image_box=6)(volume(5))
    with pytest.raises(InputError, match="as many CTFs as the 3 rotations, got 2"):
        ImagingOperator(5, VOXEL, poses(3), None, transfer(2))
    with pytest.raises(InputError, match=r"expected a volume of shape \(5, 5, 5\), got \(4, 4, 4\)"):
        ImagingOperator(5, VOXEL, poses(1))(volume(4))
    with pytest.raises(InputError, match="at most 5 pixels to crop to, got 6"):
        fourier.crop_spectra(fourier.transform_images(volume(5)), 6)
    with pytest.raises(InputError, match="at most 5 voxels to crop to, got 6"):
        fourier.fourier_crop_volumes(volume(5), 6)
