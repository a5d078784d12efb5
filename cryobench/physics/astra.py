"""Projection by ray tracing on CUDA through the ASTRA toolbox: the third implementation, and its unmatched adjoint."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryobench.conventions import origin
from cryobench.errors import InputError
from cryobench.types import Images, Rotations, Volume


def astra_missing() -> str | None:
    """What keeps ASTRA's CUDA projectors from running here, or None where they run."""
    if importlib.util.find_spec("astra") is None:
        return "the astra-toolbox is not installed; install the extra: pip install 'cryobench[astra]'"
    import astra

    # without a GPU, ASTRA 2.5 does not raise: any other call that touches CUDA kills the process
    if not astra.use_cuda():
        return "the astra-toolbox finds no CUDA device; use cryobench.physics.project on the CPU instead"
    return None


def parallel_vectors(rotations: Rotations, box: int) -> NDArray[np.float64]:
    """Rows ``(ray, detector centre, u, v)`` of ASTRA's ``parallel3d_vec`` geometry, in voxels. Shape ``(batch, 12)``.

    ASTRA leaves the specimen fixed and turns the detector, so the rows of the pose are its axes: ``u = R^T x`` along columns,
    ``v = R^T y`` along rows, and the ray ``R^T z``. Its own origin is the middle of the box, ours voxel ``n // 2``: at an even
    box half a voxel away, in the volume and on the detector.

    Args:
        rotations: poses ``(batch, 3, 3)``.
        box: voxels of the volume's and pixels of the images' side.
    """
    u, v, ray = torch.unbind(rotations.detach().double().cpu(), dim=-2)
    offset = origin(box) + 0.5 - box / 2
    centre = offset * (1 - u - v)
    return torch.cat([ray, centre, u, v], dim=-1).numpy()


def project_astra(volume: Volume, rotations: Rotations, voxel_size: float) -> Images:
    """Projections ``(batch, n, n)`` in density x angstrom: rays through the voxel centres' trilinear interpolant.

    One step per voxel plane along the dominant axis of the ray (Joseph 1982), zero outside the box. Tensors are handed over
    in place (DLPack). Differentiable in the volume, through :func:`backproject_astra`.

    Args:
        volume: ``(n, n, n)``, float32, on a CUDA device.
        rotations: poses ``(batch, 3, 3)``.
        voxel_size: angstrom.

    Raises:
        InputError: if ASTRA or a CUDA device is missing, or the volume is not a float32 cube on one.
    """
    _require(volume, "a volume")
    if len(set(volume.shape)) != 1:
        raise InputError(f"expected a cubic volume, got shape {tuple(volume.shape)}; pad or crop it to a cube first")
    vectors = parallel_vectors(rotations, volume.shape[-1])
    images: Tensor = _Project.apply(volume, vectors, voxel_size)  # type: ignore[no-untyped-call]
    return images


def backproject_astra(images: Images, rotations: Rotations, voxel_size: float) -> Volume:
    """ASTRA's own adjoint of :func:`project_astra`: every voxel gathers the images bilinearly at the point where it lands.

    Not the exact transpose, which would spread each ray over the voxels it crossed. The two differ, in norm, by 6 to 7 % for
    images of Gaussians three voxels wide and by 19 to 27 % for white noise (both kernels emulated on the CPU, boxes 20 to 33).
    Differentiable in the images, through :func:`project_astra`.

    Args:
        images: ``(batch, n, n)``, float32, on a CUDA device.
        rotations: poses ``(batch, 3, 3)``.
        voxel_size: angstrom.

    Raises:
        InputError: if ASTRA or a CUDA device is missing, or the images are not float32 squares on one.
    """
    _require(images, "images")
    if images.shape[-1] != images.shape[-2] or len(images) != len(rotations):
        raise InputError(f"expected square images, one to each of {len(rotations)} poses, got {tuple(images.shape)}")
    vectors = parallel_vectors(rotations, images.shape[-1])
    volume: Tensor = _Backproject.apply(images, vectors, voxel_size)  # type: ignore[no-untyped-call]
    return volume


def _require(array: Tensor, what: str) -> None:
    missing = astra_missing()
    if missing is not None:
        raise InputError(missing)
    if not array.is_cuda or array.dtype != torch.float32:
        raise InputError(
            f"expected {what} in float32 on a CUDA device, got {array.dtype} on {array.device}; convert first"
        )


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, vectors: NDArray[np.float64], voxel_size: float) -> Tensor:
        import astra.experimental

        ctx.geometry = vectors, voxel_size
        n = volume.shape[-1]
        # ASTRA keeps projections as (row, pose, column)
        stack = volume.new_zeros(n, len(vectors), n)
        with _projector(vectors, n, volume.device) as projector:
            astra.experimental.direct_FP3D(projector, volume.detach().contiguous(), stack)
        return stack.transpose(0, 1).mul(voxel_size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        vectors, voxel_size = ctx.geometry
        return _Backproject.apply(gradients[0], vectors, voxel_size), None, None  # type: ignore[no-untyped-call]


class _Backproject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, vectors: NDArray[np.float64], voxel_size: float) -> Tensor:
        import astra.experimental

        ctx.geometry = vectors, voxel_size
        n = images.shape[-1]
        volume = images.new_zeros(n, n, n)
        with _projector(vectors, n, images.device) as projector:
            astra.experimental.direct_BP3D(projector, volume, images.detach().transpose(0, 1).contiguous())
        return volume.mul_(voxel_size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        vectors, voxel_size = ctx.geometry
        return _Project.apply(gradients[0], vectors, voxel_size), None, None  # type: ignore[no-untyped-call]


@contextmanager
def _projector(vectors: NDArray[np.float64], box: int, device: torch.device) -> Iterator[int]:
    """An ASTRA 3D projector on ``device``, deleted at the end."""
    import astra

    volume_geometry = astra.create_vol_geom(box, box, box)
    projection_geometry = astra.create_proj_geom("parallel3d_vec", box, box, vectors)
    with torch.cuda.device(device):
        projector = astra.create_projector("cuda3d", projection_geometry, volume_geometry)
        try:
            # ASTRA works on streams of its own: what torch still has in flight must be done first
            torch.cuda.current_stream().synchronize()
            yield projector
        finally:
            astra.projector3d.delete(projector)
