"""Particle positions: EMAN, RELION and CSV in one table, matched to micrographs by name."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cryobench.errors import InputError
from cryobench.interop.box_files import read_boxes, write_boxes
from cryobench.interop.boxes import BoxTable, match_boxes, micrograph_key

STAR = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"


def table(**changes: object) -> BoxTable:
    columns: dict[str, object] = {
        "source": Path("t"),
        "micrograph": np.array(["a.mrc", "a.mrc", "b.mrc"], dtype=object),
        "centres": np.array([[10.0, 20.25], [30.5, 5.0], [-3.0, 7.0]]),
        "box": np.array([16, 16, 33]),
    }
    return BoxTable(**(columns | changes))  # type: ignore[arg-type]


def test_all_real_boxes_of_beta_galactosidase(data_directory: Path) -> None:
    """Against the table that says which patch was cut where, made from the same files by another program."""
    boxes = read_boxes(data_directory / "cryogan_betagal" / "boxes_all.csv.gz")
    assert len(boxes) == 41123
    assert (boxes.box == 1536).all()
    patches = pd.read_csv(data_directory / "cryogan_betagal" / "patch_table.csv")
    names = patches["micrograph"].unique().tolist()
    matched = match_boxes(boxes, [f"x y/../{name}" for name in names])
    assert len(matched.unknown) == len(set(boxes.micrograph)) - len(names)
    first = boxes.take(np.concatenate(matched.rows)[: len(patches)])
    assert_array_equal(first.centres - 768, patches[["box_x_superres", "box_y_superres"]])
    assert [f"{n}.mrc" for n in first.micrograph] == patches["micrograph"].tolist()


def test_real_particle_star(data_directory: Path) -> None:
    boxes = read_boxes(data_directory / "metadata" / "empiar10204_class2d_it025_data_mic1-12.star")
    assert len(boxes) == 2368
    assert_array_equal(boxes.centres[0], [451.529419, 191.899994])
    assert boxes.micrograph[0] == "MotionCorr/job002/Movies/20170629_00021_frameImage.mrc"
    assert (boxes.box == 0).all()


@pytest.mark.parametrize("name", ["t.star", "t.csv", "t.csv.gz"])
def test_round_trip(name: str, tmp_path: Path) -> None:
    write_boxes(tmp_path / name, table())
    back = read_boxes(tmp_path / name)
    assert_array_equal(back.centres, table().centres)
    assert back.micrograph is not None
    assert back.micrograph.tolist() == ["a.mrc", "a.mrc", "b.mrc"]
    assert back.box.tolist() == ([0, 0, 0] if name.endswith(".star") else [16, 16, 33])
    assert [p.name for p in tmp_path.iterdir()] == [name]


@given(
    st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5), st.integers(1, 2000)), min_size=1, max_size=20),
)
def test_eman_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, int]]) -> None:
    path = tmp_path_factory.mktemp("boxes") / "mic.box"
    values = np.array(rows)
    wanted = BoxTable(path, None, values[:, :2], values[:, 2].astype(np.int64))
    write_boxes(path, wanted)
    back = read_boxes(path)
    np.testing.assert_allclose(back.centres, wanted.centres, atol=1e-4)
    assert_array_equal(back.box, wanted.box)


def test_eman_corner_and_centre(tmp_path: Path) -> None:
    """The pixel n // 2 of the cut is the centre, for even and odd sides; a quality beside the box is no concern of ours."""
    (tmp_path / "m.box").write_text("# made by hand\n4 5 6 6\n4\t5\t7\t7\t-3\n\n")
    assert_array_equal(read_boxes(tmp_path / "m.box").centres, [[7, 8], [7, 8]])


def test_directory_names_micrographs_by_file(tmp_path: Path) -> None:
    (tmp_path / "m1_boxes.box").write_text("0 0 4 4\n")
    (tmp_path / "m 2_autopick.star").write_text(STAR + "3.5 4\n9 9\n")
    (tmp_path / "m3.star").write_text(STAR)
    boxes = read_boxes(tmp_path)
    matched = match_boxes(boxes, ["/a/m1.mrc", "m 2.mrcs", "m3.tiff"])
    assert [len(rows) for rows in matched.rows] == [1, 2, 0]
    assert matched.unknown == []
    (tmp_path / "m1.star").write_text(STAR + "1 1\n")
    with pytest.raises(InputError, match=r"the boxes of a micrograph in one file, got those of 'm1' in .*; remove one"):
        read_boxes(tmp_path)


def test_autopick_star_lists_coordinate_files(tmp_path: Path) -> None:
    job = tmp_path / "AutoPick" / "job006"
    (job / "Movies").mkdir(parents=True)
    (job / "Movies" / "a_autopick.star").write_text(STAR + "1 2\n3 4\n")
    (job / "Movies" / "b_autopick.star").write_text(STAR + "5 6\n")
    rows = "".join(f"MotionCorr/{m}.mrc AutoPick/job006/Movies/{m}_autopick.star\n" for m in "ab")
    head = "data_coordinate_files\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
    (job / "autopick.star").write_text(head + rows)
    boxes = read_boxes(job / "autopick.star")
    assert [len(r) for r in match_boxes(boxes, ["b.mrc", "a.mrc"]).rows] == [1, 2]
    shutil.rmtree(job / "Movies")
    with pytest.raises(
        InputError, match=r"autopick\.star.* row 1, column rlnMicrographCoordinates: expected a file in"
    ):
        read_boxes(job / "autopick.star")


def test_boxes_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "picks.box").write_text("0 0 4 4\n")
    boxes = read_boxes(tmp_path / "picks.box")
    assert len(match_boxes(boxes, ["any.mrc"]).rows[0]) == 1
    assert [len(r) for r in match_boxes(boxes, ["other.mrc", "picks.mrc"]).rows] == [0, 1]
    with pytest.raises(InputError, match=r"picks\.box: expected a column of micrograph names"):
        match_boxes(boxes, ["a.mrc", "b.mrc"])
    with pytest.raises(InputError, match=r"micrographs of different names, got 'a' from x/a\.mrc and y/a\.mrc"):
        match_boxes(boxes, ["x/a.mrc", "y/a.mrc"])


@pytest.mark.parametrize(
    "name",
    ["a.mrc", "d/a.mrcs", "a.box", "a_autopick.star", "../x y/a_PS.mrc", "a.csv.gz", "a_manualpick.star", "a.TIF"],
)
def test_names_of_one_micrograph(name: str) -> None:
    assert micrograph_key(name) == "a"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.box", "1 2 3\n", r"m\.box, line 1: expected x, y, w and h, got 3 fields"),
        ("m.box", "1 2 4 4\n1 two 4 4\n", r"m\.box, line 2, y: expected a number, got 'two'"),
        ("m.box", "1 nan 4 4\n", r"line 1, y: expected a number, got 'nan'"),
        ("m.box", "1 2 4 5\n", r"line 1, w and h: expected a square box of a whole number of pixels, got 4 x 5"),
        ("m.box", "1 2 0 0\n", "expected a square box"),
        ("m.box", "1 2 4 4 -1\n9 9 4 4 -2\n", r"line 1: expected particles, got the end of a filament"),
        ("m.box", "", r"m\.box: expected particle boxes .*found none"),
        ("m.box", "\xff\xfe", "a file that is not text"),
        ("m.star", STAR, "found none"),
        ("m.star", STAR + "1 2\n3 x\n", r"m\.star, particle row 2, column rlnCoordinateY: expected a number, got x"),
        ("m.star", "data_\n\n_rlnVoltage 300\n", "expected a block with columns rlnCoordinateX"),
        ("m.star", "data_\n\nloop_\n_rlnCoordinateX #1\n1\n", "expected a column rlnCoordinateY"),
        ("m.csv", "micrograph,x,y,w\na,1,2,3\n", "expected a column h"),
        ("m.csv", "micrograph,x,y,w,h\na,1,2,3,\n", "particle row 1, column h: expected a number"),
        ("m.csv", "", r"m\.csv: expected a CSV of boxes"),
        ("m.csv.gz", "no gzip", r"m\.csv\.gz"),
    ],
)
def test_bad_files(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read_boxes(tmp_path / name)


def test_missing_and_cut_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing there"):
        read_boxes(tmp_path / "none.box")
    with pytest.raises(InputError, match="found none"):
        read_boxes(tmp_path)
    (tmp_path / "m.csv.gz").write_bytes(gzip.compress(b"micrograph,x,y,w,h\n" + b"a,1,2,4,4\n" * 5000)[:-20])
    with pytest.raises(InputError, match=r"expected a whole compressed file.*m\.csv\.gz"):
        read_boxes(tmp_path / "m.csv.gz")


def test_what_a_form_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="boxes of one micrograph, got 2"):
        write_boxes(tmp_path / "t.box", table())
    with pytest.raises(InputError, match="the micrograph of every box, got none"):
        write_boxes(tmp_path / "t.csv", table(micrograph=None))
    with pytest.raises(InputError, match="without white space, got 'a b'"):
        write_boxes(tmp_path / "t.star", table(micrograph=np.array(["a b", "c", "d"], dtype=object)))
    with pytest.raises(InputError, match="the side of every box in pixels, got 0"):
        write_boxes(tmp_path / "t.csv", table(box=np.zeros(3, dtype=np.int64)))
    with pytest.raises(InputError, match="expected a name ending in"):
        write_boxes(tmp_path / "t.txt", table())
    assert list(tmp_path.iterdir()) == []
