"""Arrays of numpy's format: the same as numpy reads, never more than the file holds, no pickles."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cryobench.errors import InputError
from cryobench.interop.npy import read_archive, read_array

ROWS = np.array(
    [(b"a.mrc", 3, [1.5, 2]), (b"b.mrc", 4, [0, -1])], dtype=[("name", "S8"), ("n", "<u4"), ("x", "<f4", (2,))]
)
FORTRAN = np.asfortranarray(np.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("array", [ROWS, FORTRAN, np.arange(5)[::2].astype(">i2"), np.float32(3), ROWS[:0]])
def test_arrays_are_what_numpy_reads(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    read = read_array(tmp_path / "a.npy")
    np.testing.assert_array_equal(read, np.load(tmp_path / "a.npy"))
    assert read.dtype == array.dtype
    if array.size:
        assert isinstance(read, np.memmap)
        assert not read.flags.writeable


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_are_what_numpy_reads(tmp_path: Path, save) -> None:
    save(tmp_path / "a.npz", rows=ROWS, fortran=FORTRAN, empty=ROWS[:0])
    read, known = read_archive(tmp_path / "a.npz"), np.load(tmp_path / "a.npz")
    assert sorted(read) == sorted(known)
    for name in known:
        np.testing.assert_array_equal(read[name], known[name])


def saved(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved(ROWS)[:-1], r"the header states shape \(2,\), 40 bytes, and 39 follow"),
        (saved(ROWS)[:40], "EOF"),
        (saved(np.array([1, "a"], dtype=object), allow_pickle=True), "expected numbers or text"),
        (pickle.dumps({"ctf": 1}), "magic string is not correct"),
        (b"\x93NUMPY\x03\x00" + saved(ROWS)[8:], r"version \(3, 0\) of the format is not known"),
        (saved(np.zeros((3, 0)).astype("S0"))[:0], "EOF"),
        (b"", "EOF"),
    ],
)
def test_bad_arrays(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.cs").write_bytes(content)
    with pytest.raises(
        InputError, match=rf"bad\.cs: expected an array as numpy writes it, but it cannot be read \(.*{message}"
    ):
        read_array(tmp_path / "bad.cs")


@pytest.mark.parametrize(
    "header",
    ["(" * 5000, "-" * 5000 + "1", "{}", "[1]", "x" * 20_000, "{'descr': [], 'fortran_order': 1, 'shape': ()}"],
)
def test_strange_headers(tmp_path: Path, header: str) -> None:
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(100)
    (tmp_path / "bad.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.npy: expected an array"):
        read_array(tmp_path / "bad.npy")


def test_bad_archives(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(saved(ROWS))
    with pytest.raises(InputError, match=r"bad\.npz: expected an archive of arrays \(.npz\), but it cannot be read"):
        read_archive(tmp_path / "bad.npz")
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as file:
        file.writestr("ctf.npy", saved(ROWS)[:-1])
    with pytest.raises(InputError, match="and 39 follow"):
        read_archive(tmp_path / "bad.npz")
    with pytest.raises(InputError, match="found nothing"):
        read_archive(tmp_path / "none.npz")
    with pytest.raises(InputError, match="found a directory"):
        read_array(tmp_path)
