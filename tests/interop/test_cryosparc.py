"""cryoSPARC's particle files against the STAR file of the same particles, and bad ones told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.lib import recfunctions
from numpy.testing import assert_allclose, assert_array_equal

from cryobench.errors import InputError
from cryobench.interop import cryosparc, relion
from cryobench.interop.particles import CTF_COLUMNS


def test_same_particles_as_the_star_file(data_directory: Path) -> None:
    cs = cryosparc.read_particles(data_directory / "particles" / "empiar_10076_7.cs")
    star = relion.read_particles(data_directory / "particles" / "empiar_10076_7.star")
    assert_array_equal(cs.stack, star.stack)
    assert_array_equal(cs.index, star.index)
    for name in CTF_COLUMNS:
        assert_allclose(cs.ctf[name], star.ctf[name], rtol=1e-6, atol=1e-7, err_msg=name)  # .cs holds single precision
    assert_allclose(cs.pixel_size, star.pixel_size, rtol=1e-6)
    assert_array_equal(cs.box, 320)
    assert "invert" in cs.notes[0]


def test_refined_particles(data_directory: Path) -> None:
    table = cryosparc.read_particles(data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs")
    assert len(table) == 2019
    assert table.half is not None
    assert set(table.half.tolist()) <= {1, 2}
    assert table.common_pixel_size() == pytest.approx(2.95)


def test_bad_files(data_directory: Path, tmp_path: Path) -> None:
    source = np.load(data_directory / "particles" / "empiar_10076_7.cs")

    def read(array: np.ndarray) -> None:
        with (tmp_path / "bad.cs").open("wb") as file:
            np.save(file, array)
        cryosparc.read_particles(tmp_path / "bad.cs")

    with pytest.raises(InputError, match=r"bad\.cs: expected a field ctf/df1_A, found none"):
        read(recfunctions.drop_fields(source, "ctf/df1_A"))
    with pytest.raises(InputError, match=r"expected particles in a structured array, got none"):
        read(source[:0])
    with pytest.raises(InputError, match=r"expected particles in a structured array, got no fields"):
        read(np.zeros(3))
    broken = source.copy()
    broken["ctf/df2_A"][4] = np.nan
    with pytest.raises(InputError, match=r"bad\.cs: particle row 5, field ctf/df2_A: expected a number, got nan"):
        read(broken)
    (tmp_path / "bad.cs").write_text("not numpy")
    with pytest.raises(InputError, match="cannot be read"):
        cryosparc.read_particles(tmp_path / "bad.cs")
    with pytest.raises(InputError, match="found nothing"):
        cryosparc.read_particles(tmp_path / "none.cs")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("blob/psize_A", 0.0, "particle row 3, field blob/psize_A: expected a positive number, got 0.0"),
        (
            "blob/idx",
            2**31,
            "particle row 3, field blob/idx: expected a number from 0 to below 2147483648, got 2147483648",
        ),
        (
            "blob/idx",
            1,
            r"particle row 3, field blob/idx: expected every image once \(it is in particle row 2 too\), got 1",
        ),
        ("blob/path", b"\xff", "expected UTF-8 text in field blob/path, got other bytes"),
        ("ctf/accel_kv", -300.0, "particle row 3, field ctf/accel_kv: expected a positive number, got -300.0"),
        ("ctf/amp_contrast", 1.0, "field ctf/amp_contrast: expected a fraction from 0 to below 1, got 1.0"),
        ("alignments3D/pose", np.nan, "particle row 3, field alignments3D/pose: expected a number, got"),
        ("alignments3D/split", 2, "field alignments3D/split: expected a number from 0 to below 2, got 2"),
    ],
)
def test_bad_values_name_row_and_field(
    data_directory: Path, tmp_path: Path, field: str, value: object, message: str
) -> None:
    table = np.load(data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs")[:4].copy()
    table["blob/path"], table["blob/idx"] = b"s.mrc", np.arange(4)
    table[field][2] = value
    with (tmp_path / "bad.cs").open("wb") as file:
        np.save(file, table)
    with pytest.raises(InputError, match=message):
        cryosparc.read_particles(tmp_path / "bad.cs")


@pytest.mark.parametrize(
    ("field", "dtype"), [("alignments3D/pose", "<f4"), ("blob/path", "<f4"), ("ctf/df1_A", "S4"), ("blob/idx", "<f4")]
)
def test_fields_of_another_type_or_shape(data_directory: Path, tmp_path: Path, field: str, dtype: str) -> None:
    table = np.load(data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs")[:4]
    table = recfunctions.append_fields(recfunctions.drop_fields(table, field), field, np.zeros(4, dtype), usemask=False)
    with (tmp_path / "bad.cs").open("wb") as file:
        np.save(file, table)
    with pytest.raises(InputError, match=rf"bad\.cs: expected (text|numbers) of shape .* in field {field}, got "):
        cryosparc.read_particles(tmp_path / "bad.cs")
