"""Particles cut from micrographs whose truth is known: images, CTFs, normalisation, noise, and what cannot be cut."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from cryobench.dataset import store as stores
from cryobench.dataset.snr import estimate_snr
from cryobench.dataset.store import digest, open_store
from cryobench.errors import InputError, StoreError
from cryobench.ingest.matching import MicrographOptions
from cryobench.ingest.micrographs import import_micrographs
from cryobench.ingest.options import ImportOptions
from cryobench.interop.box_files import read_boxes, write_boxes
from cryobench.interop.boxes import BoxTable
from cryobench.physics.fourier import fourier_crop_images, shift_images
from cryobench.physics.grids import radius
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.noise import radial_power
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.testing.micrographs import SimulatedMicrographs, simulate_micrographs
from cryobench.types import Images, Volume

BOX, PIXEL = 40, 7.0
FEW = ImportOptions(noise_patches=16)


def inside(simulated: SimulatedMicrographs) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the particles whose boxes lie on their micrograph, and the whole pixels of all."""
    whole = np.floor(simulated.centres + 0.5).astype(int)
    height, width = simulated.signal.shape[1:]
    kept = ((whole >= BOX // 2) & (whole <= np.array([width, height]) - BOX // 2)).all(-1)
    return np.flatnonzero(kept), whole


def clean(simulated: SimulatedMicrographs, volume: Volume, rows: np.ndarray, shifts: Tensor) -> Images:
    """What the imaging operator says the particles look like: another path than the micrograph's."""
    index = torch.as_tensor(rows)
    rotations = quaternion_to_matrix(simulated.quaternions[index]).float()
    ctf = simulated.ctf[torch.as_tensor(simulated.micrograph[rows])]
    return ImagingOperator(BOX, PIXEL, rotations, shifts, ctf, slicing="padded")(volume)


def correlation(a: Images, b: Images) -> Tensor:
    a, b = (x - x.mean((-2, -1), keepdim=True) for x in (a, b))
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))


@pytest.fixture(scope="module")
def imported(micrographs: SimulatedMicrographs, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """From fractional coordinates and RELION's CTF table."""
    out = tmp_path_factory.mktemp("imported")
    options, cutting = replace(FEW, noise_patches=128), MicrographOptions(extract=BOX)
    path = import_micrographs(
        [micrographs.micrographs[0].parent], micrographs.coordinates, micrographs.ctf_star, out, options, cutting
    )
    return open_store(path, "observed")


def test_images_are_the_particles(micrographs: SimulatedMicrographs, specimen: Volume, imported: xr.Dataset) -> None:
    rows, whole = inside(micrographs)
    assert len(rows) < len(micrographs.centres)
    assert imported.attrs["left_out"] == {"beyond the edge": len(micrographs.centres) - len(rows)}
    assert imported.sizes["particle"] == len(rows)
    shifts = torch.as_tensor(imported["given_shift"].values).float()
    assert_allclose(shifts, (micrographs.centres - whole)[rows] * PIXEL, atol=1e-3)
    assert float(shifts.abs().max()) <= PIXEL / 2
    images = torch.as_tensor(imported["images"].values)
    expected = clean(micrographs, specimen, rows, shifts)
    # as much noise as signal, and nothing else between the image and the clean one
    found = correlation(images, expected)
    assert abs(float(found.mean()) - 0.5**0.5) < 0.03
    assert float(found.min()) > 0.55
    # the remainder is moved the right way: to leave it out or to move against it is worse
    assert (
        float(correlation(images, clean(micrographs, specimen, rows, 0 * shifts)).mean()) < float(found.mean()) - 0.01
    )
    strangers = correlation(images, expected.roll(1, 0))
    assert float(strangers.mean()) < float(found.mean()) - 0.15


def test_ctfs_and_micrographs(micrographs: SimulatedMicrographs, imported: xr.Dataset) -> None:
    rows, _ = inside(micrographs)
    owner = micrographs.micrograph[rows]
    assert_array_equal(imported["micrograph"], owner)
    assert imported.attrs["micrograph_names"] == ["mic_000.mrc", "mic_001.mrc"]
    for name in micrographs.ctf.names():
        assert_allclose(imported[name], getattr(micrographs.ctf, name).numpy()[owner], rtol=1e-8, err_msg=name)
    assert imported.attrs["voxel_size"] == PIXEL
    assert imported.attrs["contrast"] == "protein bright"
    assert str(micrographs.micrographs[0].parent) not in str(imported.attrs)


def test_average_shows_the_particle(micrographs: SimulatedMicrographs, specimen: Volume, imported: xr.Dataset) -> None:
    """Centred, all images share the particle's place and size; smeared back by their true poses, its shape."""
    images = torch.as_tensor(imported["images"].values)
    shifts = torch.as_tensor(imported["given_shift"].values).float()
    rows, _ = inside(micrographs)
    mean, expected = (
        shift_images(y, -shifts, PIXEL).mean(0) for y in (images, clean(micrographs, specimen, rows, shifts))
    )
    assert float(correlation(mean[None], expected[None])) > 0.93
    r = radius(BOX, 2, mean)
    assert float(mean[r < 6].mean()) > 10 * abs(float(mean[r > 18].mean()))

    def smeared(y: Images, order: Tensor) -> Tensor:
        rotations = quaternion_to_matrix(micrographs.quaternions[torch.as_tensor(rows)][order]).float()
        ctf = micrographs.ctf[torch.as_tensor(micrographs.micrograph[rows])]
        return ImagingOperator(BOX, PIXEL, rotations, shifts, ctf).T(y)[None]

    def alike(a: Tensor, b: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])

    true, wrong = torch.arange(len(rows)), torch.arange(len(rows)).roll(5)
    of_volume = smeared(clean(micrographs, specimen, rows, shifts), true)
    assert alike(smeared(images, true), of_volume) > 0.85
    assert alike(smeared(images, true), of_volume) > alike(smeared(images, wrong), of_volume) + 0.1


def test_backgrounds_are_normalised(imported: xr.Dataset) -> None:
    images = torch.as_tensor(imported["images"].values).double()
    background = images[:, radius(BOX, 2, torch.zeros(1)) > 0.4 * BOX]
    assert_allclose(background.mean(-1), 0, atol=1e-5)
    assert_allclose(background.std(-1, correction=0), 1, rtol=1e-5)
    x = torch.arange(BOX).double() - BOX / 2
    slope = (images * x).mean((-2, -1)) / x.square().mean()
    assert float(slope.abs().mean()) * BOX < 0.3  # the ice falls by 0.8 x 1.5 deviations over the width of a micrograph


def test_noise_beside_the_particles(micrographs: SimulatedMicrographs, imported: xr.Dataset) -> None:
    """The pools have the spectrum of the field itself, cut where nothing of the signal is."""
    measured = torch.as_tensor(imported["noise_power"].values).mean(0)
    with mrcfile.open(micrographs.micrographs[0]) as file:
        field = -torch.as_tensor(file.data.copy()) / 60 - micrographs.signal[0]
    tiles = field[:400, :440].unfold(0, BOX, BOX).unfold(1, BOX, BOX).reshape(-1, BOX, BOX)
    expected = radial_power(tiles - tiles.mean((-2, -1), keepdim=True))
    ratio = measured / expected
    assert abs(float(ratio[3:].mean()) - 1) < 0.1
    assert float((ratio[3:] / ratio[3:].mean() - 1).abs().max()) < 0.25
    assert_array_equal(imported["patch_micrograph"], -1)


def test_snr_is_that_of_the_simulation(imported: xr.Dataset) -> None:
    """0 dB within the boxes of all particles, of noise that has lost the slow part that a ramp takes with it."""
    estimate = estimate_snr(imported)
    assert estimate.low - 0.5 < 0 < estimate.high + 0.5


@pytest.mark.parametrize("dtype", ["float32", "int16"])
@pytest.mark.parametrize("protein", ["dark", "bright"])
def test_contrast_and_type(specimen: Volume, tmp_path: Path, dtype: str, protein: str) -> None:
    """The same particles, whichever way grey values run and however they are stored."""
    simulated = simulate_micrographs(
        tmp_path / "m", specimen, PIXEL, count=1, shape=(200, 160), particles=6, dtype=dtype, protein=protein
    )  # type: ignore[arg-type]
    cutting = MicrographOptions(protein=protein)  # type: ignore[arg-type]
    path = import_micrographs(
        simulated.micrographs, simulated.boxes, simulated.ctf_star, tmp_path / "out", FEW, cutting
    )
    rows, whole = inside(simulated)
    dataset = open_store(path, "observed")
    assert dataset.sizes["particle"] == len(rows)
    assert_array_equal(dataset["given_shift"], 0)  # EMAN's boxes are whole pixels
    off = torch.as_tensor((simulated.centres - whole)[rows] * PIXEL).float()
    found = correlation(torch.as_tensor(dataset["images"].values), clean(simulated, specimen, rows, off))
    assert float(found.mean()) > 0.6


def test_working_box_is_the_crop(micrographs: SimulatedMicrographs, imported: xr.Dataset, tmp_path: Path) -> None:
    options = replace(FEW, box=24, particle_radius=0.4 * BOX * PIXEL)
    cutting = MicrographOptions(extract=BOX)
    path = import_micrographs(
        micrographs.micrographs, micrographs.coordinates, micrographs.ctf_star, tmp_path, options, cutting
    )
    dataset = open_store(path, "observed")
    assert dataset.attrs["voxel_size"] == pytest.approx(PIXEL * BOX / 24)
    images = torch.as_tensor(dataset["images"].values)
    cropped = fourier_crop_images(torch.as_tensor(imported["images"].values), 24)
    assert float(correlation(images, cropped).min()) > 1 - 1e-5
    background = images[:, radius(24, 2, torch.zeros(1)) > 0.4 * 24]
    assert_allclose(background.double().std(-1, correction=0), 1, rtol=1e-4)


def test_relion_extracts_the_same(
    micrographs: SimulatedMicrographs, tmp_path: Path, program: Callable[[str], Path]
) -> None:
    """Pixel by pixel: the same cut, contrast, ramp and normalisation."""
    for file in (*micrographs.micrographs, micrographs.ctf_star, *micrographs.boxes.iterdir()):
        shutil.copy(file, tmp_path)
    command = [
        program("relion_preprocess"),
        "--i",
        "micrographs_ctf.star",
        "--coord_dir",
        "./",
        "--coord_suffix",
        ".box",
    ]
    command += [
        "--part_star",
        "relion/particles.star",
        "--part_dir",
        "relion/",
        "--extract",
        "--extract_size",
        str(BOX),
    ]
    command += ["--norm", "--bg_radius", "16", "--invert_contrast"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    # RELION keeps boxes beyond the edge, with what they lack filled in
    relion = np.concatenate([mrcfile.read(tmp_path / "relion" / f"mic_00{i}.mrcs") for i in (0, 1)])
    options = replace(FEW, particle_radius=16 * PIXEL)
    path = import_micrographs(
        micrographs.micrographs, micrographs.boxes, micrographs.ctf_star, tmp_path / "out", options
    )
    ours = open_store(path, "observed")["images"].values
    boxes = read_boxes(micrographs.boxes)
    height, width = micrographs.signal.shape[1:]
    whole = ((boxes.centres >= BOX // 2) & (boxes.centres <= np.array([width, height]) - BOX // 2)).all(-1)
    assert len(relion) == len(boxes)
    assert_allclose(ours, relion[whole], atol=2e-3)


def test_both_ctf_tables_and_both_box_files_say_the_same(
    micrographs: SimulatedMicrographs, imported: xr.Dataset, tmp_path: Path
) -> None:
    cutting = MicrographOptions(
        extract=BOX, pixel_size=PIXEL, voltage=300.0, spherical_aberration=2.7, amplitude_contrast=0.1
    )
    options = replace(FEW, noise_patches=128)
    rounded = tmp_path / "rounded.csv.gz"
    boxes = read_boxes(micrographs.coordinates)
    write_boxes(rounded, BoxTable(boxes.source, boxes.micrograph, boxes.centres, np.full(len(boxes), BOX)))
    crooked = [m.parent / ".." / m.parent.name / m.name for m in micrographs.micrographs]
    path = import_micrographs(crooked, rounded, micrographs.ctf_text, tmp_path / "o u t", options, cutting)
    other = open_store(path, "observed")
    for name, array in imported.data_vars.items():
        if array.dtype.kind == "f":
            assert_allclose(other[name], array, rtol=1e-6, atol=1e-6, err_msg=str(name))
        else:
            assert_array_equal(other[name], array, err_msg=str(name))


def test_killed_import_is_completed(
    micrographs: SimulatedMicrographs, imported: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PARTICLES_PER_SHARD", 128)
    call = (micrographs.micrographs, micrographs.coordinates, micrographs.ctf_star, tmp_path / "out")
    options, cutting = replace(FEW, noise_patches=128), MicrographOptions(extract=BOX)

    def stop(_stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_micrographs(*call, options, cutting, on_progress=stop)
    with pytest.raises(StoreError, match="unfinished"):
        open_store(tmp_path / "out" / "observed.zarr", "observed")
    with pytest.raises(StoreError, match="begun by another import"):
        import_micrographs(*call, options, replace(cutting, remove_ramp=False))
    finished = open_store(import_micrographs(*call, options, cutting), "observed")
    assert digest(finished) == digest(imported)


# -- what is lacking -----------------------------------------------------------------------------------------------------


def import_some(simulated: SimulatedMicrographs, out: Path, **changes: object) -> Path:
    call: dict[str, object] = {
        "micrographs": simulated.micrographs,
        "boxes": simulated.boxes,
        "ctf": simulated.ctf_star,
        "out": out,
        "options": FEW,
    }
    return import_micrographs(**(call | changes))  # type: ignore[arg-type]


def test_what_has_no_partner_is_listed(micrographs: SimulatedMicrographs, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes"
    shutil.copytree(micrographs.boxes, boxes)
    (boxes / "mic_001.box").rename(boxes / "mic_777.box")
    notes = open_store(import_some(micrographs, tmp_path, boxes=boxes), "observed").attrs["notes"]
    assert "micrographs without boxes: 1 (mic_001.mrc)" in notes
    assert "boxes of micrographs that were not given: 1 (mic_777)" in notes


def test_micrographs_without_ctf(micrographs: SimulatedMicrographs, tmp_path: Path) -> None:
    table = tmp_path / "some.star"
    lines = micrographs.ctf_star.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith("mic_001")))
    with pytest.raises(
        InputError, match=r"some\.star: expected the CTF of every micrograph with boxes.*\(mic_001\.mrc\)"
    ):
        import_some(micrographs, tmp_path / "out", ctf=table)
    assert not (tmp_path / "out").exists()
    skip = MicrographOptions(skip_without_ctf=True)
    dataset = open_store(import_some(micrographs, tmp_path / "out", ctf=table, cutting=skip), "observed")
    assert dataset.attrs["micrograph_names"] == ["mic_000.mrc"]
    assert "left out for want of a CTF: 1 micrographs (mic_001.mrc)" in dataset.attrs["notes"]


def test_poor_ctf_fits_are_left_out(micrographs: SimulatedMicrographs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none is left .*CTF fit no better than 3 Å: 2 micrographs"):
        import_some(micrographs, tmp_path / "out", cutting=MicrographOptions(max_ctf_resolution=3.0))
    assert not (tmp_path / "out").exists()


def test_boxes_that_are_there_twice_or_outside(micrographs: SimulatedMicrographs, tmp_path: Path) -> None:
    centres = np.array([[100, 100], [100.2, 99.9], [300, 300], [-5, 50], [50, 1e7], [200, 200.0]])
    names = np.full(len(centres), "mic_000.mrc", dtype=object)
    write_boxes(tmp_path / "b.csv", BoxTable(tmp_path, names, centres, np.full(len(centres), BOX)))
    dataset = open_store(import_some(micrographs, tmp_path, boxes=tmp_path / "b.csv"), "observed")
    assert dataset.attrs["left_out"] == {"beyond the edge": 2, "at a place that another box has": 1}
    assert dataset.sizes["particle"] == 3
    write_boxes(tmp_path / "c.csv", BoxTable(tmp_path, names[:1], centres[3:4], np.full(1, BOX)))
    with pytest.raises(
        InputError, match=r"c\.csv: expected particles on the 2 micrographs, none is left \(boxes left out beyond"
    ):
        import_some(micrographs, tmp_path / "none", boxes=tmp_path / "c.csv")


def edited(simulated: SimulatedMicrographs, directory: Path, change: Callable[[Path], None]) -> list[Path]:
    """Copies of the micrographs, the second one changed."""
    copies = [Path(shutil.copy(m, directory)) for m in simulated.micrographs]
    change(copies[1])
    return copies


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def spoil(path: Path) -> None:
    with mrcfile.mmap(path, "r+") as file:
        file.data[150:250, 150:250] = np.nan


def flatten(path: Path) -> None:
    with mrcfile.mmap(path, "r+") as file:
        file.data[...] = 7


def repixel(path: Path) -> None:
    with mrcfile.mmap(path, "r+") as file:
        file.voxel_size = 3.5


def stack(path: Path) -> None:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.zeros((3, 100, 100), np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncate, r"truncated.*mic_001\.mrc|mic_001\.mrc.*truncated"),
        (
            spoil,
            r"mic_001\.mrc: expected finite pixels in the box of 40 px at \(\d+, \d+\) \(particle row \d+ of boxes\)",
        ),
        (flatten, r"of mic_001\.mrc: expected noise around the particle, got one grey value everywhere"),
        (
            repixel,
            r"mic_001\.mrc: expected the pixel size that micrographs_ctf\.star states, 7 Å, its header states 3\.5 Å",
        ),
        (stack, r"mic_001\.mrc: expected a micrograph of one frame, got 3"),
        (Path.unlink, r"expected a micrograph, or a directory of them, at .*mic_001\.mrc, found nothing"),
    ],
)
def test_bad_micrographs(
    micrographs: SimulatedMicrographs, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    copies = edited(micrographs, tmp_path, change)
    with pytest.raises(InputError, match=message):
        import_some(micrographs, tmp_path / "out", micrographs=copies)
    if (tmp_path / "out").exists():  # found while reading: nothing that looks whole is left
        with pytest.raises(StoreError, match="unfinished"):
            open_store(tmp_path / "out" / "observed.zarr", "observed")


def test_what_must_be_given(micrographs: SimulatedMicrographs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected boxes of one side, got positions alone; give the side of the cut"):
        import_some(micrographs, tmp_path / "out", boxes=micrographs.coordinates)
    with pytest.raises(InputError, match="expected the voltage of the microscope"):
        import_some(micrographs, tmp_path / "out", ctf=micrographs.ctf_text)
    with pytest.raises(InputError, match="expected a box from 8 to the images' 40 px, got 64"):
        import_some(micrographs, tmp_path / "out", options=replace(FEW, box=64))
    with pytest.raises(InputError, match="expected a particle radius"):
        import_some(micrographs, tmp_path / "out", options=replace(FEW, particle_radius=500.0))
    assert not (tmp_path / "out").exists()
