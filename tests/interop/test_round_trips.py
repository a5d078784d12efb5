"""Every real sample of other programs' files, read, written and read again: the same particles, fits and maps."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cryobench.interop import cryosparc, cryosparc_write, relion
from cryobench.interop.ctffind import read_ctf_table, write_ctf_table
from cryobench.interop.mrc import open_stack, read_map, write_map
from cryobench.interop.mrc_write import write_stack
from cryobench.interop.particles import CTF_COLUMNS, ParticleTable

STAR = [
    "particles/relion31.star",
    "particles/empiar_10076_7.star",
    "particles/aspire_sample.star",
    "metadata/PfCRT_5particles.star",
    "metadata/relion31.6opticsgroups.star",
    "metadata/empiar10204_class2d_it025_data_mic1-12.star",
]
CRYOSPARC = ["particles/empiar_10076_7.cs", "metadata/cryosparc_P12_J24_001_particles.cs"]
MAPS = ["EMD-3197.map", "EMD-3001.map", "clean70SRibosome_vol_65p.mrc", "3j9g_potential_64_4.4A.mrc"]


def read(path: Path) -> ParticleTable:
    if path.suffix == ".cs":
        return cryosparc.read_particles(path)
    return relion.read_particles(path, amplitude_contrast=0.07)


def assert_same(a: ParticleTable, b: ParticleTable, rtol: float) -> None:
    for name in ("stack", "index", "micrograph", "box"):
        assert_array_equal(getattr(a, name), getattr(b, name), name)
    for name in CTF_COLUMNS:
        assert_allclose(b.ctf[name], a.ctf[name], rtol=rtol, atol=rtol, err_msg=name)
    assert_allclose(b.pixel_size, a.pixel_size, rtol=rtol)
    for name in ("quaternion", "shift", "half"):
        assert (getattr(a, name) is None) == (getattr(b, name) is None), name
    if a.quaternion is not None and b.quaternion is not None:
        assert_allclose(np.abs((a.quaternion * b.quaternion).sum(-1)), 1, atol=rtol)
    if a.shift is not None and b.shift is not None:
        assert_allclose(b.shift, a.shift, rtol=rtol, atol=20 * rtol)
    if a.half is not None:
        assert_array_equal(a.half, b.half)


def with_boxes(table: ParticleTable) -> ParticleTable:
    """RELION 3.0 states no box, 3.1 writes one: that of the stack, which is not here."""
    return replace(table, box=np.where(table.box > 0, table.box, 64))


@pytest.mark.parametrize("name", STAR + CRYOSPARC)
def test_particles_through_a_star_file(data_directory: Path, tmp_path: Path, name: str) -> None:
    table = with_boxes(read(data_directory / name))
    relion.write_particles(tmp_path / "a.star", table)
    back = relion.read_particles(tmp_path / "a.star")
    assert_same(table, back, 1e-9)
    relion.write_particles(tmp_path / "b.star", back)
    assert_same(back, relion.read_particles(tmp_path / "b.star"), 1e-9)


@pytest.mark.parametrize("name", STAR + CRYOSPARC)
def test_particles_through_a_cryosparc_file(data_directory: Path, tmp_path: Path, name: str) -> None:
    table = with_boxes(read(data_directory / name))
    cryosparc_write.write_particles(tmp_path / "a.cs", table)
    back = cryosparc.read_particles(tmp_path / "a.cs")
    if table.quaternion is None:  # cryoSPARC keeps shifts and half-sets with poses
        table = replace(table, shift=None, half=None)
    elif table.half is None:
        table = replace(table, half=np.ones(len(table), dtype=np.int8))
    assert_same(table, back, 3e-7)  # it keeps single precision
    cryosparc_write.write_particles(tmp_path / "b.cs", back)
    assert_same(back, cryosparc.read_particles(tmp_path / "b.cs"), 3e-7)


@pytest.mark.parametrize("name", STAR[:1] + STAR[4:])
def test_relion_reads_what_was_written(
    data_directory: Path, tmp_path: Path, program: Callable[[str], Path], name: str
) -> None:
    """``relion_star_handler`` reads and writes the file again, several optics groups and all."""
    table = with_boxes(read(data_directory / name))
    relion.write_particles(tmp_path / "a.star", table)
    command = [program("relion_star_handler"), "--i", "a.star", "--o", "b.star"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert_same(table, relion.read_particles(tmp_path / "b.star"), 1e-5)  # RELION writes six decimals


def test_optics_groups_are_kept_apart(data_directory: Path, tmp_path: Path) -> None:
    table = read(data_directory / "metadata" / "relion31.6opticsgroups.star")
    relion.write_particles(tmp_path / "a.star", table)
    text = (tmp_path / "a.star").read_text()
    distinct = np.unique(
        np.stack([table.ctf["voltage"], table.ctf["spherical_aberration"], table.pixel_size], -1), axis=0
    )
    assert len(distinct) > 1
    assert f"opticsGroup{len(distinct)} " in text
    assert f"opticsGroup{len(distinct) + 1} " not in text


def test_written_fields_are_those_of_cryosparc(data_directory: Path, tmp_path: Path) -> None:
    """Every field of real files that the toolkit's groups have, of the same type."""
    table = read(data_directory / CRYOSPARC[1])
    cryosparc_write.write_particles(tmp_path / "a.cs", table)
    written = np.load(tmp_path / "a.cs").dtype
    for name in CRYOSPARC:
        for field, (dtype, _) in np.load(data_directory / name).dtype.fields.items():
            assert written[field].base.kind == dtype.base.kind, field
            if dtype.kind != "S":
                assert written[field] == dtype, field


@pytest.mark.parametrize(
    "name",
    [
        "cryogan_betagal/ctf-betagal-all-3185.txt",
        "oracles/aspire_ctffind4_diagnostic_output.txt",
        "empiar10204/ctffind4/20170629_00021_frameImage_PS.txt",
    ],
)
def test_ctffind_tables(data_directory: Path, tmp_path: Path, name: str) -> None:
    table = read_ctf_table(data_directory / name, np.inf)
    write_ctf_table(tmp_path / "a.txt", table)
    back = read_ctf_table(tmp_path / "a.txt", np.inf)
    assert back.names == table.names
    for column in ("defocus_u", "defocus_v", "defocus_angle", "phase_shift", "fit_resolution"):
        assert_allclose(getattr(back, column), getattr(table, column), rtol=1e-9, atol=1e-9, err_msg=column)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_maps(data_directory: Path, tmp_path: Path, name: str, dtype: str) -> None:
    volume, voxel_size, _ = read_map(data_directory / "maps" / name)
    write_map(tmp_path / "a.mrc", volume, voxel_size or 5.0, dtype)  # type: ignore[arg-type]
    back = read_map(tmp_path / "a.mrc")
    assert_array_equal(back.volume, volume.astype(dtype))
    assert back.voxel_size == pytest.approx(voxel_size or 5.0, rel=1e-6)
    assert dtype == "float16" or mrcfile.validate(tmp_path / "a.mrc")  # whose own sums overflow in half precision
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert int(file.header.mode) == {"float32": 2, "float16": 12}[dtype]


@pytest.mark.parametrize(("dtype", "mode"), [("int16", 1), ("int8", 0)])
def test_integer_maps(tmp_path: Path, dtype: str, mode: int) -> None:
    volume = np.random.default_rng(0).integers(-128, 128, (4, 5, 6))
    write_map(tmp_path / "a.mrc", volume, 2.0, dtype)  # type: ignore[arg-type]
    assert_array_equal(read_map(tmp_path / "a.mrc").volume, volume)
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert int(file.header.mode) == mode


@pytest.mark.parametrize(
    "name", ["empiar10204/particles_64_a.mrcs", "particles/empiar_10076_7.mrcs", "particles/relion31.mrcs"]
)
def test_stacks(data_directory: Path, tmp_path: Path, name: str) -> None:
    images, pixel_size = open_stack(data_directory / name)
    images = images[:100]
    blocks = (images[i : i + 3] for i in range(0, len(images), 3))
    dtype = str(images.dtype)
    write_stack(tmp_path / "a.mrcs", blocks, len(images), images.shape[-1], pixel_size or 1.3, dtype)  # type: ignore[arg-type]
    back, size = open_stack(tmp_path / "a.mrcs")
    assert_array_equal(back, images)
    assert back.dtype == images.dtype
    assert size == pytest.approx(pixel_size or 1.3, rel=1e-6)
    assert dtype == "float16" or mrcfile.validate(tmp_path / "a.mrcs")
    with mrcfile.open(tmp_path / "a.mrcs", header_only=True) as file:
        assert (int(file.header.ispg), int(file.header.mz)) == (0, 1)  # a stack of images
        assert float(file.header.dmin) == images.min()
        assert_allclose(
            [file.header.dmean, file.header.rms],
            [images.mean(dtype=float), images.std(dtype=float)],
            rtol=1e-3,
            atol=1e-5,
        )
