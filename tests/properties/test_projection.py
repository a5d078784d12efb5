"""Laws of projection: equivariance under rotation, Friedel symmetry, shifts that compose, crops that commute."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_images, fourier_crop_volumes, pad, shift_images, transform_images
from cryobench.physics.grids import coordinates, soft_sphere
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.project import project_voxels, slice_spectrum, transform_volume
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.physics.symmetry import rotate_volume, symmetry_rotations

BOXES = st.integers(5, 10)
SEEDS = st.integers(0, 2**32 - 1)
TURNS = symmetry_rotations("O")
QUARTER_TURN = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
VOXEL = 4.5


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_volume(box: int, seed: int) -> Tensor:
    """White noise; the first planes of an even box, whose mirror image lies outside, are left empty."""
    odd = box - 1 + box % 2
    return pad(torch.randn(odd, odd, odd, generator=generator(seed), dtype=torch.float64), box, 3)


def random_poses(count: int, seed: int) -> Tensor:
    return quaternion_to_matrix(uniform_quaternions(count, generator(seed + 1), torch.float64))


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def quarter_turned(images: Tensor) -> Tensor:
    """The content at (x, y) moved to (-y, x), about the origin at ``n // 2``; the first row and column are dropped."""
    if images.shape[-1] % 2 == 0:
        images = images[..., 1:, 1:]
    return torch.rot90(images, -1, dims=(-2, -1))


def test_quarter_turn_is_what_it_says() -> None:
    image = torch.zeros(7, 7)
    image[3 + 1, 3 + 2] = 1  # x = 2, y = 1
    assert quarter_turned(image)[3 + 2, 3 - 1] == 1


@given(box=BOXES, seed=SEEDS, turn=st.integers(0, 23))
def test_a_turned_specimen_in_a_pose_is_the_specimen_in_the_turned_pose(box: int, seed: int, turn: int) -> None:
    volume, poses, rotation = random_volume(box, seed), random_poses(2, seed), TURNS[turn]
    turned = rotate_volume(volume, rotation)

    for slicing in ("image", "padded"):
        of_turned = ImagingOperator(box, VOXEL, poses, slicing=slicing)(turned)
        in_turned = ImagingOperator(box, VOXEL, poses @ rotation, slicing=slicing)(volume)
        assert relative(of_turned, in_turned) <= 1e-10

    assert relative(project_voxels(turned, poses, VOXEL), project_voxels(volume, poses @ rotation, VOXEL)) <= 1e-10


@given(box=BOXES, seed=SEEDS)
def test_a_quarter_turn_about_the_beam_turns_the_image(box: int, seed: int) -> None:
    volume, poses = random_volume(box, seed), random_poses(2, seed)
    even = 1 - box % 2
    for project in (
        lambda r: ImagingOperator(box, VOXEL, r)(volume),
        lambda r: ImagingOperator(box, VOXEL, r, slicing="padded")(volume),
        lambda r: project_voxels(volume, r, VOXEL),
    ):
        found = project(QUARTER_TURN @ poses)[..., even:, even:]
        expected = quarter_turned(project(poses))
        assert relative(found, expected) <= 1e-10


@given(box=BOXES, seed=SEEDS)
def test_the_view_from_behind_is_the_mirror_image(box: int, seed: int) -> None:
    volume, poses = random_volume(box, seed), random_poses(2, seed)
    half_turn = torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))  # about x: y to -y, seen from behind
    even = 1 - box % 2
    front = ImagingOperator(box, VOXEL, poses)(volume)[..., even:, :]
    behind = ImagingOperator(box, VOXEL, half_turn @ poses)(volume)[..., even:, :]
    assert relative(behind, front.flip(-2)) <= 1e-10


@given(box=BOXES, seed=SEEDS)
def test_spectra_have_friedel_symmetry(box: int, seed: int) -> None:
    volume, poses = random_volume(box, seed), random_poses(2, seed)
    spectrum = transform_volume(volume, VOXEL)
    half_turn = torch.diag(torch.tensor([-1.0, -1, 1], dtype=torch.float64))  # about the beam: k to -k
    slices = slice_spectrum(spectrum, poses, box)
    assert relative(slice_spectrum(spectrum, half_turn @ poses, box), slices.conj()) <= 1e-10
    # within the half-space itself: the column kx = 0 holds both partners
    column = slices[..., 0]
    partner = column.roll(-1, -1).flip(-1)
    assert relative(partner, column.conj()) <= 1e-10


@given(box=st.integers(6, 10), smaller=st.integers(0, 3), seed=SEEDS)
def test_an_image_box_gives_the_fourier_crop_of_the_native_image(box: int, smaller: int, seed: int) -> None:
    """Also with CTF and shifts: the working image is the native image cropped, to rounding."""
    volume, poses, draw = random_volume(box, seed), random_poses(3, seed), generator(seed + 2)
    shifts = 10 * torch.randn(3, 2, generator=draw, dtype=torch.float64)
    u = torch.rand(8, 3, generator=draw, dtype=torch.float64)
    ctf = ContrastTransfer(8e3 + 1e4 * u[0], 8e3 + 1e4 * u[1], u[2], 200 + 100 * u[3], 2.7 * u[4], u[5] / 5, u[6], u[7])
    small = box - smaller
    for parts in ({}, {"shifts": shifts}, {"ctf": ctf}, {"shifts": shifts, "ctf": ctf}):
        native = ImagingOperator(box, VOXEL, poses, **parts)(volume)
        working = ImagingOperator(box, VOXEL, poses, **parts, image_box=small)
        assert working.pixel_size == pytest.approx(VOXEL * box / small)
        assert relative(working(volume), fourier_crop_images(native, small)) <= 1e-10


def test_padded_slices_commute_with_the_fourier_crop_of_a_compact_specimen() -> None:
    """Cropping to the image and cropping its spectrum commute but for what rings across the edge (measured: 0.06 %)."""
    box, small, draw = 32, 20, generator(0)
    axis = coordinates(box, torch.zeros(1, dtype=torch.float64))
    centres = 0.3 * box * (torch.rand(10, 3, generator=draw, dtype=torch.float64) - 0.5)
    x, y, z = (torch.exp(-((axis - centres[:, i : i + 1]) ** 2) / (2 * 1.8**2)) for i in range(3))
    volume, poses = torch.einsum("qz,qy,qx->zyx", z, y, x), random_poses(4, 0)
    shifts = VOXEL * torch.randn(4, 2, generator=draw, dtype=torch.float64)
    native = ImagingOperator(box, VOXEL, poses, shifts, slicing="padded")(volume)
    working = ImagingOperator(box, VOXEL, poses, shifts, slicing="padded", image_box=small)(volume)
    assert relative(working, fourier_crop_images(native, small)) <= 2e-3


@given(box=st.integers(6, 10), smaller=st.integers(1, 3), seed=SEEDS)
def test_the_fourier_crop_keeps_values_and_the_mean(box: int, smaller: int, seed: int) -> None:
    small = box - smaller
    volume = random_volume(box, seed)
    assert fourier_crop_volumes(volume, small).mean() == pytest.approx(volume.mean().item(), abs=1e-12)
    assert fourier_crop_images(volume, small).mean() == pytest.approx(volume.mean().item(), abs=1e-12)
    # a wave below both Nyquist frequencies is sampled, not blurred; its crest stays on n // 2
    axis, coarse = (coordinates(n, volume) / n for n in (box, small))
    wave = torch.cos(2 * torch.pi * axis).expand(box, box)
    assert torch.allclose(fourier_crop_images(wave, small), torch.cos(2 * torch.pi * coarse).expand(small, small))


@given(box=BOXES, seed=SEEDS)
def test_shifts_compose_and_invert(box: int, seed: int) -> None:
    draw = generator(seed)
    images = torch.randn(2, box, box, generator=draw, dtype=torch.float64)
    a, b = 20 * torch.randn(2, 2, 2, generator=draw, dtype=torch.float64)
    banded = shift_images(images, torch.zeros_like(a), VOXEL)
    assert relative(shift_images(shift_images(images, a, VOXEL), b, VOXEL), shift_images(images, a + b, VOXEL)) <= 1e-10
    assert relative(shift_images(shift_images(images, a, VOXEL), -a, VOXEL), banded) <= 1e-10
    # a whole pixel rolls the image; the first coordinate of a shift is x, the last axis
    whole = torch.tensor([[2.0, -1], [-3, 1]], dtype=torch.float64)
    rolled = torch.stack([banded[0].roll((-1, 2), (0, 1)), banded[1].roll((1, -3), (0, 1))])
    assert relative(shift_images(images, whole * VOXEL, VOXEL), rolled) <= 1e-10


@given(box=BOXES, seed=SEEDS)
def test_the_operator_shifts_as_shift_images_does(box: int, seed: int) -> None:
    volume, poses = random_volume(box, seed), random_poses(2, seed)
    shifts = 20 * torch.randn(2, 2, generator=generator(seed + 2), dtype=torch.float64)
    still = ImagingOperator(box, VOXEL, poses)(volume)
    assert relative(ImagingOperator(box, VOXEL, poses, shifts)(volume), shift_images(still, shifts, VOXEL)) <= 1e-10


@given(box=BOXES, seed=SEEDS)
def test_a_projection_keeps_the_integral(box: int, seed: int) -> None:
    """The coefficient at frequency zero: every image sums to the volume's sum times the voxel size."""
    volume, poses = random_volume(box, seed), random_poses(2, seed)
    spectra = transform_images(ImagingOperator(box, VOXEL, poses)(volume))
    kernel = torch.sinc(coordinates(box, volume) / (2 * box)) ** 2  # the gridding correction lifts the rim
    lifted = volume / (kernel[:, None, None] * kernel[:, None] * kernel)
    assert spectra[:, 0, 0].real.numpy() == pytest.approx(VOXEL * lifted.sum().item(), rel=1e-9)


def test_slices_and_voxels_agree_on_a_smooth_specimen() -> None:
    """Two implementations that share nothing: within 2.5 % on a soft sphere off the centre (measured: 1.5 %)."""
    box = 32
    like = torch.zeros(1, dtype=torch.float64)
    volume = soft_sphere(box, 4.0, 5.0, like).roll((3, -2, 4), (0, 1, 2))
    poses = random_poses(6, 3)
    sliced = ImagingOperator(box, VOXEL, poses, slicing="padded")(volume)
    assert relative(sliced, project_voxels(volume, poses, VOXEL)) <= 2.5e-2
