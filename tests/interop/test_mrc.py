from __future__ import annotations

import bz2
import gzip
import itertools
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE

from cryobench.errors import InputError
from cryobench.interop.mrc import open_stack, read_map, write_map


def volume(shape=(3, 4, 5)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_what_was_written_is_read(tmp_path):
    v = volume()
    write_map(tmp_path / "a.mrc", v, 1.274)
    read, voxel_size, header = read_map(tmp_path / "a.mrc")
    np.testing.assert_array_equal(read, v)
    assert (voxel_size, header.voxel_sizes, header.angles) == (1.274, (1.274,) * 3, (90.0,) * 3)
    assert mrcfile.validate(str(tmp_path / "a.mrc"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.mrc"]


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    write_map(tmp_path / "a.mrc", volume(), 2.0)
    write_map(tmp_path / "b.mrc", volume(), 2.0)
    assert (tmp_path / "a.mrc").read_bytes() == (tmp_path / "b.mrc").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_map(tmp_path / "a.mrc", volume(), 2.0)
    before = (tmp_path / "a.mrc").read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cryobench.interop.atomic.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_map(tmp_path / "a.mrc", volume() + 1, 2.0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mrc"]
    assert (tmp_path / "a.mrc").read_bytes() == before


@pytest.mark.parametrize("axes", list(itertools.permutations((1, 2, 3))))
def test_axis_orders_cells_and_starts_come_out_in_one_order(tmp_path, axes):
    v = volume()
    path = tmp_path / "a.map"
    mapc, mapr, maps = axes
    # the file's dimensions are (sections, rows, columns), each the spatial axis (1 = x) that the header names
    stored = v.transpose([3 - maps, 3 - mapr, 3 - mapc])
    start = {1: -7, 2: 11, 3: 2}
    with mrcfile.new(path) as file:
        file.set_data(np.ascontiguousarray(stored))
        h = file.header
        h.mapc, h.mapr, h.maps = axes
        h.nxstart, h.nystart, h.nzstart = start[mapc], start[mapr], start[maps]
        h.mx, h.my, h.mz = 5, 4, 3
        h.cella = (5 * 1.1, 4 * 1.2, 3 * 1.3)
    read, voxel_size, header = read_map(path)
    np.testing.assert_array_equal(read, v)
    assert header.start == (-7, 11, 2)
    assert header.voxel_sizes == (1.1, 1.2, 1.3)
    assert voxel_size == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("dtype", "mode"), [(np.int8, 0), (np.int16, 1), (np.float32, 2), (np.uint16, 6), (np.float16, 12)]
)
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_every_real_mode_in_both_byte_orders(tmp_path, dtype, mode, byte_order):
    data = (10 * volume()).round().clip(0 if dtype is np.uint16 else -100, 100).astype(dtype)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(data.astype(np.dtype(dtype).newbyteorder(byte_order)))
        file.voxel_size = 1.5
        assert file.header.mode == mode
    read = read_map(tmp_path / "a.mrc")
    assert read.volume.dtype == np.float32
    np.testing.assert_array_equal(read.volume, data.astype(np.float32))
    stack, pixel_size = open_stack(tmp_path / "a.mrc")
    np.testing.assert_array_equal(stack, data)
    assert pixel_size == 1.5


def test_a_gzipped_map_and_a_header_from_before_2014(tmp_path):
    v = volume()
    write_map(tmp_path / "a.mrc", v, 3.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    (tmp_path / "a.map.gz").write_bytes(gzip.compress(bytes(raw)))
    np.testing.assert_array_equal(read_map(tmp_path / "a.map.gz").volume, v)
    raw[208:216] = bytes(8)  # no 'MAP ' word and no machine stamp
    raw[64:76] = bytes(12)  # no axis order
    (tmp_path / "old.mrc").write_bytes(bytes(raw))
    np.testing.assert_array_equal(read_map(tmp_path / "old.mrc").volume, v)


def break_file(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-4])
    elif how == "header only":
        path.write_bytes(path.read_bytes()[:1024])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("<html>not found</html>" * 100)
    elif how == "complex":
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(volume().astype(np.complex64))
    else:
        path.write_bytes(path.read_bytes()[:-4] + np.float32(how).tobytes())


@pytest.mark.parametrize(
    "how", ["missing", "truncated", "header only", "empty", "text", "complex", "nan", "inf", "-inf"]
)
def test_bad_files_are_named(tmp_path, how):
    path = tmp_path / "bad.mrc"
    write_map(path, volume(), 1.0)
    break_file(path, how)
    with pytest.raises(InputError, match=r"bad\.mrc"):
        read_map(path)
    if how in {"missing", "truncated", "header only", "empty", "text", "complex"}:
        with pytest.raises(InputError, match=r"bad\.mrc"):
            open_stack(path)


@pytest.mark.parametrize(
    ("array", "voxel_size"), [(np.zeros((3, 3)), 1.0), (np.full((2, 2, 2), np.nan), 1.0), (volume(), 0.0)]
)
def test_nothing_unreadable_is_written(tmp_path, array, voxel_size):
    with pytest.raises(InputError, match=r"a\.mrc"):
        write_map(tmp_path / "a.mrc", array, voxel_size)
    assert not list(tmp_path.iterdir())


def test_a_stack_is_mapped_and_not_loaded(tmp_path):
    images = volume((7, 6, 6)).astype(np.float16)
    with mrcfile.new(tmp_path / "a.mrcs") as file:
        file.set_data(images)
        file.set_image_stack()
        file.voxel_size = 3.54
    stack, pixel_size = open_stack(tmp_path / "a.mrcs")
    assert isinstance(stack, np.memmap)
    assert not stack.flags.writeable
    assert pixel_size == 3.54
    np.testing.assert_array_equal(stack[3], images[3])
    with mrcfile.new(tmp_path / "one.mrc") as file:
        file.set_data(images[0])
    assert open_stack(tmp_path / "one.mrc")[0].shape == (1, 6, 6)


def test_real_maps(data_directory):
    skew = read_map(data_directory / "maps/EMD-3001.map")
    with mrcfile.open(data_directory / "maps/EMD-3001.map") as file:
        assert (file.header.mapc, file.header.mapr, file.header.maps) == (3, 1, 2)
        np.testing.assert_array_equal(skew.volume, file.data.transpose(2, 0, 1))
    assert skew.volume.shape == (73, 25, 43)
    assert skew.header.start == (-21, -12, 0)
    assert skew.header.voxel_sizes == pytest.approx((17.93 / 40, 4.71 / 12, 33.03 / 72), rel=1e-6)
    assert read_map(data_directory / "maps/EMD-3197.map").voxel_size == 11.4
    assert read_map(data_directory / "maps/clean70SRibosome_vol_65p.mrc").voxel_size == 0.0


def test_real_stacks(data_directory):
    images, pixel_size = open_stack(data_directory / "empiar10204/particles_64_a.mrcs")
    assert (images.shape, images.dtype, pixel_size) == ((1408, 64, 64), np.float16, 3.54)
    assert float(images[:50].astype(np.float32).std()) == pytest.approx(1, rel=0.2)
    assert open_stack(data_directory / "particles/empiar_10076_7.mrcs")[1] == 0.0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("nz", 4, "got a truncated or foreign file"),
        ("nz", 2, "got one that holds more sections than it states"),
        ("nx", -5, "expected sizes above 0"),
        ("nsymbt", -1, "expected sizes above 0"),
        ("nsymbt", 4096, "got a truncated or foreign file"),
        ("mode", 3, r"expected real numbers in .*\(mode 0, 1, 2, 6 or 12\), got mode 3"),
        ("mapc", 2, "expected MAPC, MAPR, MAPS of .* to be some order of 1, 2, 3"),
        ("cella", (np.nan, 1, 1), "expected numbers in the header field cella"),
        ("cella", (-5.0, 4, 3), r"expected a cell \(cella\) of 0 Å or more"),
        ("origin", (0, np.inf, 0), "expected numbers in the header field origin"),
        ("ispg", 401, "expected one three-dimensional map"),
    ],
)
def test_headers_that_lie(tmp_path, field, value, message):
    write_map(tmp_path / "bad.mrc", volume(), 1.0)
    data = (tmp_path / "bad.mrc").read_bytes()
    header = np.frombuffer(data[:1024], dtype=HEADER_DTYPE)[0].copy()
    header[field] = value
    (tmp_path / "bad.mrc").write_bytes(header.tobytes() + data[1024:])
    with pytest.raises(InputError, match=message) as caught:
        read_map(tmp_path / "bad.mrc")
    assert "bad.mrc" in str(caught.value)


def test_stacks_of_oblong_pixels(tmp_path):
    with mrcfile.new(tmp_path / "bad.mrcs") as file:
        file.set_data(volume())
        file.voxel_size = (1.0, 1.5, 1.0)
    with pytest.raises(InputError, match=r"expected square pixels in .*bad\.mrcs, got 1 x 1\.5"):
        open_stack(tmp_path / "bad.mrcs")
    (tmp_path / "a.mrcs.gz").write_bytes(gzip.compress((tmp_path / "bad.mrcs").read_bytes()))
    with pytest.raises(InputError, match="which is compressed; decompress it"):
        open_stack(tmp_path / "a.mrcs.gz")


def test_damaged_compression(tmp_path):
    write_map(tmp_path / "a.mrc", volume((20, 20, 20)), 1.0)
    whole = gzip.compress((tmp_path / "a.mrc").read_bytes())
    for damaged in (whole[:-2000], whole[:5000] + bytes(50) + whole[5050:], whole[:3]):
        (tmp_path / "bad.map.gz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"bad\.map\.gz"):
            read_map(tmp_path / "bad.map.gz")
    (tmp_path / "a.map.bz2").write_bytes(bz2.compress((tmp_path / "a.mrc").read_bytes()))
    np.testing.assert_array_equal(read_map(tmp_path / "a.map.bz2").volume, volume((20, 20, 20)))


@pytest.mark.parametrize(
    ("dtype", "values"), [("float16", 1e6), ("int16", 40_000), ("int16", 0.5), ("int8", 200), ("float32", 1e39)]
)
def test_values_that_a_type_cannot_hold(tmp_path, dtype, values):
    with pytest.raises(InputError, match=rf"a\.mrc as {dtype}, got .*choose float32"):
        write_map(tmp_path / "a.mrc", np.full((2, 2, 2), values), 1.0, dtype)
    assert not list(tmp_path.iterdir())
