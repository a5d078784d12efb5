"""The SNR that a dataset's images show of themselves, against the truth of simulated ones."""

from __future__ import annotations

import math
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
import xarray as xr

from cryobench.dataset.info import describe_dataset
from cryobench.dataset.snr import SnrEstimate, describe_snr, estimate_snr
from cryobench.dataset.store import open_store
from cryobench.physics.fourier import fourier_crop_images
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate

COLOURED = ["noise.kind=coloured", "noise.frequencies=[0.0,0.01,0.03]", "noise.power=[6,2,1]"]


@pytest.mark.parametrize("noise", [[], COLOURED], ids=["white", "coloured"])
@pytest.mark.parametrize("snr", [-15, -8, 0, 8])
def test_truth_is_within_the_stated_range(noise: list[str], snr: float, tmp_path: Path) -> None:
    """Particles that fill their images, with fringes past every disc: the hardest case, and the range says so."""
    scenario = adapt_scenario("tiny", particles=1024, settings=[f"noise.snr_db={snr}", *noise])
    simulate(scenario, tmp_path, seed=3, jobs=1)
    truth = open_store(tmp_path / "truth.zarr", "truth").attrs["working_snr_db"]
    estimate = estimate_snr(open_store(tmp_path / "observed.zarr", "observed"))
    assert estimate.low <= estimate.value <= estimate.high
    # two standard errors and what may be missing are in the range; half as much again is for chance
    low, high = (1.5 * bound - 0.5 * estimate.value for bound in (estimate.low, estimate.high))
    assert low - 0.05 <= truth <= high + 0.05
    assert estimate.high - estimate.low < 2.5
    assert estimate.images == 1024
    assert dict(describe_dataset(tmp_path))["SNR estimate"] == str(estimate)


def test_real_beta_galactosidase(data_directory: Path) -> None:
    """1,408 particles of EMPIAR-10204, 3.54 Å: weak as they are, their signal stands 20 standard errors above nothing."""
    with mrcfile.open(data_directory / "empiar10204" / "particles_64_a.mrcs") as file:
        images = file.data.astype(np.float32)
    dataset = xr.Dataset({"images": (("particle", "y", "x"), images)}, attrs={"voxel_size": 3.54})
    estimate = estimate_snr(dataset)
    assert -14.5 < estimate.low < estimate.value < estimate.high < -12
    assert estimate.radius == pytest.approx(0.45 * 64 * 3.54)


def test_real_particles_against_real_background(data_directory: Path) -> None:
    """EMPIAR-10061: 53 particles, and 53 patches of the same micrographs that hold none, which show no signal of their own."""

    def measured(name: str) -> SnrEstimate:
        with mrcfile.open(data_directory / "cryogan_betagal" / name) as file:
            images = fourier_crop_images(-torch.as_tensor(file.data.copy()), 96)
        return estimate_snr(store(images.numpy()))

    particles, background = measured("particles_384_mic0-2.mrcs"), measured("background_384_mic0-2.mrcs")
    assert -21 < particles.low < particles.value < particles.high < -10
    assert background.high < particles.value + 3
    assert background.low == -math.inf  # nothing, within the error


def store(images: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"images": (("particle", "y", "x"), images.astype(np.float32))}, attrs={"voxel_size": 2.0})


def test_noise_alone_and_too_little() -> None:
    images = np.random.default_rng(0).standard_normal((600, 24, 24))
    estimate = estimate_snr(store(images))
    assert estimate.high < -15
    middle = np.hypot(*np.mgrid[-12:12, -12:12]) < 6
    hollow = estimate_snr(store(images * np.where(middle, 0.9, 1)))  # less in the middle than around it
    assert hollow.value == hollow.low == -math.inf
    assert str(hollow).startswith("no signal stands out (600 images")
    assert describe_snr(store(images[:1])).startswith("none: expected at least two images")
