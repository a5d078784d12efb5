"""The SNR is what the scenario says, for any noise, recomputed at the native pixel from nothing but the truth."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryobench.dataset.store import open_store
from cryobench.physics.fourier import fourier_crop_images
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.imager import Imager
from cryobench.scenario.noise import noise_sources
from cryobench.scenario.power import SAMPLE, measure_signal
from cryobench.scenario.streams import blocks
from cryobench.simulate import simulate
from cryobench.simulate.truth import imager_of_truth

PARTICLES = SAMPLE + 1500


def write_patches(path: Path) -> Path:
    """White patches that differ in their strength, as those of real micrographs do."""
    rng = np.random.default_rng(0)
    strength = rng.uniform(0.3, 2.0, (240, 1, 1))
    with mrcfile.new(path) as stack:
        stack.set_data((strength * rng.standard_normal((240, 40, 40))).astype(np.float32))
        stack.voxel_size = 9.768
    return path


def settings(kind: str, directory: Path) -> list[str]:
    return {
        "white": [],
        "coloured": ["noise.kind=coloured", "noise.frequencies=[0, 0.02, 0.05]", "noise.power=[9, 4, 1]"],
        "patches": ["noise.kind=patches", f"noise.path={write_patches(directory / 'patches.mrcs')}"]
        if kind == "patches"
        else [],
    }[kind]


def variance(images: list[torch.Tensor]) -> float:
    return float(torch.cat(images).double().var(correction=0))


@pytest.mark.parametrize("kind", ["white", "coloured", "patches"])
def test_snr_recomputed_from_the_truth(tmp_path: Path, kind: str) -> None:
    scenario = adapt_scenario(
        "tiny", particles=PARTICLES, snr_db=-7.0, settings=["noise.pool=16", *settings(kind, tmp_path)]
    )
    simulate(scenario, tmp_path / "run", seed=2)
    path = tmp_path / "run" / "truth.zarr"
    truth = open_store(path, "truth")
    imager = imager_of_truth(path)
    source = noise_sources(imager.scenario)[0]["noise"]
    every = blocks(0, PARTICLES)
    signal = variance([imager.clean(*block, native=True) for block in every])
    noise = variance([truth.attrs["noise_scale"] * source.draw(imager.seed, "noise", *block) for block in every])
    assert 10 * math.log10(signal / noise) == pytest.approx(-7.0, abs=0.1)
    # and as closely as the standard error says, of which the store keeps a record
    assert truth.attrs["snr_sample"] == SAMPLE
    error = truth.attrs["snr_standard_error_db"]
    assert 0 < error < 0.05
    assert 10 * math.log10(signal / noise) == pytest.approx(-7.0, abs=4 * error + 0.01)
    assert truth.attrs["noise_variance"] == pytest.approx(noise, rel=0.01)
    # the working images' own SNR, likewise
    crops = [imager.clean(*block) for block in every]
    kept = [source.draw(imager.seed, "noise", *block, 16) for block in every]
    working = 10 * math.log10(variance(crops) / (variance(kept) * truth.attrs["noise_scale"] ** 2))
    assert truth.attrs["working_snr_db"] == pytest.approx(working, abs=0.1)


@pytest.mark.parametrize("slicing", ["image", "padded"])
def test_power_is_that_of_the_images(slicing: str) -> None:
    scenario = adapt_scenario("tiny", particles=250, settings=[f"image.slicing={slicing}"])
    from cryobench.simulate.truth import prepare_imager

    imager: Imager = prepare_imager(scenario, 4)
    with ThreadPoolExecutor(2) as pool:
        power = measure_signal(imager, pool, lambda *_: None)
    native = [imager.clean(*block, native=True) for block in blocks(0, 250)]
    assert power.sample == 250
    assert power.error == 0
    assert power.native == pytest.approx(variance(native), rel=1e-5)
    assert power.working == pytest.approx(variance([fourier_crop_images(images, 16) for images in native]), rel=1e-4)


def test_a_sample_tells_how_far_it_may_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryobench.scenario import power
    from cryobench.simulate.truth import prepare_imager

    deviations = []
    for seed in range(12):
        imager = prepare_imager(adapt_scenario("tiny", particles=2048), seed)
        with ThreadPoolExecutor(2) as pool:
            with monkeypatch.context() as all_of_them:
                all_of_them.setattr(power, "TAIL_SAMPLE", 2048)
                whole = power.measure_signal(imager, pool, lambda *_: None)
            with monkeypatch.context() as fewer:
                fewer.setattr(power, "SAMPLE", 256)
                fewer.setattr(power, "TAIL_SAMPLE", 128)
                sampled = power.measure_signal(imager, pool, lambda *_: None)
        assert sampled.sample == 256
        deviations.append((sampled.native / whole.native - 1) / sampled.error)
    # standardised deviations of twelve draws: mean square near one (chi-squared of 12 degrees over 12)
    assert 0.3 < np.square(deviations).mean() < 2.5
