"""The whole forward model held against ``relion_project --ctf``."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import torch
from torch import Tensor

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.grids import coordinates
from cryobench.physics.imaging import ImagingOperator, Slicing
from cryobench.physics.rotation import rotation_from_relion

COUNT, BOX, PIXEL = 24, 64, 184 / 64 * 1.274


def column(values: object) -> Tensor:
    return torch.tensor(np.broadcast_to(np.asarray(values, np.float64), COUNT))


@pytest.fixture(scope="module")
def volume() -> Tensor:
    """Twelve Gaussians of different weight and width within half of the half-box: no symmetry, no hand but its own."""
    draw = torch.Generator().manual_seed(7)
    centres = 0.5 * BOX * (torch.rand(12, 3, generator=draw, dtype=torch.float64) - 0.5) / math.sqrt(3)
    weights, widths = 0.7 + torch.rand(2, 12, generator=draw, dtype=torch.float64)
    axis = coordinates(BOX, centres)
    x, y, z = (torch.exp(-((axis - centres[:, i : i + 1]) ** 2) / (2 * widths[:, None] ** 2)) for i in range(3))
    return torch.einsum("q,qz,qy,qx->zyx", weights, z, y, x)


@pytest.fixture(scope="module")
def particles() -> pd.DataFrame:
    """Random poses, origins and astigmatic CTFs as RELION 3.1 writes them."""
    draw = np.random.default_rng(7)
    defocus_u = draw.uniform(8e3, 25e3, COUNT)
    return pd.DataFrame(
        {
            "rlnImageName": [f"{i + 1:06d}@absent.mrcs" for i in range(COUNT)],
            "rlnOpticsGroup": 1,
            "rlnAngleRot": draw.uniform(-180, 180, COUNT),
            "rlnAngleTilt": np.degrees(np.arccos(draw.uniform(-1, 1, COUNT))),
            "rlnAnglePsi": draw.uniform(-180, 180, COUNT),
            "rlnOriginXAngst": draw.uniform(-15, 15, COUNT),
            "rlnOriginYAngst": draw.uniform(-15, 15, COUNT),
            "rlnDefocusU": defocus_u,
            "rlnDefocusV": defocus_u - draw.uniform(1e3, 6e3, COUNT),
            "rlnDefocusAngle": draw.uniform(-90, 90, COUNT),
            "rlnPhaseShift": draw.uniform(0, 90, COUNT),
            "rlnCtfBfactor": draw.uniform(0, 100, COUNT),
        }
    )


@pytest.fixture(scope="module")
def relion_images(
    program: Callable[[str], Path], volume: Tensor, particles: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Tensor:
    """What ``relion_project --ctf`` makes of them. It takes the optics from the table, and full CTFs from the first peak on."""
    executable, directory = program("relion_project"), tmp_path_factory.mktemp("relion")
    with mrcfile.new(directory / "map.mrc", volume.float().numpy()) as file:
        file.voxel_size = PIXEL
    optics = pd.DataFrame(
        {
            "rlnOpticsGroup": [1],
            "rlnOpticsGroupName": ["one"],
            "rlnVoltage": [300.0],
            "rlnSphericalAberration": [2.7],
            "rlnAmplitudeContrast": [0.1],
            "rlnImagePixelSize": [PIXEL],
            "rlnImageSize": [BOX],
            "rlnImageDimensionality": [2],
        }
    )
    starfile.write({"optics": optics, "particles": particles}, directory / "particles.star")
    command = [executable, "--i", "map.mrc", "--o", "out", "--ang", "particles.star", "--ctf", "--angpix", str(PIXEL)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return torch.tensor(mrcfile.read(directory / "out.mrcs").astype(np.float64))


@pytest.fixture(scope="module")
def poses(particles: pd.DataFrame) -> Tensor:
    angles = particles[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    return torch.tensor(rotation_from_relion(angles).as_matrix())


@pytest.fixture(scope="module")
def shifts(particles: pd.DataFrame) -> Tensor:
    """RELION's origins move the image back to its centre: the shift of the content is their negative."""
    return -torch.tensor(particles[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy())


@pytest.fixture(scope="module")
def ctf(particles: pd.DataFrame) -> ContrastTransfer:
    return ContrastTransfer(
        defocus_u=column(particles["rlnDefocusU"]),
        defocus_v=column(particles["rlnDefocusV"]),
        defocus_angle=column(np.radians(particles["rlnDefocusAngle"])),
        voltage=column(300),
        spherical_aberration=column(2.7),
        amplitude_contrast=column(0.1),
        phase_shift=column(np.radians(particles["rlnPhaseShift"])),
        b_factor=column(particles["rlnCtfBfactor"]),
    )


def correlations(a: Tensor, b: Tensor) -> Tensor:
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


@pytest.mark.parametrize("slicing", ["image", "padded"])
def test_images_correlate_one_by_one(
    slicing: Slicing, relion_images: Tensor, volume: Tensor, poses: Tensor, shifts: Tensor, ctf: ContrastTransfer
) -> None:
    """At least 0.995 (measured: 0.999999 at the image's box, 0.9999 at the padded box, which RELION does not use)."""
    images = ImagingOperator(BOX, PIXEL, poses, shifts, ctf, slicing=slicing)(volume)
    assert correlations(images, relion_images).min() >= 0.995


def test_images_agree_in_value(
    relion_images: Tensor, volume: Tensor, poses: Tensor, shifts: Tensor, ctf: ContrastTransfer
) -> None:
    """Sliced as RELION does it, to 1e-3 (measured: 5e-5); RELION sums voxels where we integrate over angstrom."""
    images = ImagingOperator(BOX, PIXEL, poses, shifts, ctf)(volume) / PIXEL
    assert (images - relion_images).norm() <= 1e-3 * relion_images.norm()


def test_a_wrong_sign_or_hand_would_show(
    relion_images: Tensor, volume: Tensor, poses: Tensor, shifts: Tensor, ctf: ContrastTransfer
) -> None:
    """The comparison has teeth: no misreading of a convention would pass."""
    flip = torch.diag(torch.tensor([1.0, 1, -1], dtype=torch.float64))
    other_angle = ContrastTransfer.stack({**vars(ctf), "defocus_angle": -ctf.defocus_angle})
    misread = {
        "transposed poses": (volume, poses.mT, shifts, ctf),
        "shifts reversed": (volume, poses, -shifts, ctf),
        "axes of the shift swapped": (volume, poses, shifts.flip(-1), ctf),
        "defocus angle clockwise": (volume, poses, shifts, other_angle),
        "mirrored volume": (volume.flip(0).roll(1, 0), poses, shifts, ctf),
        "beam reversed": (volume, flip @ poses @ flip, shifts, ctf),
    }
    for what, (map_, rotations, moved, transfer) in misread.items():
        found = correlations(ImagingOperator(BOX, PIXEL, rotations, moved, transfer)(map_), relion_images)
        assert found.min() < 0.98, what
