"""Volumes resampled to a larger box and back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.physics.fourier import fourier_crop_volumes, fourier_pad_volumes
from cryobench.specimens.catalogue import find


def draw(box: int, *batch: int) -> Tensor:
    return torch.randn(*batch, box, box, box, generator=torch.Generator().manual_seed(box), dtype=torch.float64)


def band_limited(box: int) -> Tensor:
    """Noise strictly inside the Nyquist sphere of a box."""
    return fourier_crop_volumes(draw(24, 2), box)


@pytest.mark.parametrize("box", [8, 9])
@pytest.mark.parametrize("larger", [12, 13, 16])
def test_cropping_undoes_padding(box: int, larger: int) -> None:
    volumes = band_limited(box)
    padded = fourier_pad_volumes(volumes, larger)
    assert padded.shape == (2, larger, larger, larger)
    torch.testing.assert_close(fourier_crop_volumes(padded, box), volumes)
    assert volumes.norm() > 1


@pytest.mark.parametrize("box", [8, 9])
def test_what_lies_beyond_the_sphere_is_dropped(box: int) -> None:
    """As cropping drops it: the two together keep the sphere, and a second time changes nothing."""
    volume = draw(box)
    once = fourier_crop_volumes(fourier_pad_volumes(volume, 15), box)
    again = fourier_crop_volumes(fourier_pad_volumes(once, 15), box)
    torch.testing.assert_close(again, once)
    assert (once - volume).norm() > 0.1 * volume.norm()
    assert float(once.mean()) == pytest.approx(float(volume.mean()))


@pytest.mark.parametrize(("box", "larger"), [(8, 12), (8, 13), (9, 14)])
def test_padding_and_cropping_are_adjoint(box: int, larger: int) -> None:
    """But for the cube of the boxes' ratio, by which both keep densities."""
    small, large = draw(box), draw(larger)
    forth = (fourier_pad_volumes(small, larger) * large).sum()
    back = (small * fourier_crop_volumes(large, box)).sum() * (larger / box) ** 3
    assert abs(float(forth - back)) < 1e-10 * float(small.norm() * large.norm())


@pytest.mark.parametrize(("box", "larger"), [(24, 36), (24, 33), (25, 48)])
def test_densities_and_the_centre_are_kept(box: int, larger: int) -> None:
    """A phantom that both boxes can hold, sampled at either; densities per cubic angstrom do not change with the voxel."""
    specimen, side = find("phantom"), 234.4
    # blurred until the smaller box holds it
    found = fourier_pad_volumes(blur(specimen.density(box, side / box).double(), side), larger)
    expected = blur(specimen.density(larger, side / larger).double(), side)
    assert float((found - expected).norm() / expected.norm()) < 1e-3


def blur(volume: Tensor, side: float, width: float = 14.0) -> Tensor:
    """Convolved with a Gaussian of ``width`` angstrom."""
    k = torch.fft.fftfreq(len(volume), 1 / len(volume), dtype=volume.dtype) / side
    squares = k**2 + k[:, None] ** 2 + k[:, None, None] ** 2
    return torch.fft.ifftn(torch.fft.fftn(volume) * torch.exp(-2 * (torch.pi * width) ** 2 * squares)).real


def test_the_same_box_changes_nothing() -> None:
    volume = draw(8)
    assert torch.equal(fourier_pad_volumes(volume, 8), volume)


def test_a_smaller_box_is_refused() -> None:
    with pytest.raises(InputError, match="expected a box of at least 8 voxels to pad to, got 7"):
        fourier_pad_volumes(draw(8), 7)
