from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from cryobench.dataset.store import digest, open_store, open_unfinished
from cryobench.errors import StoreError
from cryobench.physics.fourier import fourier_crop_images
from cryobench.scenario.draw import draw_particles
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.imager import Imager
from cryobench.scenario.micrographs import draw_micrographs
from cryobench.scenario.spec import Scenario
from cryobench.simulate import simulate
from cryobench.specimens.catalogue import find


def read(directory: Path) -> tuple[xr.Dataset, xr.Dataset]:
    return open_store(directory / "observed.zarr", "observed"), open_store(directory / "truth.zarr", "truth")


def tiny(**changes: object) -> Scenario:
    return adapt_scenario("tiny", **changes)  # type: ignore[arg-type]


def imager_of(scenario: Scenario, seed: int) -> Imager:
    spec = scenario.image
    return Imager.prepare(scenario, seed, [find(scenario.specimen).density(spec.native_box, spec.native_pixel_size)])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    simulate(tiny(), directory, seed=3, jobs=1)
    return directory


def test_same_bytes_for_any_worker_and_thread_count(dataset: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        simulate(tiny(), tmp_path, seed=3, jobs=3)
    finally:
        torch.set_num_threads(before)
    for name in ("observed.zarr", "truth.zarr"):
        files = sorted(p.relative_to(dataset) for p in (dataset / name).rglob("*") if p.is_file())
        assert files == sorted(p.relative_to(tmp_path) for p in (tmp_path / name).rglob("*") if p.is_file())
        for file in files:
            assert (dataset / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_particles_do_not_depend_on_how_many_there_are(dataset: Path, tmp_path: Path) -> None:
    simulate(tiny(particles=128), tmp_path, seed=3)
    few, many = read(tmp_path)[1], read(dataset)[1]
    np.testing.assert_array_equal(few["rotation"], many["rotation"][:128])
    np.testing.assert_array_equal(few["shift"], many["shift"][:128])


def test_another_seed_is_another_dataset(dataset: Path, tmp_path: Path) -> None:
    simulate(tiny(), tmp_path, seed=4)
    assert digest(read(tmp_path)[0]) != digest(read(dataset)[0])


def test_snr_is_what_the_scenario_says_at_the_native_pixel(dataset: Path) -> None:
    _, truth = read(dataset)
    imager = imager_of(tiny(), 3)
    clean = imager.clean(0, 192, native=True).double()
    # signal measured here over all native images; the store measured it in band plus a sample beyond
    assert truth.attrs["clean_signal_variance"] == pytest.approx(float(clean.var(correction=0)), rel=1e-5)
    snr = 10 * np.log10(float(clean.var(correction=0)) / truth.attrs["noise_scale"] ** 2)
    assert snr == pytest.approx(0.0, abs=0.01)


def test_working_images_are_the_fourier_crop_of_native_ones(dataset: Path) -> None:
    for scenario in (
        tiny(),
        tiny().model_copy(update={"image": tiny().image.model_copy(update={"slicing": "padded"})}),
    ):
        imager = imager_of(scenario, 3)
        expected = fourier_crop_images(imager.clean(0, 64, native=True), 16)
        torch.testing.assert_close(imager.clean(0, 64), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_images_are_signal_plus_scaled_noise(dataset: Path) -> None:
    observed, truth = read(dataset)
    noise = torch.as_tensor(observed["images"].values[:64]) - imager_of(tiny(), 3).clean(0, 64)
    # the Fourier crop from 24 to 16 px keeps the disc of 8: its share of the native coefficients
    kept = np.count_nonzero(np.hypot(*np.meshgrid(np.arange(-12, 12), np.arange(-12, 12))) < 8) / 24**2
    assert float(noise.var()) == pytest.approx(truth.attrs["noise_variance"] * kept, rel=0.05)


def test_noise_pools_of_data_and_halves_are_disjoint(dataset: Path) -> None:
    observed, _ = read(dataset)
    patches = observed["noise_patches"].values.reshape(64, -1)
    correlation = np.corrcoef(patches) - np.eye(64)
    assert np.abs(correlation).max() < 0.4  # some 200 pixels' worth of independent values: 6 standard deviations
    assert set(observed["patch_half"].values) == {1, 2}


def test_the_truth_cannot_be_drawn_again_from_what_a_method_may_read(dataset: Path) -> None:
    observed, truth = read(dataset)
    for secret in ("seed", "scenario", "salt", "specimen", "noise_scale"):
        assert secret not in observed.attrs
    text = str(observed.attrs)
    assert truth.attrs["salt"] not in text
    assert observed.attrs["truth_digest"] == digest(truth, salt=truth.attrs["salt"])
    assert observed.attrs["truth_digest"] != digest(truth)


def test_no_noise_means_clean_images(tmp_path: Path) -> None:
    simulate(tiny(snr_db=float("inf")), tmp_path, seed=3)
    observed, truth = read(tmp_path)
    assert truth.attrs["noise_scale"] == 0
    torch.testing.assert_close(torch.as_tensor(observed["images"].values[:64]), imager_of(tiny(), 3).clean(0, 64))


def test_plain_xarray_opens_a_dataset(dataset: Path) -> None:
    opened = xr.open_zarr(dataset / "observed.zarr")
    assert opened["images"].shape == (192, 16, 16)
    assert opened["defocus_u"].attrs["units"] == "angstrom"


def test_another_scenario_is_not_written_over(dataset: Path) -> None:
    with pytest.raises(StoreError, match="another scenario or seed"):
        simulate(tiny(), dataset, seed=9)


def test_a_stopped_run_is_completed_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = tiny(particles=2500)  # two shards
    simulate(scenario, tmp_path / "whole", seed=1)
    calls = 0

    def stop(stage: str, done: int, total: int) -> None:
        nonlocal calls
        calls += stage == "simulate"
        if stage == "simulate" and done > 2048:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(scenario, tmp_path / "stopped", seed=1, on_progress=stop)
    with pytest.raises(StoreError, match="unfinished"):
        open_store(tmp_path / "stopped" / "observed.zarr", "observed")
    simulate(scenario, tmp_path / "stopped", seed=1)
    whole, stopped = read(tmp_path / "whole")[0], read(tmp_path / "stopped")[0]
    assert digest(whole) == digest(stopped)
    assert calls > 0


def test_a_killed_run_is_completed_to_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from cryobench.simulate import simulate; "
        "from cryobench.scenario.files import adapt_scenario; "
        f"simulate(adapt_scenario('tiny', particles=10240), Path({str(tmp_path / 'killed')!r}), seed=1, jobs=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    images = tmp_path / "killed" / "observed.zarr" / "images" / "c"
    deadline = time.monotonic() + 60
    while not (images.is_dir() and len(list(images.iterdir())) >= 1) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = len(list(images.iterdir()))
    assert 1 <= written < 5, "the run was to be killed in the middle"
    simulate(tiny(particles=10240), tmp_path / "killed", seed=1)
    simulate(tiny(particles=10240), tmp_path / "whole", seed=1)
    assert digest(read(tmp_path / "killed")[0]) == digest(read(tmp_path / "whole")[0])


def test_half_sets_are_equal_and_interleaved(dataset: Path) -> None:
    halves = read(dataset)[0]["half"].values
    np.testing.assert_array_equal(halves[:4], [1, 2, 1, 2])


def test_poses_in_the_truth_made_the_images(dataset: Path) -> None:
    scenario = tiny()
    draws = draw_particles(scenario, 3, 0, 192, draw_micrographs(scenario.ctf, 3))
    np.testing.assert_array_equal(read(dataset)[1]["rotation"], draws.quaternions)


def test_a_store_without_its_truth_is_not_written_into(tmp_path: Path) -> None:
    simulate(tiny(), tmp_path, seed=1)
    shutil.rmtree(tmp_path / "truth.zarr")
    with pytest.raises(StoreError, match="no truth beside it"):
        simulate(tiny(), tmp_path, seed=7)
    assert not (tmp_path / "truth.zarr").exists()


def test_a_store_with_a_foreign_truth_is_refused(tmp_path: Path) -> None:
    simulate(tiny(), tmp_path / "a", seed=1)
    simulate(tiny(), tmp_path / "b", seed=2)
    shutil.rmtree(tmp_path / "a" / "truth.zarr")
    shutil.copytree(tmp_path / "b" / "truth.zarr", tmp_path / "a" / "truth.zarr")
    (tmp_path / "a" / "observed.zarr" / "images" / "c" / "0" / "0" / "0").unlink()
    group = open_unfinished(tmp_path / "a" / "observed.zarr", "observed")
    group.attrs["complete"] = False
    with pytest.raises(StoreError, match="not made from the truth beside it"):
        simulate(tiny(), tmp_path / "a", seed=2)
