"""The ASTRA projector: its geometry and both its kernels emulated on the CPU, and the thing itself where there is a GPU."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.astra import astra_missing, backproject_astra, parallel_vectors, project_astra
from cryobench.physics.grids import coordinates
from cryobench.physics.project import project_voxels
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions

VOXEL = 2.5


def poses(count: int) -> Tensor:
    return quaternion_to_matrix(uniform_quaternions(count, torch.Generator().manual_seed(1), torch.float64))


def specimen(box: int) -> Tensor:
    """Ten Gaussians three voxels wide (full width at half maximum) within 0.6 of the half-box, float64."""
    draw = torch.Generator().manual_seed(5)
    centres = 0.6 * box * (torch.rand(10, 3, generator=draw, dtype=torch.float64) - 0.5) / 3**0.5
    axis = coordinates(box, centres)
    x, y, z = (torch.exp(-((axis - centres[:, i : i + 1]) ** 2) / (2 * 1.274**2)) for i in range(3))
    return torch.einsum("qz,qy,qx->zyx", z, y, x)


def centres(box: int) -> Tensor:
    """ASTRA's coordinates of the voxels or pixels of one axis."""
    return torch.arange(box, dtype=torch.float64) + 0.5 - box / 2


def trace(volume: Tensor, vectors: NDArray[np.float64]) -> Tensor:
    """ASTRA's forward kernel: one trilinear sample where a pixel's ray meets each plane across its dominant axis."""
    box, images = volume.shape[-1], []
    for ray, detector, u, v in torch.as_tensor(vectors).reshape(-1, 4, 3):
        axis = int(ray.abs().argmax())
        pixels = detector + centres(box)[:, None, None] * v + centres(box)[:, None] * u
        steps = (centres(box)[:, None, None] - pixels[..., axis]) / ray[axis]
        grid = (pixels + steps[..., None] * ray) * (2 / (box - 1))
        samples = torch.nn.functional.grid_sample(volume[None, None], grid[None], align_corners=True)[0, 0]
        images.append(samples.sum(0) / ray[axis].abs())
    return VOXEL * torch.stack(images)


def gather(images: Tensor, vectors: NDArray[np.float64]) -> Tensor:
    """ASTRA's backward kernel: one bilinear sample of each image where a voxel's centre lands."""
    box, total = images.shape[-1], torch.zeros(1, dtype=torch.float64)
    z, y, x = torch.meshgrid([centres(box)] * 3, indexing="ij")
    for image, (_, detector, u, v) in zip(images, torch.as_tensor(vectors).reshape(-1, 4, 3), strict=True):
        offset = torch.stack([x, y, z], -1) - detector
        landed = torch.stack([offset @ u, offset @ v], -1).reshape(1, box * box, box, 2) * (2 / (box - 1))
        samples = torch.nn.functional.grid_sample(image[None, None], landed, align_corners=True)
        total = total + samples.reshape(box, box, box)
    return VOXEL * total


@pytest.mark.parametrize("box", [8, 9])
def test_a_point_lands_where_the_pose_says(box: int) -> None:
    """On pixel ``n // 2 + (R p)[:2]``, by the definition of the vectors alone: voxel + t ray = detector + i u + j v."""
    middle = box // 2 + 0.5 - box / 2
    for pose, vectors in zip(poses(6), torch.as_tensor(parallel_vectors(poses(6), box)), strict=True):
        ray, detector, u, v = vectors.reshape(4, 3)
        for point in torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64):
            columns = torch.stack([u, v, -ray], dim=1)
            i, j, _ = torch.linalg.solve(columns, point + middle - detector)
            landed = torch.stack([i, j]) - 0.5 + box / 2
            assert torch.allclose(landed, box // 2 + (pose @ point)[:2])


@pytest.mark.parametrize("box", [20, 21])
def test_rays_traced_along_the_vectors_are_our_projections(box: int) -> None:
    """Within 2 % of rotated voxels, both trilinear (measured: 0.9 %), and blind to neither hand nor half a voxel."""
    traced, rotated = (
        trace(specimen(box), parallel_vectors(poses(8), box)),
        project_voxels(specimen(box), poses(8), VOXEL),
    )
    assert (traced - rotated).norm() <= 0.02 * rotated.norm()
    assert (traced.roll(1, -1) - rotated).norm() > 0.3 * rotated.norm()
    assert (trace(specimen(box), parallel_vectors(poses(8).mT, box)) - rotated).norm() > 0.3 * rotated.norm()


@pytest.mark.parametrize(("images", "low", "high"), [("specimen", 0.03, 0.1), ("noise", 0.15, 0.35)])
def test_the_mismatch_of_the_adjoint_is_as_stated(images: str, low: float, high: float) -> None:
    """Gathering is not the transpose of tracing: off by 6 % for images of a specimen and 20 % for white noise here."""
    box = 20
    vectors, zero = (
        parallel_vectors(poses(12), box),
        torch.zeros(box, box, box, dtype=torch.float64, requires_grad=True),
    )
    noise = torch.randn(12, box, box, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = trace(specimen(box), vectors) if images == "specimen" else noise
    (exact,) = torch.autograd.grad(trace(zero, vectors), zero, y)
    assert low <= (gather(y, vectors) - exact).norm() / exact.norm() <= high


def test_the_module_imports_without_astra() -> None:
    code = "import sys, cryobench.physics.astra; sys.exit('astra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_what_is_missing() -> None:
    """And lives: ASTRA itself would take the process down."""
    missing = "no CUDA device" if importlib.util.find_spec("astra") else "astra-toolbox is not installed"
    assert missing in str(astra_missing())
    with pytest.raises(InputError, match=missing):
        project_astra(torch.zeros(4, 4, 4), poses(1), VOXEL)
    with pytest.raises(InputError, match=missing):
        backproject_astra(torch.zeros(1, 4, 4), poses(1), VOXEL)


@pytest.fixture
def cuda() -> torch.device:
    missing = astra_missing() if torch.cuda.is_available() else "no CUDA device for torch"
    if missing is not None:
        pytest.skip(missing)
    return torch.device("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("box", [20, 21])
def test_astra_projects_as_its_emulation_does(cuda: torch.device, box: int) -> None:
    """Textures interpolate with 8 bits of weight: within 1 % of the emulation, and of rotated voxels as that is."""
    found = project_astra(specimen(box).float().to(cuda), poses(8), VOXEL).cpu().double()
    traced = trace(specimen(box), parallel_vectors(poses(8), box))
    assert found.shape == (8, box, box)
    assert (found - traced).norm() <= 0.01 * traced.norm()

    back = backproject_astra(traced.float().to(cuda), poses(8), VOXEL).cpu().double()
    gathered = gather(traced, parallel_vectors(poses(8), box))
    assert (back - gathered).norm() <= 0.01 * gathered.norm()


@pytest.mark.gpu
def test_astra_differentiates_with_its_own_adjoint(cuda: torch.device) -> None:
    box = 20
    volume = specimen(box).float().to(cuda).requires_grad_()
    images = project_astra(volume, poses(8), VOXEL)
    y = torch.randn(8, box, box, generator=torch.Generator().manual_seed(0)).to(cuda)
    (gradient,) = torch.autograd.grad(images, volume, y)
    assert torch.equal(gradient, backproject_astra(y, poses(8), VOXEL))
    # and the other way round
    stack = y.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(backproject_astra(stack, poses(8), VOXEL), stack, volume.detach())
    assert torch.equal(gradient, images.detach())


@pytest.mark.gpu
def test_the_adjoint_mismatch_of_astra_itself(cuda: torch.device) -> None:
    """``|<Ax, y> - <x, By>| <= 2 % |Ax| |y|`` for images of a specimen (emulated: 0.3 %)."""
    x = specimen(20).float().to(cuda)
    images = project_astra(x, poses(12), VOXEL)
    back = backproject_astra(images, poses(12), VOXEL)
    mismatch = abs(images.square().sum() - (x * back).sum()) / images.square().sum()
    assert mismatch <= 0.02


@pytest.mark.gpu
def test_astra_refuses_what_it_cannot_take_in_place(cuda: torch.device) -> None:
    with pytest.raises(InputError, match="float32 on a CUDA device"):
        project_astra(specimen(8).to(cuda), poses(1), VOXEL)
    with pytest.raises(InputError, match="float32 on a CUDA device"):
        project_astra(specimen(8).float(), poses(1), VOXEL)
    with pytest.raises(InputError, match="expected a cubic volume"):
        project_astra(specimen(8).float().to(cuda)[:4], poses(1), VOXEL)
    with pytest.raises(InputError, match="one to each of 2 poses"):
        backproject_astra(torch.zeros(1, 8, 8, device=cuda), poses(2), VOXEL)
