"""Poses and shifts of RELION and cryoSPARC files against the same files as another program converted them.

The other program keeps the rotation that takes the specimen to the microscope, as we do, and the shift as a fraction of the box
in the sense of RELION's origins (how far to move the image back), the negative of ours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.testing import assert_allclose

from cryobench.interop import cryosparc, relion
from cryobench.interop.particles import ParticleTable
from cryobench.physics.rotation import (
    quaternion_to_matrix,
    rotation_from_cryosparc,
    rotation_from_relion,
    rotation_to_cryosparc,
    rotation_to_relion,
)


def assert_converted(table: ParticleTable, oracle: Path, box: int) -> None:
    expected = np.load(oracle)
    assert table.quaternion is not None
    assert table.shift is not None
    matrices = quaternion_to_matrix(torch.as_tensor(table.quaternion)).numpy()
    assert_allclose(matrices, expected["rot"], atol=1e-6)
    assert_allclose(table.shift, -expected["trans"] * box * table.pixel_size[:, None], atol=1e-4)


def test_relion_poses(data_directory: Path) -> None:
    table = relion.read_particles(data_directory / "metadata" / "PfCRT_5particles.star", amplitude_contrast=0.1)
    assert_converted(table, data_directory / "oracles" / "cryodrgn_pose_from_PfCRT_star.npz", box=300)


def test_cryosparc_poses(data_directory: Path) -> None:
    table = cryosparc.read_particles(data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs")
    assert_converted(table, data_directory / "oracles" / "cryodrgn_pose_from_P12_J24_cs.npz", box=180)


def test_conversions_invert_one_another_and_agree_with_the_readers(data_directory: Path) -> None:
    source = np.load(data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs")
    poses = source["alignments3D/pose"].astype(np.float64)
    rotation = rotation_from_cryosparc(poses)
    table = cryosparc.read_particles(data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs")
    assert table.quaternion is not None
    assert_allclose(rotation.as_quat(), table.quaternion, atol=1e-12)
    through_relion = rotation_from_relion(rotation_to_relion(rotation))
    through_cryosparc = rotation_from_cryosparc(rotation_to_cryosparc(rotation))
    assert_allclose((through_relion.inv() * rotation).magnitude(), 0, atol=1e-7)
    assert_allclose((through_cryosparc.inv() * rotation).magnitude(), 0, atol=1e-7)
