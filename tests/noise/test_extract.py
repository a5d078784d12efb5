"""Patches cut from micrographs that are simulated here: a known noise field with discs of signal at known places."""

from __future__ import annotations

import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from typer.testing import CliRunner

from cryobench.cli import app
from cryobench.dataset.store import open_store
from cryobench.errors import InputError, StoreError
from cryobench.interop.box_files import write_boxes
from cryobench.interop.boxes import BoxTable
from cryobench.noise.defects import find_defects, mend
from cryobench.noise.extract import extract_noise
from cryobench.noise.patches import independent_patches, read_patches
from cryobench.physics.noise import colour, radial_power

PIXEL = 2.0
SIDE = 640
PARTICLE = 48
BOX = 64


def spectrum(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative power at frequencies in 1/angstrom: ice on top of counts."""
    return 1 + 4 / (1 + (frequency / 0.02) ** 2)


def field(seed: int, side: int = SIDE, pixel: float = PIXEL) -> NDArray[np.float32]:
    """Noise of :func:`spectrum`, mean 10."""
    white = torch.randn(1, side, side, generator=torch.Generator().manual_seed(seed))
    power = torch.as_tensor(spectrum(np.arange(side // 2 + 1) / (side * pixel)), dtype=torch.float32)
    return (10 + colour(white, power)[0]).numpy()


def place(image: NDArray[np.float32], seed: int, count: int = 18) -> NDArray[np.int64]:
    """Dark discs added to the image; their centres (x, y)."""
    centres = np.random.default_rng(seed).integers(30, SIDE - 30, size=(count, 2))
    y, x = np.indices(image.shape)
    for cx, cy in centres:
        image -= 3 * (np.hypot(x - cx, y - cy) < PARTICLE / 2 - 2)
    return centres


def write(path: Path, image: NDArray[np.float32], pixel: float = PIXEL) -> Path:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(image)
        file.voxel_size = pixel
    return path


@pytest.fixture(scope="module")
def micrographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path, list[NDArray[np.int64]]]:
    """Three micrographs, their boxes in one CSV, and the particles' centres."""
    folder = tmp_path_factory.mktemp("micrographs")
    paths, centres = [], []
    for number in range(3):
        image = field(number)
        centres.append(place(image, number))
        paths.append(write(folder / f"mic {number}.mrc", image))
    names = np.repeat([path.name for path in paths], [len(c) for c in centres]).astype(object)
    joined = np.concatenate(centres).astype(np.float64)
    write_boxes(folder / "boxes.csv", BoxTable(folder, names, joined, np.full(len(joined), PARTICLE)))
    return paths, folder / "boxes.csv", centres


@pytest.fixture(scope="module")
def store(
    micrographs: tuple[list[Path], Path, list[NDArray[np.int64]]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("out") / "noise.zarr"
    extract_noise(micrographs[0], micrographs[1], out, box=BOX, distance=20.0, edge=20.0)
    return out


def test_patches_are_far_from_particles_and_edges_and_apart(store: Path, micrographs: tuple) -> None:
    found = open_store(store, "noise")
    positions, number = found["position"].values, found["patch_micrograph"].values
    assert len(positions) >= 12
    gap, edge = 20 / PIXEL, 20 / PIXEL
    assert positions.min() >= edge
    assert (positions.max() + BOX) <= SIDE - edge
    for m, centres in enumerate(micrographs[2]):
        own = positions[number == m]
        # two squares are as far apart as the larger of their gaps along x and y
        between = np.abs(own[:, None] + BOX / 2 - 0.5 - centres[None]).max(-1) - BOX / 2 - PARTICLE / 2
        assert between.min() >= gap - 1
        among = np.abs(own[:, None] - own[None]).max(-1)[~np.eye(len(own), dtype=bool)]
        assert among.min() >= BOX


def test_patches_are_the_micrographs_pixels_inverted_and_normalised(store: Path, micrographs: tuple) -> None:
    found = open_store(store, "noise")
    for row in (0, len(found["patches"]) - 1):
        m = int(found["patch_micrograph"][row])
        x, y = found["position"].values[row]
        with mrcfile.open(micrographs[0][m]) as file:
            window = file.data[y : y + BOX, x : x + BOX]
        np.testing.assert_allclose(found["patch_mean"].values[row], window.mean(), rtol=1e-4)
        np.testing.assert_allclose(
            found["patches"].values[row], -(window - window.mean()) / window.std(), atol=1e-3, rtol=1e-3
        )
    assert found.attrs["micrographs"] == [path.name for path in micrographs[0]]
    assert [len(source["sha256"]) for source in found.attrs["sources"]] == [64] * 3


def test_spectrum_is_that_of_the_noise_without_particles(store: Path) -> None:
    found = open_store(store, "noise")
    count = found.sizes["patch"]
    # what patches of the bare noise field have, cut anywhere: the mean is off and edges leak alike
    bare = torch.stack(
        [torch.as_tensor(field(50 + i, BOX * 6)).unfold(0, BOX, BOX).unfold(1, BOX, BOX) for i in range(4)]
    )
    bare = bare.reshape(-1, BOX, BOX)
    bare = (bare - bare.mean((-2, -1), keepdim=True)) / bare.std((-2, -1), keepdim=True)
    expected, measured = radial_power(bare), found["radial_power"].values
    k = np.fft.fftfreq(BOX, 1 / BOX)
    members = np.bincount(np.rint(np.hypot(k[:, None], k)).astype(int).ravel())[: BOX // 2 + 1]
    error = np.sqrt(2 / members * (1 / count + 1 / len(bare)))
    assert (np.abs(measured[1:] / expected[1:].numpy() - 1) < 4.5 * error[1:]).all()
    # and with the particles it would not be: discs add power at their own size
    assert measured[2] == pytest.approx(float(expected[2]), rel=4.5 * error[2])


def test_quiet_places_come_first(tmp_path: Path) -> None:
    image = field(7)
    image[:, 320:] = 10 + 1.5 * (image[:, 320:] - 10)
    path = write(tmp_path / "m.mrc", image)
    boxes = BoxTable(tmp_path, None, np.array([[320.0, 320.0]]), np.array([PARTICLE]))
    write_boxes(tmp_path / "m.box", boxes)
    extract_noise([path], tmp_path / "m.box", tmp_path / "n.zarr", box=BOX, per_micrograph=8)
    found = open_store(tmp_path / "n.zarr", "noise")
    assert found.sizes["patch"] == 8
    assert (found["position"].values[:, 0] + BOX <= 330).all()


def test_resampled_patches_have_the_spectrum_of_the_same_frequencies(tmp_path: Path, micrographs: tuple) -> None:
    out = tmp_path / "n.zarr"
    extract_noise(micrographs[0], micrographs[1], out, box=32, pixel_size=4.0, distance=20.0, edge=20.0)
    patches = read_patches(out)
    assert (patches.pixel_size, patches.box) == (4.0, 32)
    power = radial_power(patches.images).numpy()
    frequency = np.arange(17) / (32 * 4.0)
    # both normalised by what lies inside these frequencies
    ratio = power[2:15] / spectrum(frequency[2:15])
    assert ratio.std() / ratio.mean() < 0.25
    scaled = open_store(out, "noise")["position"].values * 2
    for m, centres in enumerate(micrographs[2]):
        own = scaled[patches.micrograph == m]
        between = np.abs(own[:, None] + BOX / 2 - centres[None]).max(-1) - BOX / 2 - PARTICLE / 2
        assert between.min() >= 20 / PIXEL - 2


def test_patches_of_a_store_are_independent(store: Path) -> None:
    patches = read_patches(store)
    assert patches.apart
    assert len(independent_patches(patches.images)) == len(patches)


def test_the_same_micrograph_twice_is_refused(tmp_path: Path, micrographs: tuple) -> None:
    paths, boxes, _ = micrographs
    with pytest.raises(InputError, match="different names"):
        extract_noise([paths[0], paths[0]], boxes, tmp_path / "n.zarr", box=BOX)
    copy = shutil.copy(paths[0], tmp_path / "copy.mrc")
    with pytest.raises(InputError, match=r"copy\.mrc is the same as mic 0\.mrc"):
        extract_noise([paths[0], copy], boxes, tmp_path / "n.zarr", box=BOX)
    with mrcfile.open(copy, mode="r+") as file:
        file.voxel_size = PIXEL * 1.0001  # other bytes, the same pixels
    with pytest.raises(InputError, match="the same as"):
        extract_noise([paths[0], copy], boxes, tmp_path / "n.zarr", box=BOX)
    assert list(tmp_path.iterdir()) == [tmp_path / "copy.mrc"]


def test_defects_are_found_and_mended() -> None:
    image = field(3, 256)
    clean = image.copy()
    image[10, 20], image[11, 20], image[100, 100] = 1000, -500, np.nan
    image[:, 77] = 10  # dead column
    image[160:184, 160:184] = 0  # dead block
    broken = find_defects(image)
    assert broken[[10, 11, 100], [20, 20, 100]].all()
    assert broken[:, 77].all()
    assert broken[160:184, 160:184].all()
    assert broken.sum() < 4 + 256 + 24**2 + 0.001 * image.size
    assert find_defects(clean).mean() < 1e-4
    mended = mend(image, broken, np.random.default_rng(0))
    assert np.isfinite(mended).all()
    assert np.array_equal(mended[~broken], image[~broken])
    assert abs(mended[broken].std() / clean[~broken].std() - 1) < 0.2


def test_patches_avoid_defects(tmp_path: Path) -> None:
    image = field(5)
    image[:, 200:203] = 0
    image[400:460] = 10
    image[50, 50] = 1e6
    boxes = BoxTable(tmp_path, None, np.array([[600.0, 30.0]]), np.array([PARTICLE]))
    write_boxes(tmp_path / "m.box", boxes)
    extract_noise([write(tmp_path / "m.mrc", image)], tmp_path / "m.box", tmp_path / "n.zarr", box=BOX, edge=0)
    found = open_store(tmp_path / "n.zarr", "noise")
    x, y = found["position"].values.T
    assert not ((x < 203) & (x + BOX > 200)).any()
    assert not ((y < 460) & (y + BOX > 400)).any()
    assert np.abs(found["patches"].values).max() < 8


def test_bad_input_is_named(tmp_path: Path, micrographs: tuple) -> None:
    (first, _, _), boxes, _ = micrographs
    out = tmp_path / "n.zarr"
    with pytest.raises(InputError, match="room for a patch of 1200 Å"):
        extract_noise([first], boxes, out, box=600)
    assert not out.exists()
    assert not list(tmp_path.iterdir())
    for wrong in ({"pixel_size": float("nan")}, {"particle_diameter": 0.0}, {"micrograph_pixel_size": -1.0}):
        with pytest.raises(InputError, match="above 0 Å"):
            extract_noise([first], boxes, out, box=BOX, **wrong)
    with pytest.raises(InputError, match="at least the micrographs' 2 Å, got 1 Å"):
        extract_noise([first], boxes, out, box=BOX, pixel_size=1.0)
    tiny = write(tmp_path / "mic 0.mrc", field(9, 6))
    with pytest.raises(InputError, match="room for a patch"):
        extract_noise([tiny], boxes, out, box=BOX)
    other = write(tmp_path / "other.mrc", field(9))
    with pytest.raises(InputError, match=r"boxes of others only \(mic 0.mrc"):
        extract_noise([other], boxes, out, box=BOX)
    wrong = write(tmp_path / "mic 1.mrc", field(9), pixel=2.5)
    with pytest.raises(InputError, match=r"one pixel size, got 2 Å .* and 2\.5 Å"):
        extract_noise([first, wrong], boxes, out, box=BOX)
    bare = write(tmp_path / "mic 1.mrc", field(9), pixel=0)
    with pytest.raises(InputError, match="--micrograph-pixel-size"):
        extract_noise([bare], boxes, out, box=BOX)
    stack = write(tmp_path / "mic 2.mrc", np.stack([field(9, 128)] * 2))
    with pytest.raises(InputError, match="stack of 2"):
        extract_noise([stack], boxes, out, box=BOX)
    (tmp_path / "far.csv").write_text("micrograph,x,y,w,h\nmic 0,9000,9000,48,48\n", encoding="utf-8")
    with pytest.raises(InputError, match="640 x 640 px"):
        extract_noise([first], tmp_path / "far.csv", out, box=BOX)
    out.mkdir()
    with pytest.raises(StoreError, match="expected nothing"):
        extract_noise([first], boxes, out, box=BOX)


def test_positions_alone_need_a_diameter(tmp_path: Path) -> None:
    path = write(tmp_path / "m.mrc", field(1))
    write_boxes(tmp_path / "m.star", BoxTable(tmp_path, None, np.array([[300.0, 300.0]]), np.zeros(1, np.int64)))
    with pytest.raises(InputError, match="--particle-diameter"):
        extract_noise([path], tmp_path / "m.star", tmp_path / "n.zarr", box=BOX)
    said = extract_noise([path], tmp_path / "m.star", tmp_path / "n.zarr", box=BOX, particle_diameter=96.0)
    assert said.startswith("16 patches of 64 px of 2 Å from 1 of 1")
    corner = open_store(tmp_path / "n.zarr", "noise")["position"].values
    assert (np.abs(corner + BOX / 2 - 0.5 - 300).max(1) - BOX / 2 - 24 >= 10 - 1).all()


def test_the_flattest_regions_are_really_ranked_by_coarse_variance(tmp_path: Path) -> None:
    """A faint smooth blob, invisible in single pixels, moves a place to the back of the row."""
    image = field(11)
    y, x = np.indices(image.shape)
    image += 1.5 * np.sin(2 * np.pi * x / 40) * ndimage.gaussian_filter((y < 320).astype(np.float32), 5)
    boxes = BoxTable(tmp_path, None, np.array([[320.0, 320.0]]), np.array([8]))
    write_boxes(tmp_path / "m.box", boxes)
    extract_noise(
        [write(tmp_path / "m.mrc", image)], tmp_path / "m.box", tmp_path / "n.zarr", box=BOX, per_micrograph=8
    )
    assert (open_store(tmp_path / "n.zarr", "noise")["position"].values[:, 1] > 290).all()


def test_the_command_extracts_and_says_so(tmp_path: Path, micrographs: tuple) -> None:
    paths, boxes, _ = micrographs
    asked = [
        "--boxes",
        str(boxes),
        "--box",
        "64",
        "--out",
        str(tmp_path / "n.zarr"),
        "--per-micrograph",
        "4",
        "--protein",
        "bright",
    ]
    result = CliRunner().invoke(app, ["noise", "extract", *map(str, paths), *asked])
    assert result.exit_code == 0, result.output
    assert "12 patches of 64 px of 2 Å from 3 of 3 micrographs" in " ".join(result.output.split())
    told = " ".join(CliRunner().invoke(app, ["dataset", "info", str(tmp_path / "n.zarr")]).output.split())
    assert "of each micrograph 4 to 4 patches" in told
    assert "at 128 Å" in told
    bright = open_store(tmp_path / "n.zarr", "noise")
    x, y = bright["position"].values[0]
    with mrcfile.open(paths[0]) as file:
        window = file.data[y : y + BOX, x : x + BOX]
    assert np.corrcoef(window.ravel(), bright["patches"].values[0].ravel())[0, 1] > 0.999


def test_micrographs_that_nobody_picked_are_left_out(tmp_path: Path, micrographs: tuple) -> None:
    paths, boxes, _ = micrographs
    other = write(tmp_path / "other.mrc", field(20))
    said = extract_noise([paths[0], other], boxes, tmp_path / "n.zarr", box=BOX)
    assert "from 1 of 2 micrographs" in said
    assert "1 micrographs without boxes were left out" in said
    assert (open_store(tmp_path / "n.zarr", "noise")["patch_micrograph"].values == 0).all()


def test_quietest_first_does_not_take_noise_that_is_quiet_by_chance(tmp_path: Path) -> None:
    """On micrographs that are alike everywhere the power of the patches is that of the noise."""
    paths = [write(tmp_path / f"m{i}.mrc", field(100 + i)) for i in range(6)]
    lines = "".join(f"m{i},300,300,48,48\n" for i in range(6))
    (tmp_path / "b.csv").write_text(f"micrograph,x,y,w,h\n{lines}", encoding="utf-8")
    extract_noise(paths, tmp_path / "b.csv", tmp_path / "n.zarr", box=BOX)
    anywhere = torch.stack([torch.as_tensor(field(200 + i)).unfold(0, BOX, BOX).unfold(1, BOX, BOX) for i in range(4)])
    anywhere = anywhere.reshape(-1, BOX, BOX)
    anywhere = anywhere - anywhere.mean((-2, -1), keepdim=True)
    expected = radial_power(anywhere / anywhere.std((-2, -1), keepdim=True))
    low = open_store(tmp_path / "n.zarr", "noise")["radial_power"].values[1:6] / expected[1:6].numpy()
    # 96 and 400 patches leave these five shells' mean 2 %; the quietest patches of all would have 0.75
    assert low.mean() == pytest.approx(1, abs=0.08)
