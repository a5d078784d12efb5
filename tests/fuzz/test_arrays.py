"""Arrays as numpy writes them: cryoSPARC's particles and CTFs, and npz tables of CTFs."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import strategies as st

from cryobench.errors import InputError
from cryobench.interop import cryosparc
from cryobench.interop.ctf_tables import read_ctf_rows
from cryobench.interop.stacks import locate_stacks
from cryobench.testing.damage import NUMBERS, check_table, damaged_bytes

CTF: Final = ("accel_kv", "cs_mm", "amp_contrast", "df1_A", "df2_A", "df_angle_rad", "phase_shift_rad")
FIELDS: Final[list[Any]] = [
    *[("uid", "<u8"), ("blob/path", "S20"), ("blob/idx", "<u4"), ("blob/shape", "<u4", (2,)), ("blob/psize_A", "<f4")],
    *[(f"ctf/{name}", "<f4") for name in CTF],
    *[("alignments3D/pose", "<f4", (3,)), ("alignments3D/shift", "<f4", (2,)), ("alignments3D/split", "<u4")],
]
COLUMNS: Final = ["dfU_A", "dfV_A", "dfang_deg", "kV", "Cs_mm", "Q0", "phase_deg"]


def saved(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()


@pytest.fixture(scope="module")
def particles(real: Callable[..., list[bytes]]) -> list[bytes]:
    made = np.zeros(3, dtype=FIELDS)
    made["blob/path"], made["blob/idx"], made["blob/psize_A"], made["ctf/accel_kv"] = b"s.mrcs", [0, 1, 2], 1.5, 300
    files = real("particles/empiar_10076_7.cs", "metadata/cryosparc_P12_J24_001_particles.cs")
    return [saved(np.save, array) for array in (made, *(np.load(io.BytesIO(file))[:8] for file in files))]


@pytest.fixture(scope="module")
def archives() -> list[bytes]:
    tables = [{"ctf": np.full((4, 7), 0.5), "columns": np.array(COLUMNS)}]
    if os.environ.get("CRYOBENCH_DATA"):
        table = np.load(Path(os.environ["CRYOBENCH_DATA"]) / "metadata/empiar10028_ctf.npz")
        tables.append({"ctf": table["ctf"][:20], "columns": table["columns"]})
    return [saved(save, **table) for table in tables for save in (np.savez, np.savez_compressed)]


@st.composite
def invented(draw: st.DrawFn) -> bytes:
    """A header of numpy's, its type and shape made up, before some bytes."""
    names = st.sampled_from([field[0] for field in FIELDS])
    kinds = st.sampled_from(
        ["<f4", "<u4", "S4", "<i8", "|O", "V0", "S0", "<f2", "<U3", "<M8[s]", "<c8", "zz", "<f4,<f4"]
    )
    shape = st.lists(st.one_of(st.integers(0, 4), st.sampled_from(NUMBERS)), max_size=3).map(tuple)
    field = st.one_of(st.tuples(names, kinds), st.tuples(names, kinds, shape))
    described = draw(st.one_of(st.just(FIELDS), st.lists(field, max_size=5), kinds))
    header = repr({"descr": described, "fortran_order": draw(st.booleans()), "shape": draw(shape)})
    strange = st.sampled_from(["(" * 5000, "-" * 5000 + "1", "{}", "[1]", "{'descr': 3}", "x" * 20000])
    text = draw(st.one_of(st.just(header), st.just(header), strange))
    version = draw(st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"]))
    size = draw(st.one_of(st.just(len(text)), st.sampled_from([0, 65535, 2**32 - 1])))
    length = size.to_bytes(8, "little")[: 2 if version == b"\x01\x00" else 4]
    return b"\x93NUMPY" + version + length + text.encode() + draw(st.binary(max_size=64)) * draw(st.integers(0, 32))


def check_particles(path: Path) -> None:
    table = cryosparc.read_particles(path)
    check_table(table)
    assert all(isinstance(name, str) for name in (*table.stack, *table.micrograph))
    with pytest.raises(InputError):  # names are tried as paths, whatever they hold; none is there
        locate_stacks(table, path.parent)


def check_ctfs(path: Path) -> None:
    rows = read_ctf_rows(path)
    assert len(rows) > 0
    assert all(np.isfinite(column).all() for column in rows.columns.values())


@pytest.mark.parametrize("read", [check_particles, check_ctfs])
def test_cryosparc(read: Callable[[Path], None], particles: list[bytes], try_reader: Callable[..., None]) -> None:
    try_reader(read, ".cs", particles, damaged_bytes(particles), invented())


def test_npz(archives: list[bytes], try_reader: Callable[..., None]) -> None:
    try_reader(check_ctfs, ".npz", archives, damaged_bytes(archives), invented())
