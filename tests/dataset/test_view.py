"""A half-set is the right half, in order, and leads nowhere else."""

from __future__ import annotations

import os
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from cryobench.conventions import WHOLE
from cryobench.dataset.create import create_store
from cryobench.dataset.store import finish_store, open_store
from cryobench.dataset.view import Observed, Poses
from cryobench.errors import InputError, StoreError
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.noise import colour, radial_power
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.testing.tiny import tiny_run

PARTICLES, BOX = 23, 6
rng = np.random.default_rng(7)
HALF = np.where(rng.random(PARTICLES) < 0.4, 1, 2)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = {
        "images": (PARTICLES, BOX, BOX),
        "micrograph": (PARTICLES,),
        "half": (PARTICLES,),
        "noise_patches": (5, BOX, BOX),
        "patch_half": (5,),
        "patch_micrograph": (5,),
        "noise_power": (2, BOX // 2 + 1),
        **dict.fromkeys(ContrastTransfer.names(), (PARTICLES,)),
    }
    attributes = {
        "voxel_size": 4.5,
        "symmetry": "D2",
        "assumed_pose": {"kind": "uniform"},
        "assumed_shift": {"kind": "triangular", "half_width": 3.0},
        "contrast": "protein bright",
        "noise_note": "none",
    }
    path = tmp_path_factory.mktemp("view") / "observed.zarr"
    group = create_store(path, "observed", shapes, attributes)
    values = {
        "images": np.broadcast_to(np.arange(PARTICLES)[:, None, None], shapes["images"]),
        "half": HALF,
        "defocus_u": 1000.0 * np.arange(PARTICLES),
        "noise_patches": np.broadcast_to(np.arange(5)[:, None, None], shapes["noise_patches"]),
        "patch_half": np.array([1, 2, 2, 1, 2]),
        "noise_power": np.array([[1.0] * 4, [2.0] * 4]),
    }
    for name, array in values.items():
        group[name][...] = array  # type: ignore[index]
    finish_store(group)
    return path


@pytest.fixture(scope="module")
def dataset(path: Path) -> xr.Dataset:
    return open_store(path, "observed")


def numbers(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0].int().tolist()


@pytest.mark.parametrize("half", [1, 2])
def test_holds_its_own_half_in_the_order_of_the_store(dataset: xr.Dataset, half: int) -> None:
    observed = Observed(dataset, half)
    mine = np.flatnonzero(half == HALF)
    batch = observed.read(slice(None))
    assert len(observed) == len(mine)
    assert numbers(batch.images) == mine.tolist()
    assert (batch.ctf.defocus_u == 1000.0 * torch.as_tensor(mine)).all()
    assert (observed.ctf.defocus_u == batch.ctf.defocus_u).all()
    assert numbers(observed.noise_patches) == ([0, 3] if half == 1 else [1, 2, 4])
    assert observed.noise_power.tolist() == [float(half)] * 4
    assert batch.rotations is None
    assert batch.shifts is None


def test_the_whole_holds_both_halves_in_the_order_of_the_store(dataset: xr.Dataset) -> None:
    observed = Observed(dataset, WHOLE)
    assert len(observed) == PARTICLES
    assert numbers(observed.read(slice(None)).images) == list(range(PARTICLES))
    assert numbers(observed.noise_patches) == [0, 1, 2, 3, 4]
    assert observed.noise_power.tolist() == [1.5] * 4


@pytest.mark.parametrize(
    "index", [slice(2, 5), slice(None, None, 3), slice(4, 400), [0, 3, 4], np.array([5, 1, 1, 0]), slice(3, 3)], ids=str
)
@pytest.mark.parametrize("run", [4, 1024])
def test_reads_what_is_asked_for_in_the_order_asked(
    dataset: xr.Dataset, index: slice | list[int], run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryobench.dataset.view.ROWS_AT_A_TIME", run)
    quaternions = uniform_quaternions(PARTICLES, torch.Generator().manual_seed(1), torch.float64)
    mine = np.flatnonzero(HALF == 2)
    poses = Poses(quaternions[mine], torch.as_tensor(mine)[:, None] * torch.ones(2, dtype=torch.float64))
    batch = Observed(dataset, 2, poses).read(index)
    expected = mine[index]
    assert numbers(batch.images) == expected.tolist()
    assert len(batch.ctf) == len(expected)
    assert (batch.ctf.defocus_u == 1000.0 * torch.as_tensor(expected)).all()
    assert batch.rotations is not None
    assert batch.shifts is not None
    assert batch.shifts[:, 0].int().tolist() == expected.tolist()
    torch.testing.assert_close(batch.rotations, quaternion_to_matrix(quaternions[expected]).float())
    assert batch.images.dtype == batch.rotations.dtype == batch.shifts.dtype == torch.float32


def test_an_empty_half_is_refused(dataset: xr.Dataset) -> None:
    with pytest.raises(StoreError, match="expected particles in half 1, found none"):
        Observed(dataset.assign(half=dataset["half"] * 0 + 2), 1)


def test_says_what_to_assume_and_names_no_place(dataset: xr.Dataset, path: Path) -> None:
    observed = Observed(dataset, 1)
    assert (observed.box, observed.voxel_size, observed.symmetry) == (BOX, 4.5, "D2")
    assert observed.assumed_pose == {"kind": "uniform"}
    assert observed.assumed_shift == {"kind": "triangular", "half_width": 3.0}
    public = {name: getattr(observed, name) for name in dir(observed) if not name.startswith("_")}
    assert not [name for name, value in public.items() if isinstance(value, os.PathLike | xr.Dataset | xr.DataArray)]
    assert str(path.parent) not in repr(observed) + repr(public)


def test_draws_poses_from_the_assumed_priors(dataset: xr.Dataset) -> None:
    observed = Observed(dataset, 1)
    rotations, shifts = observed.sample_poses(4000, torch.Generator().manual_seed(3))
    again, _ = observed.sample_poses(4000, torch.Generator().manual_seed(3))
    assert torch.equal(rotations, again)
    identity = torch.eye(3).expand(4000, 3, 3)
    torch.testing.assert_close(rotations @ rotations.mT, identity, rtol=0, atol=1e-5)
    assert rotations.mean(0).abs().max() < 0.05
    assert shifts.abs().max() <= 3.0
    # triangular on [-w, w]: variance w^2 / 6
    assert shifts.var().item() == pytest.approx(9 / 6, rel=0.05)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """A half-set of 96 simulated images of 16 pixels."""
    directory = tiny_run(tmp_path_factory.mktemp("noisy"))
    return Observed(open_store(directory / "observed.zarr", "observed"), 1)


@pytest.mark.parametrize("box", [8, 9, 16])
def test_a_coarser_view_reads_cut_images(noisy: Observed, box: int) -> None:
    coarse = noisy.coarsen(box)
    for index in (slice(3, 9), [5, 1, 1]):
        whole, cut = noisy.read(index), coarse.read(index)
        torch.testing.assert_close(cut.images, fourier_crop_images(whole.images, box))
        assert cut.images.shape[1:] == (box, box)
        assert torch.equal(cut.ctf.defocus_u, whole.ctf.defocus_u)
    assert coarse.box == box
    assert coarse.voxel_size * box == pytest.approx(noisy.voxel_size * noisy.box)
    assert coarse.noise_patches.shape == (len(noisy.noise_patches), box, box)
    assert (len(coarse), coarse.symmetry, coarse.assumed_shift) == (len(noisy), noisy.symmetry, noisy.assumed_shift)
    # in two steps as in one
    torch.testing.assert_close(coarse.coarsen(8).read(slice(2)).images, noisy.coarsen(8).read(slice(2)).images)


@pytest.mark.parametrize("box", [8, 9])
def test_a_coarser_view_s_noise_has_the_power_that_it_says(noisy: Observed, box: int) -> None:
    """In whole shells: of the last one of an even box the cut keeps only what is inside the Nyquist frequency."""
    noisy = copy(noisy)
    white = torch.randn(600, 16, 16, generator=torch.Generator().manual_seed(2))
    noisy.noise_power = torch.linspace(4, 1, 9)
    noisy.noise_patches = colour(white, noisy.noise_power)
    coarse = noisy.coarsen(box)
    whole = (box + 1) // 2
    assert coarse.noise_power.shape == (box // 2 + 1,)
    torch.testing.assert_close(radial_power(coarse.noise_patches)[:whole], coarse.noise_power[:whole], rtol=0.1, atol=0)


@pytest.mark.parametrize("box", [3, 17])
def test_a_coarser_view_is_not_larger(noisy: Observed, box: int) -> None:
    with pytest.raises(InputError, match=f"expected a box of 4 to 16 pixels to cut images to, got {box}"):
        noisy.coarsen(box)


def test_a_coarser_view_leaves_the_first_as_it_was(noisy: Observed) -> None:
    before = noisy.box, noisy.voxel_size, noisy.noise_patches.shape, len(noisy.noise_power)
    noisy.coarsen(8)
    assert (noisy.box, noisy.voxel_size, noisy.noise_patches.shape, len(noisy.noise_power)) == before
    assert noisy.read(slice(1)).images.shape == (1, 16, 16)
