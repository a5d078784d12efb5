"""RELION's detector files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryobench.errors import InputError
from cryobench.interop.mtf import read_mtf

HEADER = "data_mtf\nloop_\n_rlnResolutionInversePixel\n_rlnMtfValue\n"


@pytest.mark.parametrize(
    ("name", "rows", "last"),
    [
        ("mtf_k2_300kV", 1001, (0.5, 0.388115)),
        ("mtf_falcon2_300kV", 1001, (0.5, 0.051841)),
        ("mtf_falcon4EC_300kV", 64, (0.4921875, 0.092640118)),  # its block has no name
        ("mtf_k2_200kV", 200, (0.5, 0.150678969)),  # ends in lines of white space
    ],
)
def test_real_files_are_read_whole(data_directory: Path, name: str, rows: int, last: tuple[float, float]) -> None:
    frequencies, values = read_mtf(data_directory / "metadata" / f"{name}.star")
    assert len(frequencies) == len(values) == rows
    assert (frequencies[-1], values[-1]) == last
    assert frequencies[0] == 0
    assert values[0] == pytest.approx(1, abs=1e-3)
    assert (np.diff(frequencies) > 0).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "0 1\n0.3 0.5\n0.2 0.4\n", r"row 3, column rlnResolutionInversePixel: expected ascending .* got 0.2"),
        (HEADER + "0 1\n0.7 0.5\n", "row 2, column rlnResolutionInversePixel"),
        (HEADER + "0 1\n0.3 none\n", "row 2, column rlnMtfValue: expected a number from 0 to 1.5, got none"),
        (HEADER + "0 1\n0.3 -0.1\n", "row 2, column rlnMtfValue"),
        (HEADER + "0 1\n", "at least two rows"),
        ("data_\nloop_\n_rlnDefocusU\n1\n2\n", "found 0 such loops"),
        ("", "STAR file"),
    ],
)
def test_what_is_no_mtf_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mtf mine.star"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_mtf(path)
    assert "mtf mine.star" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.star"):
        read_mtf(tmp_path / "nowhere.star")
