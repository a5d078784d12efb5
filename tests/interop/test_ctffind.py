"""CTFFIND4 tables: the joined form, the program's own output, and lines that are neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cryobench.errors import InputError
from cryobench.interop.ctffind import read_ctf_table

LINE = "a.mrc 1.0 12000.5 11000.25 -30.0 0.5 0.07 3.5"


def read(directory: Path, *lines: str, max_resolution: float = 4.0):  # type: ignore[no-untyped-def]
    path = directory / "ctf.txt"
    path.write_text("\n".join(lines) + "\n")
    return read_ctf_table(path, max_resolution)


def test_joined_table_of_betagalactosidase(data_directory: Path) -> None:
    table = read_ctf_table(data_directory / "cryogan_betagal" / "ctf-betagal-all-3185.txt")
    assert len(table) == 1528
    assert table.rejected == 11
    assert table.names[0] == "EMD-2984_0000.mrc"
    assert table.fit_resolution.max() <= 4
    assert_allclose([table.defocus_u[0], table.defocus_v[0]], [7923.343262, 7857.347168])
    assert table.defocus_angle[0] == pytest.approx(np.deg2rad(65.937813))
    assert (table.defocus_u >= table.defocus_v).all()
    everything = read_ctf_table(data_directory / "cryogan_betagal" / "ctf-betagal-all-3185.txt", max_resolution=np.inf)
    assert (len(everything), everything.rejected) == (1539, 0)


def test_own_output_of_one_micrograph(data_directory: Path) -> None:
    table = read_ctf_table(data_directory / "oracles" / "aspire_ctffind4_diagnostic_output.txt")
    assert table.names == ("test_img.mrc:1",)
    assert_allclose(table.defocus_u, 9982.50293)
    assert_allclose(table.phase_shift, 0.035256)
    assert table.defocus_u[0] == pytest.approx(10_000, rel=0.002)  # what the image was simulated with


def test_failed_fits_are_refused(data_directory: Path) -> None:
    path = data_directory / "empiar10204" / "ctffind4" / "20170629_00021_frameImage_PS.txt"
    with pytest.raises(
        InputError, match=r"frameImage_PS.txt: expected fits to 4 Å or better, the best of 1 reaches 9\.55 Å"
    ):
        read_ctf_table(path)
    assert_allclose(read_ctf_table(path, max_resolution=10).defocus_angle, np.deg2rad(-14.849661))


def test_infinite_resolution_is_a_bad_fit_and_later_versions_have_more_columns(tmp_path: Path) -> None:
    table = read(tmp_path, LINE, LINE.replace("3.5", "inf"), "2.0 9000 8000 0 0 0.1 3.0 15.0 0.5 100.0")
    assert table.names == ("a.mrc", "ctf:2")
    assert table.rejected == 1
    assert table.defocus_v.tolist() == [11000.25, 8000.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.mrc 1.0 12000 11000 30.0 0.0 0.07", r"ctf\.txt, line 2: expected 7 numbers .*, got 6"),
        (LINE.replace("12000.5", "nan"), r"ctf\.txt, line 2, column 'defocus 1': expected a number, got 'nan'"),
        (
            LINE.replace("-30.0", "east"),
            r"ctf\.txt, line 2, column 'azimuth of astigmatism': expected a number, got 'east'",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, LINE, line)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing"):
        read_ctf_table(tmp_path / "none.txt")
    with pytest.raises(InputError, match="found none"):
        read(tmp_path, "# Output from CTFFind version 4.1.14")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not text"):
        read_ctf_table(tmp_path / "binary.txt")
