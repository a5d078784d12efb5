"""CTFs of real micrographs from the files of four programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile

from cryobench.errors import InputError
from cryobench.interop import cryosparc, relion
from cryobench.interop.ctf_tables import DEFOCUS, OPTICS, read_ctf_rows

NAMES = ["D_px", "Apix_A", "dfU_A", "dfV_A", "dfang_deg", "kV", "Cs_mm", "Q0", "phase_deg"]


@pytest.mark.parametrize(
    ("name", "listed", "distinct", "optics"),
    [
        ("cryogan_betagal/ctf-betagal-all-3185.txt", 1539, 1539, None),
        ("metadata/empiar10204_micrographs_ctf_mic1-12.star", 12, 12, (200, 1.4, 0.1)),
        ("metadata/empiar10204_class2d_it025_data_mic1-12.star", 2368, 12, (200, 1.4, 0.1)),
        ("metadata/cryosparc_P12_J24_001_particles.cs", 2019, 50, (200, 2.0, 0.07)),
        ("metadata/empiar10028_ctf.npz", 105247, 1081, (300, 2.0, 0.1)),
    ],
)
def test_real_files_give_each_distinct_ctf_once(
    data_directory: Path, name: str, listed: int, distinct: int, optics: tuple[float, float, float] | None
) -> None:
    rows = read_ctf_rows(data_directory / name)
    assert (rows.listed, len(rows)) == (listed, distinct)
    assert set(rows.columns) == set(DEFOCUS) | (set(OPTICS) if optics else set())
    for column, value in zip(OPTICS, optics or (), strict=False):
        np.testing.assert_allclose(rows.columns[column], value, rtol=1e-6)
    mean = (rows.columns["defocus_u"] + rows.columns["defocus_v"]) / 2
    assert 2000 < np.median(mean) < 40000
    assert np.abs(rows.columns["defocus_angle"]).max() <= 2 * np.pi


def test_a_star_file_of_micrographs_is_what_pandas_reads(data_directory: Path) -> None:
    path = data_directory / "metadata" / "empiar10204_micrographs_ctf_mic1-12.star"
    frame, rows = starfile.read(path)["micrographs"], read_ctf_rows(path)
    np.testing.assert_allclose(rows.columns["defocus_u"], frame["rlnDefocusU"])
    np.testing.assert_allclose(rows.columns["defocus_v"], frame["rlnDefocusV"])
    np.testing.assert_allclose(rows.columns["defocus_angle"], np.deg2rad(frame["rlnDefocusAngle"]))
    assert rows.fit_resolution is not None
    np.testing.assert_allclose(rows.fit_resolution, frame["rlnCtfMaxResolution"])
    assert list(rows.micrographs) == frame["rlnMicrographName"].tolist()[::-1]
    assert [rows.micrographs[name] for name in frame["rlnMicrographName"]] == list(range(12))


def test_particles_in_both_formats_have_the_ctfs_that_the_particle_readers_see(data_directory: Path) -> None:
    folder = data_directory / "particles"
    cs, star = (read_ctf_rows(folder / f"empiar_10076_7.{suffix}") for suffix in ("cs", "star"))
    for table, rows in (
        (cryosparc.read_particles(folder / "empiar_10076_7.cs"), cs),
        (relion.read_particles(folder / "empiar_10076_7.star"), star),
    ):
        for name in (*DEFOCUS, *OPTICS):
            np.testing.assert_allclose(rows.columns[name], table.ctf[name], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(cs.columns["defocus_u"], star.columns["defocus_u"], rtol=1e-5)


def test_npz_rows_are_converted_and_kept_in_order(tmp_path: Path) -> None:
    row = [64, 3.0, 9000.0, 8000.0, 45.0, 200.0, 1.4, 0.07, 90.0]
    table = np.array([row, row, [*row[:2], 5000.0, *row[3:]], row])
    np.savez(tmp_path / "ctf.npz", ctf=table, columns=np.array(NAMES))
    rows = read_ctf_rows(tmp_path / "ctf.npz")
    assert rows.columns["defocus_u"].tolist() == [9000, 5000]
    np.testing.assert_allclose(rows.columns["defocus_angle"], np.pi / 4)
    np.testing.assert_allclose(rows.columns["phase_shift"], np.pi / 2)
    assert rows.fit_resolution is None
    np.savez(tmp_path / "ctf.npz", ctf=table, columns=np.array(["a" if n in ("dfU_A", "Q0") else n for n in NAMES]))
    with pytest.raises(InputError, match="columns dfU_A, Q0"):
        read_ctf_rows(tmp_path / "ctf.npz")
    np.savez(tmp_path / "ctf.npz", ctf=table[:, :4], columns=np.array(NAMES))
    with pytest.raises(InputError, match=r"ctf \(row, column\)"):
        read_ctf_rows(tmp_path / "ctf.npz")


def test_failed_fits_have_an_infinite_resolution(tmp_path: Path) -> None:
    columns = {"rlnMicrographName": ["a", "b"], "rlnDefocusU": [9000.0, 8000.0], "rlnDefocusV": [9000.0, 8000.0]}
    frame = pd.DataFrame(columns | {"rlnDefocusAngle": [0.0, 0.0], "rlnCtfMaxResolution": ["3.5", "inf"]})
    starfile.write({"micrographs": frame}, tmp_path / "mics.star")
    rows = read_ctf_rows(tmp_path / "mics.star")
    assert rows.fit_resolution is not None
    assert rows.fit_resolution.tolist() == [3.5, np.inf]
    assert set(rows.columns) == set(DEFOCUS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.cs", b"nonsense", "bad.cs: expected an array"),
        ("bad.npz", b"PK\x03\x04nonsense", "bad.npz: expected an archive"),
        ("bad.star", b"data_x\nloop_\n_rlnMicrographName\na\n", "one block with a column rlnDefocusU"),
        (
            "bad.star",
            b"data_x\nloop_\n_rlnDefocusU\n_rlnDefocusV\n_rlnDefocusAngle\n1 two 3\n",
            "row 1, column rlnDefocusV",
        ),
        ("bad.txt", b"1 2 3\n", "line 1: expected 7 numbers"),
    ],
)
def test_damaged_tables_are_refused_by_name_and_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_ctf_rows(tmp_path / name)
    with pytest.raises(InputError, match="nowhere"):
        read_ctf_rows(tmp_path / "nowhere.star")


def test_values_beyond_sense_are_refused(tmp_path: Path) -> None:
    for column, value, name in ((7, 1.5, "amplitude_contrast"), (5, 0.0, "voltage"), (2, np.nan, "defocus_u")):
        row = [64, 3.0, 9000.0, 8000.0, 45.0, 200.0, 1.4, 0.07, 90.0]
        row[column] = value
        np.savez(tmp_path / "ctf.npz", ctf=np.array([row]), columns=np.array(NAMES))
        with pytest.raises(InputError, match=f"expected a sensible {name}"):
            read_ctf_rows(tmp_path / "ctf.npz")
