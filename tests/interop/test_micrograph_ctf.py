"""The CTF of every micrograph by its name: CTFFIND4's text and RELION's STAR, real ones and bad ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cryobench.errors import InputError
from cryobench.interop.micrograph_ctf import read_micrograph_ctf

OPTICS = {"voltage": 300.0, "spherical_aberration": 2.7, "amplitude_contrast": 0.1}
HEAD = """data_optics
loop_
_rlnOpticsGroup #1
_rlnVoltage #2
_rlnSphericalAberration #3
_rlnAmplitudeContrast #4
1 300 2.7 0.1

"""
ROWS = """data_micrographs
loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
"""


def test_joined_lines_of_real_micrographs(data_directory: Path) -> None:
    path = data_directory / "cryogan_betagal" / "ctf-betagal-all-3185.txt"
    table = read_micrograph_ctf(path, OPTICS)
    assert len(table) == 1539
    row = table.rows()["EMD-2984_0000"]
    assert table.ctf["defocus_u"][row] == 7923.343262
    assert table.ctf["defocus_angle"][row] == pytest.approx(np.deg2rad(65.937813))
    assert (table.fit_resolution > 4).sum() == 11
    with pytest.raises(InputError, match="expected the voltage of the microscope"):
        read_micrograph_ctf(path)


def test_ctffind_output_says_what_relion_s_summary_says(data_directory: Path) -> None:
    """The same 24 fits: a directory of CTFFIND4's own files, and the STAR that RELION made of them."""
    directory = data_directory / "empiar10204" / "ctffind4"
    text, star = read_micrograph_ctf(directory), read_micrograph_ctf(directory / "micrographs_ctf_FAILED.star")
    assert len(text) == len(star) == 24
    assert text.rows().keys() == star.rows().keys()
    order = [star.rows()[key] for key in text.rows()]
    for name, column in text.ctf.items():
        assert_allclose(column, star.ctf[name][order], rtol=1e-5, err_msg=name)
    assert text.ctf["voltage"][0] == 200
    assert_allclose(star.pixel_size, 0.885)
    assert_allclose(text.pixel_size, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            HEAD + ROWS + "a.mrc 1 9000 9000 0\nb.mrc 1 nan 9000 0\n",
            "micrograph row 2, column rlnDefocusU: expected a number",
        ),
        (
            HEAD + ROWS + "a.mrc 2 9000 9000 0\n",
            "micrograph row 1, column rlnOpticsGroup: expected an optics group of this file",
        ),
        (
            HEAD + ROWS + "a.mrc 1 9000 9000 0\nd/a.mrc 1 9000 9000 0\n",
            "expected micrographs of different names, got 'a'",
        ),
        (HEAD, "expected a block of micrographs with a column rlnMicrographName, got the blocks"),
        (HEAD + ROWS, "no rows"),
        (ROWS + "a.mrc 1 9000 9000 0\n", "expected the voltage of the microscope"),
        (HEAD + ROWS.replace("DefocusV", "Defocus") + "a.mrc 1 9000 9000 0\n", "expected a column rlnDefocusV"),
    ],
)
def test_bad_star(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.star").write_text(content)
    with pytest.raises(InputError, match=message):
        read_micrograph_ctf(tmp_path / "m.star")


def test_optics_given_beside_a_star(tmp_path: Path) -> None:
    (tmp_path / "m.star").write_text(ROWS + "a.mrc 1 9000 8000 30\n")
    table = read_micrograph_ctf(tmp_path / "m.star", OPTICS)
    assert {name: table.ctf[name][0] for name in OPTICS} == OPTICS


def test_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected CTFFIND4's text output \(\*_PS\.txt\)"):
        read_micrograph_ctf(tmp_path)
