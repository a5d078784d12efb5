from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.align import Alignment, align, apply
from cryobench.evaluate.fsc import fsc
from cryobench.interop.mrc import read_map
from cryobench.physics.fourier import fourier_crop_volumes, pad
from cryobench.physics.grids import soft_sphere
from cryobench.physics.symmetry import rotate_volume, symmetrise, symmetry_rotations
from cryobench.specimens.atoms import AtomicModel

VOXEL = 2.5
IDENTITY = (0.0, 0.0, 0.0, 1.0)
MIRROR = np.diag([1.0, 1.0, -1.0])


class Blobs:
    """An asymmetric sum of Gaussians, whose moved copies are known in closed form."""

    def __init__(self, box: int, seed: int, symmetry: str = "C1", width: float = 1.5) -> None:
        draws, group = np.random.default_rng(seed), symmetry_rotations(symmetry).numpy()
        count = 40 // len(group)
        self.box, self.width = box, width
        directions = draws.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        centres = directions * draws.uniform(0, 1, (count, 1)) ** (1 / 3) * box * np.array([0.25, 0.22, 0.18])
        self.centres = np.concatenate([centres @ g.T for g in group])
        self.amplitudes = np.tile(draws.uniform(0.5, 1.5, count), len(group))

    def density(
        self,
        matrix: NDArray[np.float64] | None = None,
        shift: tuple[float, float, float] = (0, 0, 0),
        mirrored: bool = False,
    ) -> Tensor:
        """Mirrored, rotated and shifted by voxels, in this order."""
        centres = self.centres @ (MIRROR if mirrored else np.eye(3))
        centres = centres @ (np.eye(3) if matrix is None else matrix).T + np.array(shift)
        axis = np.arange(self.box) - self.box // 2
        x, y, z = (np.exp(-((axis - c[:, None]) ** 2) / (2 * self.width**2)) for c in centres.T)
        return torch.from_numpy(np.einsum("p,pz,py,px->zyx", self.amplitudes, z, y, x))


def noisy(volume: Tensor, seed: int, shell: int) -> Tensor:
    """With white noise that makes two such copies correlate by 0.143 in that shell."""
    n = volume.shape[-1]
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    radii = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt().round()
    variance = torch.fft.fftn(volume).abs()[radii == shell].square().mean() * (1 / 0.143 - 1) / n**3
    draws = torch.randn(volume.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return volume + variance.sqrt() * draws


def pose(seed: int) -> tuple[NDArray[np.float64], tuple[float, float, float]]:
    draws = np.random.default_rng(1000 + seed)
    x, y, z = draws.uniform(-1.5, 1.5, 3)
    return Rotation.from_quat(draws.normal(size=4)).as_matrix(), (x, y, z)


def alignment(matrix: NDArray[np.float64], shift: tuple[float, float, float], mirrored: bool) -> Alignment:
    x, y, z, w = Rotation.from_matrix(matrix).as_quat(canonical=True)
    sx, sy, sz = (VOXEL * s for s in shift)
    return Alignment((x, y, z, w), (sx, sy, sz), mirrored, 1.0, None, VOXEL)


def error_in_degrees(found: Alignment, matrix: NDArray[np.float64], symmetry: str = "C1") -> float:
    rotation = Rotation.from_quat(found.rotation)
    flip = MIRROR if found.mirrored else np.eye(3)
    equal = [matrix @ flip @ g @ flip for g in symmetry_rotations(symmetry).numpy()]
    return float(np.rad2deg(min((rotation.inv() * Rotation.from_matrix(m)).magnitude() for m in equal)))


def error_in_voxels(found: Alignment, shift: tuple[float, float, float]) -> float:
    return float(np.linalg.norm(np.array(found.shift) / VOXEL - shift))


@pytest.mark.parametrize("box", [32, 33])
@pytest.mark.parametrize("mirrored", [False, True])
def test_apply_agrees_with_moved_gaussians(box: int, mirrored: bool) -> None:
    blobs, (matrix, shift) = Blobs(box, 1, width=1.3), pose(1)
    expected = blobs.density(matrix, shift, mirrored)
    found = apply(alignment(matrix, shift, mirrored), blobs.density())
    assert (found - expected).norm() < 1e-3 * expected.norm()


def test_apply_the_identity_returns_the_same_voxels() -> None:
    volume = torch.randn(12, 12, 12, generator=torch.Generator().manual_seed(0))
    found = apply(alignment(np.eye(3), (0, 0, 0), False), volume)
    assert found.dtype == volume.dtype
    assert torch.equal(found, volume)


@pytest.mark.parametrize("box", [12, 13])
@pytest.mark.parametrize("mirrored", [False, True])
def test_apply_only_moves_voxels_where_it_can(box: int, mirrored: bool) -> None:
    volume = torch.randn(box, box, box, generator=torch.Generator().manual_seed(0))
    for rotation in symmetry_rotations("O"):
        found = apply(alignment(rotation.numpy(), (1, -2, 3), mirrored), volume)
        flipped = rotate_volume(rotate_volume(volume, torch.diag(torch.tensor([-1.0, -1.0, 1.0]))), torch.eye(3))
        # a mirror in z is a half turn about z and an inversion
        inverted = flipped.flip((0, 1, 2)).roll((1, 1, 1) if box % 2 == 0 else (0, 0, 0), (0, 1, 2))
        expected = rotate_volume(inverted if mirrored else volume, rotation).roll((3, -2, 1), (0, 1, 2))
        assert torch.equal(found, expected)


@pytest.mark.parametrize("box", [32, 33])
def test_apply_twice_keeps_what_the_inscribed_sphere_holds_to_high_frequency(box: int) -> None:
    draws = torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k = torch.fft.fftfreq(box, dtype=torch.float64)
    # what a sharp cut at the Nyquist frequency spreads over the box does not matter: 2 % are left there
    soft = torch.exp(-16 * (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2))
    volume = torch.fft.ifftn(torch.fft.fftn(pad(draws, box, 3)) * soft).real
    there = alignment(*pose(3), mirrored=True)
    back = apply(there.inverse(), apply(there, volume))
    loss = 1 - fsc(back, volume)
    assert loss[1 : box // 2 - 1].max() < 1e-3
    assert loss[1 : box // 3].max() < 5e-5


def test_apply_leaves_noise_as_strong_as_it_was() -> None:
    volume = torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    within_nyquist = apply(alignment(np.eye(3), (0.5, 0, 0), False), volume)
    rotated = apply(alignment(pose(4)[0], (0, 0, 0), False), volume)
    assert float(rotated.var()) == pytest.approx(float(within_nyquist.var()), rel=0.03)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_align_recovers_pose_and_hand_on_any_device(seed: int, device: torch.device) -> None:
    blobs, (matrix, shift), mirrored = Blobs(32, seed), pose(seed), bool(seed % 2)
    moving = noisy(blobs.density(), 10 + seed, shell=11)
    reference = noisy(blobs.density(matrix, shift, mirrored), 20 + seed, shell=11)
    found = align(moving.to(device), reference.to(device), VOXEL)
    assert found.mirrored == mirrored
    assert error_in_degrees(found, matrix) < 1
    assert error_in_voxels(found, shift) < 0.2
    assert found.correlation_other_hand is not None
    assert found.correlation > found.correlation_other_hand + 0.05
    moved = apply(found, moving.to(device))
    assert moved.device.type == device.type
    assert fsc(moved, reference.to(device))[1:8].min() > 0.3


def check_at_box_64(density: Tensor, moved: Tensor, wanted: Alignment, symmetry: str = "C1") -> None:
    """Noise that takes the correlation of the two below 0.143 at half the Nyquist frequency."""
    first, second, start = noisy(density, 1, 16), noisy(moved, 2, 16), time.process_time()
    found = align(first, second, VOXEL, symmetry)
    # 10 s on two cores; processor time, as other work on the machine must not decide
    assert time.process_time() - start < 20
    assert found.hand == wanted.hand
    matrix = Rotation.from_quat(wanted.rotation).as_matrix()
    assert error_in_degrees(found, matrix, symmetry) < 1
    x, y, z = (s / VOXEL for s in wanted.shift)
    assert error_in_voxels(found, (x, y, z)) < 0.2
    # scored as it is applied: the mean over the shells that agree is far above the least of them
    assert found.correlation > 0.2


@pytest.mark.parametrize("seed", [5, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 25))])
def test_align_is_as_exact_as_asked_at_box_64(seed: int) -> None:
    """Shifts of several voxels."""
    blobs, (matrix, (x, y, z)), mirrored = Blobs(64, seed, width=2.0), pose(seed), bool(seed % 2)
    wanted = alignment(matrix, (3 * x, 3 * y, 3 * z), mirrored)
    check_at_box_64(blobs.density(), blobs.density(matrix, (3 * x, 3 * y, 3 * z), mirrored), wanted)


SPECIMENS = {  # symmetry, voxel size: CXCR4 is a rod of a fiftieth of the box, apoferritin a shell of 24 equal parts
    "models/8zpm.cif.gz": ("C1", 3.0),
    "models/5a1a.cif.gz": ("D2", 3.66),
    "models/6z6u.pdb.gz": ("O", 3.0),
    "maps/clean70SRibosome_vol_65p.mrc": ("C1", 5.0),
}


def specimen(data_directory: Path, name: str) -> tuple[Tensor, str]:
    symmetry, voxel_size = SPECIMENS[name]
    if name.endswith(".mrc"):
        return fourier_crop_volumes(torch.from_numpy(read_map(data_directory / name).volume).double(), 64), symmetry
    return AtomicModel(name, data_directory / name, symmetry=symmetry).density(64, voxel_size).double(), symmetry


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        pytest.param(name, seed, marks=() if (name, seed) == ("models/8zpm.cif.gz", 2) else pytest.mark.slow)
        for name in SPECIMENS
        for seed in range(20)
    ],
)
def test_align_is_as_exact_as_asked_on_real_specimens(data_directory: Path, name: str, seed: int) -> None:
    density, symmetry = specimen(data_directory, name)
    matrix, (x, y, z) = pose(seed)
    wanted = alignment(matrix, (3 * x, 3 * y, 3 * z), bool(seed % 2))
    check_at_box_64(density, apply(wanted, density), wanted, symmetry)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_the_hand_of_a_specimen_that_is_its_own_mirror_image_is_undecided(seed: int) -> None:
    blobs, (matrix, shift) = Blobs(32, seed), pose(seed)
    blobs.centres = np.concatenate([blobs.centres, blobs.centres @ MIRROR])
    blobs.amplitudes = np.tile(blobs.amplitudes, 2)
    shell = 8 + seed
    found = align(
        noisy(blobs.density(), 10 + seed, shell), noisy(blobs.density(matrix, shift), 20 + seed, shell), VOXEL
    )
    assert found.hand == "undecided"


def test_the_hand_of_a_ball_is_undecided() -> None:
    ball = soft_sphere(32, 7.0, 3.0, torch.zeros((), dtype=torch.float64))
    found = align(noisy(ball, 1, 8), noisy(ball.roll((1, -2), (0, 2)), 2, 8), VOXEL)
    assert found.hand == "undecided"
    assert found.correlation_other_hand is not None
    assert abs(found.correlation - found.correlation_other_hand) < 0.05
    assert error_in_voxels(found, (-2, 0, 1)) < 0.2


def test_the_hand_of_noise_is_undecided() -> None:
    first, second = torch.randn(2, 20, 20, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert align(first, second, VOXEL).hand == "undecided"


def test_the_hand_is_decided_from_few_shells() -> None:
    blobs, (matrix, shift) = Blobs(32, 1), pose(1)
    found = align(noisy(blobs.density(), 10, 7), noisy(blobs.density(matrix, shift, mirrored=True), 20, 7), VOXEL)
    assert found.hand == "mirrored"
    assert align(blobs.density(), blobs.density(), VOXEL, allow_mirror=False).hand == "same"


def test_align_odd_boxes_modulo_symmetry_and_reports_the_smallest_rotation() -> None:
    blobs, (matrix, shift) = Blobs(27, 2, "D2"), pose(6)
    found = align(blobs.density(), blobs.density(matrix, shift, mirrored=True), VOXEL, "D2")
    assert found.mirrored
    assert error_in_degrees(found, matrix, "D2") < 0.3
    assert error_in_voxels(found, shift) < 0.05
    equal = [Rotation.from_quat(found.rotation).as_matrix() @ g for g in symmetry_rotations("D2").numpy()]
    assert found.angle == pytest.approx(min(Rotation.from_matrix(m).magnitude() for m in equal))


def test_align_leaves_aligned_volumes_exactly_where_they_are() -> None:
    density = Blobs(24, 7).density()
    found = align(noisy(density, 1, 6), noisy(density, 2, 6), VOXEL)
    assert (found.rotation, found.shift, found.mirrored) == (IDENTITY, (0, 0, 0), False)


def test_align_finds_axes_that_an_imposed_symmetry_left_free_and_moves_voxels_only() -> None:
    density = Blobs(24, 8, "D2").density()
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    first, second = (symmetrise(noisy(density, seed, 5), "D2") for seed in (1, 2))
    found = align(rotate_volume(second, quarter), first, VOXEL, "D2")
    assert found.shift == (0, 0, 0)
    assert not found.mirrored
    assert found.angle == pytest.approx(np.pi / 2, abs=1e-12)
    torch.testing.assert_close(apply(found, rotate_volume(second, quarter)), second)


def test_align_does_not_trust_a_symmetry_that_the_volume_lacks() -> None:
    blobs, (matrix, shift) = Blobs(24, 9), pose(9)
    found = align(blobs.density(), blobs.density(matrix, shift), VOXEL, "D2", allow_mirror=False)
    assert error_in_degrees(found, matrix) < 0.3
    assert found.correlation_other_hand is None


def test_align_is_deterministic() -> None:
    blobs, (matrix, shift) = Blobs(16, 3), pose(3)
    moving, reference = blobs.density(), blobs.density(matrix, shift)
    assert align(moving, reference, VOXEL) == align(moving, reference, VOXEL)


@pytest.mark.parametrize("empty", [torch.zeros(12, 12, 12), torch.full((12, 12, 12), 0.1)])
def test_align_with_a_constant_volume_is_the_identity(empty: Tensor) -> None:
    volume = Blobs(12, 1).density().float()
    for found in (align(empty, volume, VOXEL), align(volume, empty, VOXEL)):
        assert found == Alignment(IDENTITY, (0, 0, 0), False, 0.0, 0.0, VOXEL, False)
        assert found.hand == "undecided"


@pytest.mark.parametrize(
    ("moving", "reference", "message"),
    [
        (torch.ones(8, 8, 8), torch.ones(9, 9, 9), "one shape"),
        (torch.ones(8, 8, 9), torch.ones(8, 8, 9), "cubic"),
        (torch.full((8, 8, 8), torch.inf), torch.ones(8, 8, 8), "moving volume holds NaN or infinity"),
        (torch.ones(8, 8, 8), torch.full((8, 8, 8), torch.nan), "reference volume holds NaN or infinity"),
    ],
)
def test_align_refuses_what_it_cannot_align(moving: Tensor, reference: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        align(moving, reference, VOXEL)


def test_apply_refuses_what_is_no_volume() -> None:
    with pytest.raises(InputError, match="cubic volume"):
        apply(alignment(np.eye(3), (0, 0, 0), False), torch.zeros(4, 4, 5))


@pytest.mark.parametrize("mirrored", [False, True])
def test_inverse_undoes(mirrored: bool) -> None:
    blobs = Blobs(32, 4, width=1.3)
    there = alignment(*pose(4), mirrored)
    expected = blobs.density()
    assert (apply(there.inverse(), apply(there, expected)) - expected).norm() < 1e-3 * expected.norm()
    again = there.inverse().inverse()
    np.testing.assert_allclose(again.rotation, there.rotation, atol=1e-12)
    np.testing.assert_allclose(again.shift, there.shift, atol=1e-12)
