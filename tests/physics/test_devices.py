"""Physics follows the device of its input and never asks for a value on the way: shown without a GPU, on tensors without data.

PyTorch's ``meta`` tensors refuse to meet tensors of the processor and have no value that could be waited for, which is what
makes training on a GPU stall.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.detector import DetectorTransfer
from cryobench.physics.fourier import fourier_crop_images, fourier_crop_volumes, shift_images
from cryobench.physics.imaging import ImagingOperator, Slicing
from cryobench.physics.noise import colour, turn, whiten
from cryobench.physics.priors import poses_from_normals, shifts_from_uniforms
from cryobench.physics.project import project_voxels
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.physics.symmetry import symmetrise

META = torch.device("meta")
BOX = 12
IMAGES = torch.zeros(4, BOX, BOX, device=META)
VOLUME = torch.zeros(BOX, BOX, BOX, device=META)


def operator(geometry: str, slicing: Slicing = "image") -> ImagingOperator:
    ones = torch.ones(4, device=geometry)
    ctf = ContrastTransfer(1e4 * ones, 9e3 * ones, 0 * ones, 300 * ones, 2.7 * ones, 0.1 * ones, 0 * ones, 0 * ones)
    rotations, shifts = torch.eye(3, device=geometry).expand(4, 3, 3), torch.zeros(4, 2, device=geometry)
    detector = DetectorTransfer(torch.tensor([0.0, 0.2]), torch.tensor([1.0, 0.5]))
    return ImagingOperator(BOX, 2.0, rotations, shifts, ctf, slicing=slicing, detector=detector)


@pytest.mark.parametrize("geometry", ["cpu", "meta"])
@pytest.mark.parametrize("slicing", ["image", "padded"])
def test_images_and_their_adjoint_follow_the_volume(geometry: str, slicing: Slicing) -> None:
    imaging, volume = operator(geometry, slicing), VOLUME.clone().requires_grad_()
    images = imaging(volume)
    (gradient,) = torch.autograd.grad(images.sum(), volume)
    for result, shape in ((images, IMAGES.shape), (gradient, VOLUME.shape), (imaging.T(IMAGES), VOLUME.shape)):
        assert result.device == META
        assert result.shape == shape


def test_images_are_inserted_on_the_device_of_the_sums() -> None:
    sums = torch.zeros(2 * BOX + 1, 2 * BOX + 1, BOX + 1, 3, device=META)
    operator("cpu").insert(torch.zeros(4, BOX, BOX), torch.ones(BOX, BOX // 2 + 1), sums)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: symmetrise(VOLUME, "D2"), id="symmetrise exactly"),
        pytest.param(lambda: symmetrise(VOLUME, "C3"), id="symmetrise"),
        pytest.param(lambda: colour(IMAGES, torch.ones(BOX // 2 + 1)), id="colour"),
        pytest.param(lambda: whiten(IMAGES, torch.ones(BOX, BOX // 2 + 1)), id="whiten"),
        pytest.param(lambda: turn(IMAGES, torch.zeros(4, dtype=torch.long, device=META)), id="turn"),
        pytest.param(lambda: fourier_crop_images(IMAGES, 8), id="crop images"),
        pytest.param(lambda: fourier_crop_volumes(VOLUME, 8), id="crop volumes"),
        pytest.param(lambda: shift_images(IMAGES, torch.zeros(4, 2, device=META), 2.0), id="shift"),
        pytest.param(lambda: project_voxels(VOLUME, torch.eye(3).expand(4, 3, 3), 2.0), id="rotate voxels"),
        pytest.param(
            lambda: quaternion_to_matrix(poses_from_normals({"kind": "uniform"}, torch.zeros(4, 4, device=META))),
            id="poses",
        ),
        pytest.param(
            lambda: poses_from_normals(
                {"kind": "euler-gaussian", "deviations": [1.0, 1.0, 1.0]}, torch.zeros(4, 4, device=META)
            ),
            id="Gaussian poses",
        ),
        pytest.param(
            lambda: shifts_from_uniforms({"kind": "triangular", "half_width": 7.0}, torch.zeros(4, 4, device=META)),
            id="shifts",
        ),
    ],
)
def test_results_follow_their_input(made: Callable[[], Tensor]) -> None:
    assert made().device == META


def test_kept_frequencies_serve_gradients_wherever_they_were_first_asked_for() -> None:
    """The disc that slices share is kept from call to call; made in inference mode it could not be trained with."""
    volume = torch.zeros(10, 10, 10, dtype=torch.float64)
    imaging = ImagingOperator(10, 2.0, torch.eye(3, dtype=torch.float64).expand(1, 3, 3))
    with torch.inference_mode():
        imaging(volume)
    wanted = volume.clone().requires_grad_()
    imaging(wanted).sum().backward()
    assert wanted.grad is not None
    assert bool(wanted.grad.isfinite().all())
