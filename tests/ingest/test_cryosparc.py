"""cryoSPARC's particles into a store: the same content as from RELION's file of the same images, and optics groups together."""

from __future__ import annotations

import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from cryobench.dataset.store import open_store
from cryobench.errors import InputError
from cryobench.ingest.cryosparc import import_cryosparc
from cryobench.ingest.options import ImportOptions
from cryobench.ingest.relion import import_relion
from cryobench.interop.particles import ParticleTable
from cryobench.interop.relion import write_particles
from cryobench.physics.fourier import fourier_crop_images

OPTIONS = ImportOptions(box=32, noise_patches=16, seed=5)


@pytest.fixture
def project(data_directory: Path, tmp_path: Path) -> Path:
    """As cryoSPARC lays a project out: the particle file in a job's directory, stacks named from the project's."""
    for name in ("empiar_10076_7.cs", "empiar_10076_7.star"):
        (tmp_path / "J 7").mkdir(exist_ok=True)
        shutil.copy(data_directory / "particles" / name, tmp_path / "J 7")
    shutil.copy(data_directory / "particles" / "empiar_10076_7.mrcs", tmp_path / "empiar_10076_7.mrc")
    return tmp_path


def test_same_content_as_from_relion(project: Path) -> None:
    """The same seven particles of EMPIAR-10076 as each program lists them, to the digits that its file holds."""
    cs = open_store(
        import_cryosparc(project / "J 7" / "empiar_10076_7.cs", project / "cs", OPTIONS, invert=True), "observed"
    )
    star = open_store(
        import_relion(project / "J 7" / "empiar_10076_7.star", project / "star", OPTIONS, invert=True), "observed"
    )
    assert set(cs.data_vars) == set(star.data_vars)
    for name, array in star.data_vars.items():
        if name == "micrograph":
            continue  # the .cs file names none
        assert_allclose(cs[name], array, rtol=1e-5, atol=3e-5 if name == "defocus_angle" else 1e-6, err_msg=str(name))
    assert cs.attrs["voxel_size"] == pytest.approx(star.attrs["voxel_size"], rel=1e-5)
    assert cs.attrs["source"] == {
        "format": "cryoSPARC",
        "file": "empiar_10076_7.cs",
        "stacks": ["empiar_10076_7.mrc"],
    }
    assert "the file names no micrographs; each image stack counts as one" in cs.attrs["notes"]
    assert any("protein dark" in note for note in cs.attrs["notes"])
    assert {
        k: v for k, v in cs.attrs.items() if k not in ("source", "notes", "import_digest", "micrograph_names")
    }.keys() == {k for k in star.attrs if k not in ("source", "notes", "import_digest", "micrograph_names")}


def changed(project: Path, **fields: object) -> Path:
    table = np.load(project / "J 7" / "empiar_10076_7.cs")
    for name, value in fields.items():
        table[name.replace("__", "/")] = value
    path = project / "J 7" / "changed.cs"
    with path.open("wb") as file:
        np.save(file, table)
    return path


def test_aberrations_are_noted(project: Path) -> None:
    path = changed(project, ctf__tilt_A=[0.3, 0.0], ctf__anisomag=[0.01, 0, 0, 0])
    notes = open_store(import_cryosparc(path, project / "out", OPTIONS), "observed").attrs["notes"]
    assert "the file states anisotropic magnification, beam tilt, which the images here do not model" in notes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"blob__path": b"J1/gone.mrc"},
            r"changed\.cs, particle row 1, field blob/path: expected the stack J1/gone\.mrc in",
        ),
        ({"blob__idx": np.arange(1, 8)}, r"particle row 7, field blob/path: expected an image of the 7 in .*got 8"),
        ({"blob__shape": [64, 64]}, r"field blob/path: expected a box of 320 px as in .*got 64"),
        ({"ctf__df1_A": np.nan}, r"particle row 1, field ctf/df1_A: expected a number"),
    ],
)
def test_bad_files(project: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_cryosparc(changed(project, **fields), project / "out", OPTIONS)
    assert not (project / "out").exists()


def optics_groups(directory: Path, pixels: list[float], boxes: list[int]) -> Path:
    """A STAR file of images of several optics groups, the same random field in each, and their stacks."""
    generator = torch.Generator().manual_seed(2)
    fine = torch.randn(4, max(boxes), max(boxes), generator=generator)
    n = 4 * len(boxes)
    for g, box in enumerate(boxes):
        with mrcfile.new(directory / f"g{g}.mrcs") as file:
            file.set_data(fourier_crop_images(fine, box).numpy())
    values = dict.fromkeys(("defocus_u", "defocus_v"), 1e4) | {"voltage": 300.0, "spherical_aberration": 2.7}
    values |= dict.fromkeys(("defocus_angle", "phase_shift", "b_factor"), 0.0) | {"amplitude_contrast": 0.1}
    group = np.repeat(np.arange(len(boxes)), 4)
    table = ParticleTable(
        source=directory / "p.star",
        stack=np.array([f"g{g}.mrcs" for g in group], dtype=object),
        index=np.tile(np.arange(4), len(boxes)),
        ctf={name: np.full(n, value) for name, value in values.items()},
        pixel_size=np.array(pixels)[group],
        box=np.array(boxes)[group],
        micrograph=np.full(n, "m", dtype=object),
    )
    write_particles(directory / "p.star", table)
    return directory / "p.star"


def test_optics_groups_of_one_field_of_view_come_together(tmp_path: Path) -> None:
    star = optics_groups(tmp_path, [1.0, 1.25], [40, 32])
    dataset = open_store(import_relion(star, tmp_path, ImportOptions(noise_patches=16)), "observed")
    images = dataset["images"].values
    assert images.shape == (8, 32, 32)
    assert_allclose(images[:4], images[4:], atol=1e-5)
    assert dataset.attrs["voxel_size"] == 1.25
    note = "images of 32 px of 1.25 Å, 40 px of 1 Å, one field of view, were Fourier-cropped to 32 px of 1.25 Å"
    assert note in dataset.attrs["notes"]


def test_optics_groups_of_different_fields_of_view(tmp_path: Path) -> None:
    star = optics_groups(tmp_path, [1.0, 1.3], [40, 32])
    message = r"or one field of view, got 40 px of 1 Å in particle row 1 and 32 px of 1\.3 Å in particle row 5"
    with pytest.raises(InputError, match=message):
        import_relion(star, tmp_path)
    assert_array_equal(list(tmp_path.glob("*.zarr")), [])
