"""STAR files line by line: what is read is what is written there, and every way of being wrong has its place named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile

from cryobench.errors import InputError
from cryobench.interop.star import Columns, format_loop, read_blocks

TABLE = """# a comment

data_general

_rlnFinalResolution 3.5
_rlnName "with space"

data_particles

loop_
_rlnImageName #1
_rlnDefocusU #2
_rlnMicrographName #3
000001@a.mrcs 1.25e4 0001
"000002@b c.mrcs" 9000 d'Arc#2.mrc

# version 30001
data_
loop_
_rlnX #1
1
2
"""


def blocks(directory: Path, text: str | bytes) -> dict:
    path = directory / "a.star"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_blocks(path)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_blocks_pairs_quotes_and_comments(tmp_path: Path, newline: str) -> None:
    read = blocks(tmp_path, TABLE.replace("\n", newline))
    assert list(read) == ["general", "particles", ""]
    assert read["general"].iloc[0].tolist() == ["3.5", "with space"]
    particles = read["particles"]
    assert particles["rlnImageName"].tolist() == ["000001@a.mrcs", "000002@b c.mrcs"]
    assert particles["rlnDefocusU"].tolist() == [12500.0, 9000.0]
    assert particles["rlnMicrographName"].tolist() == ["0001", "d'Arc#2.mrc"]
    assert read[""]["rlnX"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "name",
    [
        "metadata/relion31.6opticsgroups.star",
        "oracles/relion308_postprocess.star",
        "metadata/empiar10204_class2d_it025_model.star",
    ],
)
def test_reads_what_another_library_reads(data_directory: Path, name: str) -> None:
    ours, theirs = read_blocks(data_directory / name), starfile.read(data_directory / name, always_dict=True)
    assert list(ours) == list(theirs)
    for block, table in theirs.items():
        if isinstance(table, dict):
            assert [
                float(v) if isinstance(w, (int, float)) else v
                for v, w in zip(ours[block].iloc[0], table.values(), strict=True)
            ] == list(table.values())
        else:
            assert ours[block].columns.tolist() == table.columns.tolist()
            for column in table.columns:
                assert ours[block][column].astype(str).tolist() == table[column].astype(str).tolist(), column


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "_rlnDefocusU #2",
            "_rlnImageName #2",
            r"a\.star, line 12: expected every column once, got rlnImageName a second time",
        ),
        (
            "_rlnName",
            "_rlnFinalResolution",
            r"line 6: expected every column once, got rlnFinalResolution a second time",
        ),
        ("data_particles", "data_general", r"a\.star: expected one block data_general, got two"),
        ("1.25e4 ", "", r"a\.star, line 14: expected 3 values in row 1 of block data_particles, got 2"),
        ("9000 ", "9000 9000 ", r"line 15: expected 3 values in row 2 of block data_particles, got 4"),
        ("\n1\n2\n", "\n1\n# 2\n2\n", "line 23: expected a label beginning with _, or the next block, got '2'"),
        ("loop_\n_rlnX", "loop_\nloop_\n_rlnX", "line 20: expected one loop in a block, got a second one"),
        (
            "_rlnFinalResolution 3.5",
            "_rlnFinalResolution",
            "line 5: expected a value after rlnFinalResolution, got none",
        ),
        ("# a comment", "hello", r"line 1: expected a STAR file, with data_ before any value, got 'hello'"),
        ("0001\n", "00\x0001\n", "line 14: expected text, got a control character"),
        ("0001\n", "00\r01\n", "line 14: expected text, got a control character"),
        ('"000002@b c.mrcs"', '"000002@b_c.mrcs', "block data_particles"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TABLE
    with pytest.raises(InputError, match=message):
        blocks(tmp_path, TABLE.replace(old, new, 1))


def test_other_encodings_and_widths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.star, line 3: expected UTF-8 text, got other bytes"):
        blocks(tmp_path, "data_x\nloop_\n_rln\u00e5 #1\n1\n".encode("latin-1"))
    with pytest.raises(InputError, match="expected at most 200 columns, got more"):
        blocks(tmp_path, "data_x\nloop_\n" + "".join(f"_rln{i}\n" for i in range(201)))
    with pytest.raises(InputError, match="expected a STAR file with a data block, got none"):
        blocks(tmp_path, "# nothing\n")


def test_columns_are_checked_as_they_are_taken(tmp_path: Path) -> None:
    frame = blocks(tmp_path, "data_x\nloop_\n_a\n_b\n_c\n1 2.5 x\n-3 1e400 y\n")["x"]
    columns = Columns(tmp_path / "a.star", frame)
    np.testing.assert_array_equal(columns.integers("a"), [1, -3])
    np.testing.assert_array_equal(columns.numbers("d", 7.0), [7, 7])
    with pytest.raises(
        InputError,
        match=r"a\.star, particle row 1, column b: expected a whole number, got 2.5|row 2, column b: expected a number",
    ):
        columns.integers("b")
    with pytest.raises(InputError, match=r"particle row 2, column b: expected a number, got (inf|1e400)"):
        columns.numbers("b")
    with pytest.raises(InputError, match=r"particle row 1, column c: expected a number, got x"):
        columns.numbers("c")
    with pytest.raises(InputError, match=r"particle row 2, column a: expected a positive number, got -3"):
        columns.positive("a")
    with pytest.raises(InputError, match=r"expected a column d, got none among 3; make it"):
        columns.need("d", "make it")


def test_what_is_formatted_is_read(tmp_path: Path) -> None:
    n = 10_000  # more than are written at a time
    values = np.random.default_rng(0).standard_normal(n)
    text = format_loop("many", {"rlnA": values.tolist(), "rlnB": list(range(n))})
    read = blocks(tmp_path, text)["many"]
    np.testing.assert_allclose(read["rlnA"], values, rtol=1e-9)
    np.testing.assert_array_equal(read["rlnB"], np.arange(n))
