"""Real particles into a store: the noise beside them, halves, resuming, and what cannot be imported."""

from __future__ import annotations

import importlib.util
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from cryobench.dataset import store as stores
from cryobench.dataset.store import digest, open_store
from cryobench.dataset.view import Observed
from cryobench.errors import InputError, StoreError
from cryobench.ingest.options import ImportOptions
from cryobench.ingest.relion import import_relion
from cryobench.interop.particles import ParticleTable
from cryobench.interop.relion import write_particles
from cryobench.physics.background import BackgroundSpectrum
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.grids import radius
from cryobench.physics.noise import colour, radial_power
from cryobench.physics.rotation import rotation_from_relion

PIXEL, BOX = 3.54, 64


def recipe() -> ModuleType:
    path = Path(__file__).parents[2] / "datasets" / "recipes" / "empiar10204.py"
    spec = importlib.util.spec_from_file_location("recipe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def star(data_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("betagal")
    recipe().main(["--data", str(data_directory / "empiar10204"), "--out", str(out)])
    return out / "particles.star"


@pytest.fixture(scope="module")
def betagal(star: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """All 1,408 particles at their own box."""
    return open_store(import_relion(star, tmp_path_factory.mktemp("whole"), ImportOptions(symmetry="D2")), "observed")


@pytest.fixture(scope="module")
def raw(data_directory: Path) -> Tensor:
    with mrcfile.open(data_directory / "empiar10204" / "particles_64_a.mrcs") as mrc:
        return torch.as_tensor(mrc.data.astype(np.float32))


def particles(directory: Path, images: np.ndarray, **changes: object) -> Path:
    """A STAR file and a stack of the given images in ``directory``."""
    n, box = len(images), images.shape[-1]
    with mrcfile.new(directory / "s.mrcs", overwrite=True) as mrc:
        mrc.set_data(np.zeros(images.shape, dtype=np.float32))
        mrc.data[...] = images  # without the header's statistics, which warn of NaN
    values = {
        "defocus_u": 1e4,
        "defocus_v": 1e4,
        "voltage": 300.0,
        "spherical_aberration": 2.7,
        "amplitude_contrast": 0.1,
    }
    zero = dict.fromkeys(("defocus_angle", "phase_shift", "b_factor"), 0.0)
    columns: dict[str, object] = {
        "source": directory / "p.star",
        "stack": np.full(n, "s.mrcs", dtype=object),
        "index": np.arange(n),
        "ctf": {name: np.full(n, value) for name, value in (values | zero).items()},
        "pixel_size": np.full(n, 2.0),
        "box": np.full(n, box),
        "micrograph": np.full(n, "m.mrc", dtype=object),
    }
    write_particles(directory / "p.star", ParticleTable(**(columns | changes)))  # type: ignore[arg-type]
    return directory / "p.star"


def noise(n: int, box: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, box, box)).astype(np.float32)


# -- the noise spectrum beside the particle ------------------------------------------------------------------------------


@pytest.mark.parametrize(("box", "fraction"), [(47, 0.25), (48, 0.4), (48, 0.44)])
def test_background_spectrum_is_that_of_whole_noise_images(box: int, fraction: float) -> None:
    """Cut from larger fields, so that nothing is periodic, and with the disc full of what must not be seen."""
    generator = torch.Generator().manual_seed(1)
    shells = torch.arange(box + 1) / 2
    power = 1 / (1 + (shells / 5) ** 2) + 0.02 + 0.3 * torch.exp(-((shells - 14) ** 2) / 6)  # 40-fold range, and a bump
    white = torch.randn(2000, 2 * box, 2 * box, generator=generator)
    fields = colour(white, power)[:, :box, :box]
    images = fields + 50 * (radius(box, 2, fields) <= fraction * box) + 7
    spectrum = BackgroundSpectrum(box, fraction * box)
    for block in images.split(1000):
        spectrum.add(block)
    expected = radial_power(fields)
    measured = spectrum.power()
    assert_allclose(measured[2:], expected[2:], rtol=0.05)
    assert abs(float((measured[2:] / expected[2:]).mean()) - 1) < 0.01
    # what it is for: the periodogram of the masked image mixes the shells
    leaky = radial_power(fields - fields.mean((-2, -1), keepdim=True), spectrum.background)
    assert (leaky[2:] / expected[2:] - 1).abs().max() > 2 * (measured[2:] / expected[2:] - 1).abs().max()


@pytest.mark.parametrize("box", [20, 25, 33, 64])
def test_the_largest_radius_leaves_background_at_every_lag(box: int) -> None:
    assert BackgroundSpectrum(box, 0.45 * box).background.mean() > 0.3
    for radius_in_pixels in (0.46 * box, 0.0, float("nan")):
        with pytest.raises(InputError, match="expected a particle radius above 0 and at most"):
            BackgroundSpectrum(box, radius_in_pixels)


def test_a_very_small_box_may_have_no_background() -> None:
    with pytest.raises(InputError, match="with background around it"):
        BackgroundSpectrum(8, 3.5)


def test_spectrum_of_few_images_stays_positive() -> None:
    spectrum = BackgroundSpectrum(32, 14.4)
    spectrum.add(torch.as_tensor(noise(1, 32)))
    assert (spectrum.power() > 0).all()
    with pytest.raises(InputError, match="got none"):
        BackgroundSpectrum(32, 10.0).power()


def test_noise_agrees_with_relion(betagal: xr.Dataset, data_directory: Path) -> None:
    """RELION's noise after 2D classification of the same dataset, with nothing fitted.

    Its ``sigma2_noise`` is the power of one component, real or imaginary, of a transform divided by the number of pixels, of
    images multiplied by the particle mask (200 Å across, a raised cosine of 5 px beyond it, zero outside), so that
    ``mean |F|^2 / box^2 = 2 box^2 sigma2_noise / (mean square of the mask)``.
    """
    path = data_directory / "metadata" / "empiar10204_class2d_it025_model.star"
    sigma2 = starfile.read(path, always_dict=True)["model_optics_group_1"]["rlnSigma2Noise"].to_numpy()
    edge = ((radius(BOX, 2, torch.zeros(1)) - 100 / PIXEL) / 5).clamp(0, 1)
    mask = 0.5 * (1 + torch.cos(torch.pi * edge))
    relion = 2 * BOX**2 * sigma2 / float(mask.square().mean())
    for half in (0, 1):
        ratio = betagal["noise_power"].values[half] / relion
        assert np.median(ratio[8:]) == pytest.approx(1, abs=0.02)
        assert_allclose(ratio[6:], 1, atol=0.06)
        # neighbours that reach into the background are noise to us and signal to RELION
        assert 1 < ratio[2:6].mean() < 1.35


# -- the store ---------------------------------------------------------------------------------------------------------


def test_images_and_ctfs_are_the_files(betagal: xr.Dataset, raw: Tensor, data_directory: Path) -> None:
    assert_array_equal(betagal["images"].values, raw.numpy())
    table = pd.read_csv(data_directory / "empiar10204" / "particles_64_a.csv")
    assert_allclose(betagal["defocus_u"], table["dU_A"], rtol=1e-8)
    assert_allclose(betagal["defocus_angle"], np.deg2rad(table["dAng_deg"]), rtol=1e-8)
    assert_array_equal(betagal["voltage"], 200)
    assert len(np.unique(betagal["micrograph"])) == 6
    same = pd.DataFrame({"a": table["micrograph"], "b": betagal["micrograph"].values}).drop_duplicates()
    assert len(same) == 6
    attributes = betagal.attrs
    assert attributes["voxel_size"] == pytest.approx(PIXEL)
    assert attributes["symmetry"] == "D2"
    assert attributes["source"] == {
        "format": "RELION STAR",
        "file": "particles.star",
        "stacks": ["particles_64_a.mrcs"],
    }
    assert str(data_directory) not in str(attributes)
    assert "90.62 Å" in attributes["noise_note"]
    assert "truth_digest" not in attributes
    assert "given_rotation" not in betagal


def test_halves_are_even_and_blind_to_micrographs(betagal: xr.Dataset) -> None:
    half, micrograph = betagal["half"].values, betagal["micrograph"].values
    assert np.bincount(half).tolist() == [0, 704, 704]
    share = [np.mean(half[micrograph == m] == 1) for m in range(6)]
    assert 0.35 < min(share) < max(share) < 0.65
    assert any("shuffled with seed 0" in note for note in betagal.attrs["notes"])


def test_noise_pools_have_the_spectrum_of_their_half(betagal: xr.Dataset) -> None:
    patches, half = torch.as_tensor(betagal["noise_patches"].values), betagal["patch_half"].values
    assert np.bincount(half).tolist() == [0, 512, 512]
    assert_array_equal(betagal["patch_micrograph"], -1)
    for h in (1, 2):
        ratio = radial_power(patches[torch.as_tensor(half == h)]) / torch.as_tensor(
            betagal["noise_power"].values[h - 1]
        )
        assert_allclose(ratio[1:], 1, atol=0.1)
    # the same index of the two pools shares nothing
    a, b = patches[:512].flatten(1), patches[512:].flatten(1)
    assert float(torch.nn.functional.cosine_similarity(a, b).abs().max()) < 0.15


def test_a_method_sees_the_store(betagal: xr.Dataset) -> None:
    view = Observed(betagal, 2)
    assert len(view) == 704
    assert view.read(slice(0, 3)).images.shape == (3, BOX, BOX)
    assert view.noise_power.shape == (BOX // 2 + 1,)
    view.sample_poses(2, torch.Generator())


def test_crop_invert_and_options(star: Path, raw: Tensor, betagal: xr.Dataset, tmp_path: Path) -> None:
    path = import_relion(
        star, tmp_path, ImportOptions(box=32, noise_patches=64, shift_half_width=0, seed=3), invert=True
    )
    dataset = open_store(path, "observed")
    assert_allclose(dataset["images"].values, -fourier_crop_images(raw, 32).numpy(), atol=1e-5)
    assert dataset.attrs["voxel_size"] == pytest.approx(2 * PIXEL)
    assert dataset.attrs["assumed_shift"] == {"kind": "none"}
    assert (dataset["half"].values != betagal["half"].values).any()
    # a crop keeps pixel values: the same noise per pixel spreads over a quarter of the coefficients
    expected = betagal["noise_power"].values.mean(0)[:16] / 4
    assert_allclose(dataset["noise_power"].values.mean(0)[1:16], expected[1:], rtol=0.03)
    patches = torch.as_tensor(dataset["noise_patches"].values[dataset["patch_half"].values == 1])
    assert len(patches) == 64
    assert_allclose(radial_power(patches)[2:], dataset["noise_power"].values[0, 2:], rtol=0.25)


def test_import_is_the_same_whatever_the_thread_count(tmp_path: Path) -> None:
    star = particles(tmp_path, noise(40, 24))
    digests = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        path = import_relion(star, tmp_path / str(threads), ImportOptions(box=16, noise_patches=4))
        assert torch.get_num_threads() == threads
        digests.add(digest(open_store(path, "observed")))
    torch.set_num_threads(1)
    assert len(digests) == 1


def test_given_poses_and_halves_are_kept(tmp_path: Path) -> None:
    angles = np.random.default_rng(0).uniform(1, 90, (12, 3))
    quaternion, shift = rotation_from_relion(angles).as_quat(), np.arange(24.0).reshape(12, 2)
    half = np.array([1, 1, 2] * 4, dtype=np.int8)
    star = particles(tmp_path, noise(12, 16), quaternion=quaternion, shift=shift, half=half)
    dataset = open_store(import_relion(star, tmp_path / "out", ImportOptions(noise_patches=2)), "observed")
    assert_array_equal(dataset["half"], half)
    assert_allclose(dataset["given_rotation"], quaternion, atol=1e-8)
    assert_allclose(dataset["given_shift"], shift, atol=1e-8)
    assert dataset.attrs["assumed_shift"] == {"kind": "triangular", "half_width": 28.0}


def test_relion30_dialect_of_real_particles(data_directory: Path, tmp_path: Path) -> None:
    source = data_directory / "particles"
    shutil.copy(source / "empiar_10076_7.mrcs", tmp_path / "empiar_10076_7.mrc")
    path = import_relion(
        source / "empiar_10076_7.star",
        tmp_path / "out",
        ImportOptions(box=32, noise_patches=8),
        invert=True,
        stack_directory=tmp_path,
    )
    dataset = open_store(path, "observed")
    assert dataset.sizes["particle"] == 7
    assert dataset.attrs["voxel_size"] == pytest.approx(1.31 * 10, rel=1e-5)
    assert (dataset["noise_power"].values > 0).all()


# -- killed and repeated -----------------------------------------------------------------------------------------------


def test_killed_import_is_unfinished_and_completed_by_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PARTICLES_PER_SHARD", 128)
    star = particles(tmp_path, noise(300, 16))
    out, options = tmp_path / "out", ImportOptions(noise_patches=8)

    def stop(_stage: str, done: int, total: int) -> None:
        assert total == 300
        if done > 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_relion(star, out, options, on_progress=stop)
    with pytest.raises(StoreError, match="unfinished"):
        open_store(out / "observed.zarr", "observed")
    assert stores.has_shard(out / "observed.zarr", 0)
    assert not stores.has_shard(out / "observed.zarr", 128)
    with pytest.raises(StoreError, match="begun by another import"):
        import_relion(star, out, replace(options, seed=1))
    finished = import_relion(star, out, options)
    clean = import_relion(star, tmp_path / "clean", options)
    assert digest(open_store(finished, "observed")) == digest(open_store(clean, "observed"))
    with pytest.raises(StoreError, match="found a whole store"):
        import_relion(star, out, options)


@contextmanager
def full_disc(limit: int) -> Iterator[None]:
    """No file may grow past ``limit`` bytes, as none can on a full disc."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [2000, 100_000])
def test_a_full_disc_leaves_nothing_that_looks_whole(tmp_path: Path, limit: int) -> None:
    """Before much is written, or with the images begun."""
    star, out, options = particles(tmp_path, noise(200, 16)), tmp_path / "out", ImportOptions(noise_patches=8)
    with full_disc(limit), pytest.raises(StoreError, match=r"could not write .*observed.*: File too large; make room"):
        import_relion(star, out, options)
    if (out / "observed.zarr").exists():
        with pytest.raises(StoreError, match="unfinished"):
            open_store(out / "observed.zarr", "observed")
    finished = import_relion(star, out, options)
    clean = import_relion(star, tmp_path / "clean", options)
    assert digest(open_store(finished, "observed")) == digest(open_store(clean, "observed"))


# -- what cannot be imported -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": 17}, "expected a box from 8 to the images' 16 px, got 17"),
        ({"box": 4}, "expected a box from 8"),
        ({"symmetry": "X"}, "expected a point group"),
        ({"particle_radius": 15.0}, r"at most 7.2 px \(0.45 of the box of 16 px\), .*got 7.5 px"),
        ({"particle_radius": float("nan")}, "expected a particle radius"),
        ({"noise_patches": 0}, "at least 1 noise patch"),
        ({"shift_half_width": float("nan")}, "shift half-width of 0 Å or more"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, object], message: str) -> None:
    star = particles(tmp_path, noise(4, 16))
    with pytest.raises(InputError, match=message):
        import_relion(star, tmp_path / "out", ImportOptions(**options))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_bad_images_name_their_row(tmp_path: Path) -> None:
    images = noise(100, 16)
    images[77, 3, 4] = np.nan
    star = particles(tmp_path, images)
    with pytest.raises(InputError, match=r"p\.star: particle row 78: expected finite pixels in image 78 of s\.mrcs"):
        import_relion(star, tmp_path / "out", ImportOptions(noise_patches=2))
    with pytest.raises(StoreError, match="unfinished"):
        open_store(tmp_path / "out" / "observed.zarr", "observed")


def test_halves_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at least two particles, one for each half, got 1"):
        import_relion(particles(tmp_path, noise(1, 16)), tmp_path / "out")


def test_particles_of_one_half_alone_are_split_anew_and_it_is_said(tmp_path: Path) -> None:
    options = ImportOptions(noise_patches=2, seed=3)
    star = particles(tmp_path, noise(40, 16), half=np.full(40, 2, dtype=np.int8))
    split = open_store(import_relion(star, tmp_path / "out", options), "observed")
    assert np.bincount(split["half"].values).tolist() == [0, 20, 20]
    assert any(
        "shuffled with seed 3" in note and "all particles are of half 2" in note for note in split.attrs["notes"]
    )
    # as if the file said nothing of halves
    free = open_store(import_relion(particles(tmp_path, noise(40, 16)), tmp_path / "free", options), "observed")
    assert_array_equal(split["half"], free["half"])
    assert not any("all particles" in note for note in free.attrs["notes"])


def test_mixed_pixel_sizes(tmp_path: Path) -> None:
    star = particles(tmp_path, noise(4, 16), pixel_size=np.array([2, 2, 2.1, 2]))
    with pytest.raises(InputError, match=r"got 16 px of 2 Å in particle row 1 and 16 px of 2\.1 Å in particle row 3"):
        import_relion(star, tmp_path / "out")


def test_recipe_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        recipe().main(["--data", str(tmp_path), "--out", str(tmp_path)])
    assert caught.value.code == 2
    assert "expected particles_64_a.csv" in capsys.readouterr().err
