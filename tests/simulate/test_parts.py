"""What else a truth tells: the states of an ensemble, the detector, and the files that a scenario named."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryobench.dataset.store import open_store
from cryobench.errors import InputError, StoreError
from cryobench.physics.fourier import fourier_crop_images
from cryobench.scenario.draw import draw_states
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.imager import Imager
from cryobench.scenario.streams import blocks
from cryobench.simulate import simulate
from cryobench.simulate.truth import imager_of_truth
from cryobench.specimens.catalogue import find

CLEAN = {"snr_db": float("inf"), "particles": 160}


def write_map(path: Path, seed: int, box: int = 24) -> Path:
    rng, grid = np.random.default_rng(seed), np.mgrid[:box, :box, :box] - box // 2
    centres = rng.normal(0, box / 10, (5, 3))
    density = sum(np.exp(-np.square(grid - c[:, None, None, None]).sum(0) / 8) for c in centres)
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.asarray(density, np.float32))
        file.voxel_size = 9.768
    return path


@pytest.fixture
def ensemble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A specimen of two maps, three quarters and one quarter of the particles."""
    from cryobench.simulate import images, truth
    from cryobench.specimens.ensemble import mix

    paths = [write_map(tmp_path / f"{name}.mrc", seed) for seed, name in enumerate("ab")]
    mixed = mix("pair", [(find(str(paths[0])), 3.0), (find(str(paths[1])), 1.0)])
    for module in (truth, images):
        monkeypatch.setattr(module, "find", lambda _: mixed)
    return paths


@pytest.mark.parametrize("slicing", ["image", "padded"])
def test_every_particle_is_imaged_from_its_own_state(tmp_path: Path, ensemble: list[Path], slicing: str) -> None:
    scenario = adapt_scenario("tiny", **CLEAN, settings=[f"image.slicing={slicing}"])  # type: ignore[arg-type]
    simulate(scenario, tmp_path / "run", seed=1)
    observed = open_store(tmp_path / "run" / "observed.zarr", "observed")["images"].values
    truth = open_store(tmp_path / "run" / "truth.zarr", "truth")
    states = truth["state"].values
    assert set(states) == {0, 1}
    volumes = truth["state_volume"].values
    np.testing.assert_allclose(truth["volume"].values, 0.75 * volumes[0] + 0.25 * volumes[1], rtol=0, atol=1e-6)
    for state, path in enumerate(ensemble):
        alone = Imager.prepare(scenario, 1, [find(str(path)).density(24, 9.768)])
        expected = torch.cat([alone.clean(*block) for block in blocks(0, 160)]).numpy()
        chosen = states == state
        np.testing.assert_allclose(
            observed[chosen], expected[chosen], rtol=0, atol=1e-5 * float(np.abs(expected).max())
        )
        assert np.abs(observed[~chosen] - expected[~chosen]).max() > 0.01 * np.abs(expected).max()
    whole = imager_of_truth(tmp_path / "run" / "truth.zarr")
    np.testing.assert_array_equal(whole.clean(0, 64).numpy(), observed[:64])


def test_states_are_drawn_in_proportion_and_by_index() -> None:
    states = draw_states((0.5, 0.2, 0.3), 3, 0, 20000)
    np.testing.assert_allclose(np.bincount(states) / 20000, [0.5, 0.2, 0.3], atol=0.015)
    np.testing.assert_array_equal(states[777:1001], draw_states((0.5, 0.2, 0.3), 3, 777, 1001))
    assert set(draw_states((1.0,), 3, 0, 100)) == {0}


def test_a_single_specimen_has_no_states(tmp_path: Path) -> None:
    simulate(adapt_scenario("tiny", settings=["noise.pool=16"]), tmp_path, seed=1)
    assert "state" not in open_store(tmp_path / "truth.zarr", "truth")


@pytest.mark.parametrize("slicing", ["image", "padded"])
def test_the_detector_is_in_the_images_and_working_ones_are_crops(tmp_path: Path, slicing: str) -> None:
    star = tmp_path / "mtf.star"
    rows = "\n".join(f"{f:.3f} {1 - 1.2 * f:.4f}" for f in np.linspace(0, 0.5, 11))
    star.write_text(f"data_mtf\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n{rows}\n", encoding="utf-8")
    given = [f"image.slicing={slicing}", f"ctf.mtf={star}"]
    with_detector = adapt_scenario("tiny", **CLEAN, settings=given)  # type: ignore[arg-type]
    without = adapt_scenario("tiny", **CLEAN, settings=given[:1])  # type: ignore[arg-type]
    volume = find("phantom").density(24, 9.768)
    imager, plain = (Imager.prepare(scenario, 1, [volume]) for scenario in (with_detector, without))
    native = imager.clean(0, 64, native=True)
    expected = fourier_crop_images(native, 16)
    torch.testing.assert_close(imager.clean(0, 64), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    # of the native spectrum at frequency 3 of 24 px: 1 - 1.2 * 3 / 24
    ratio = torch.fft.rfft2(native)[:, 0, 3] / torch.fft.rfft2(plain.clean(0, 64, native=True))[:, 0, 3]
    if slicing == "image":
        np.testing.assert_allclose(ratio.real, 1 - 1.2 * 3 / 24, rtol=1e-3)


def test_a_dataset_is_not_completed_with_other_inputs(tmp_path: Path) -> None:
    table = tmp_path / "ctf with space.txt"
    line = "1.0 {u} {u} 0 0 0.5 3.0\n"
    table.write_text(
        "# Pixel size: 1.0 Angstroms ; acceleration voltage: 300.0 keV ; spherical aberration: 2.70 mm\n",
        encoding="utf-8",
    )
    with table.open("a", encoding="utf-8") as file:
        file.writelines(line.format(u=u) for u in (9000.0, 12000.0))
    patches = tmp_path / "patches.mrcs"
    with mrcfile.new(patches) as stack:
        stack.set_data(np.random.default_rng(0).standard_normal((12, 40, 40)).astype(np.float32))
        stack.voxel_size = 9.768
    specimen = write_map(tmp_path / "specimen.mrc", 1)
    scenario = adapt_scenario("tiny", ctf_table=table, noise=patches, specimen=str(specimen), particles=64)
    run = tmp_path / "run"
    simulate(scenario, run, seed=1)
    recorded = open_store(run / "truth.zarr", "truth").attrs["inputs"]
    assert set(recorded) == {"ctf.path", "noise.path", "specimen"}
    assert all(len(digest) == 64 for digest in recorded.values())
    for path, name in ((table, "ctf.path"), (patches, "noise.path"), (specimen, "specimen")):
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        simulate(scenario, run, seed=1)  # whole: nothing is left to do
        (run / "observed.zarr" / "images" / "c" / "0" / "0" / "0").unlink()
        with pytest.raises(StoreError, match=rf"{path.name} \({name} of the scenario\) has changed since"):
            simulate(scenario, run, seed=1)
        path.write_bytes(before)
        simulate(scenario, run, seed=1)
    table.unlink()
    (run / "observed.zarr" / "images" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(InputError, match=r"found none|no such file|expected"):
        simulate(scenario, run, seed=1)
