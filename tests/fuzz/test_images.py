"""MRC maps and stacks."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import strategies as st
from mrcfile.dtypes import HEADER_DTYPE

from cryobench.interop.mrc import open_stack, read_map
from cryobench.testing.damage import MEMORY_PER_INPUT, NUMBERS, damaged_bytes, limits


def test_the_limits_hold() -> None:
    """An allocation as a lying header would cause fails inside, and only there."""
    with pytest.raises(MemoryError), limits():
        np.zeros(2 * MEMORY_PER_INPUT, dtype=np.uint8)
    np.zeros(2 * MEMORY_PER_INPUT, dtype=np.uint8)
    with pytest.raises(TimeoutError), limits(seconds=1):
        time.sleep(10)


@pytest.fixture(scope="module")
def samples(real: Callable[..., list[bytes]], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A small map of every mode, one of them gzipped, and a real one."""
    path, made = tmp_path_factory.mktemp("samples") / "map.mrc", []
    for dtype in (np.int8, np.int16, np.uint16, np.float16, np.float32, ">f4", np.complex64):
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data((10 * np.random.default_rng(0).standard_normal((3, 4, 4))).astype(dtype))
            file.voxel_size = 1.5
        made.append(path.read_bytes())
    return [*made, gzip.compress(made[4], mtime=0), *real("maps/EMD-3197.map")]


@st.composite
def invented(draw: st.DrawFn) -> bytes:
    """A header of chosen sizes before some bytes."""
    header = np.zeros((), dtype=HEADER_DTYPE)
    for field in ("nx", "ny", "nz", "mz", "nsymbt", "ispg", "mx", "my"):
        header[field] = draw(st.one_of(st.integers(1, 8), st.sampled_from(NUMBERS)))
    header["mode"] = draw(st.sampled_from([0, 1, 2, 3, 4, 6, 12, 16, 101, 7, -1]))
    header["mapc"], header["mapr"], header["maps"] = (
        draw(st.permutations([1, 2, 3])) if draw(st.booleans()) else (0, 0, 0)
    )
    for axis in "xyz":
        header["cella"][axis] = draw(st.one_of(st.just(8.0), st.floats(width=32)))
    header["machst"] = draw(st.sampled_from([[0x44, 0x44, 0, 0], [0x11, 0x11, 0, 0], [0, 0, 0, 0]]))
    data = header.tobytes() + draw(st.binary(max_size=64)) * draw(st.integers(0, 64))
    return gzip.compress(data, mtime=0) if draw(st.booleans()) else data


def check_map(path: Path) -> None:
    volume, voxel_size, header = read_map(path)
    assert volume.ndim == 3
    assert volume.dtype == np.float32
    assert np.isfinite(volume).all()
    assert np.isfinite([voxel_size, *header.voxel_sizes, *header.origin, *header.angles]).all()
    assert voxel_size >= 0


def check_stack(path: Path) -> None:
    images, pixel_size = open_stack(path)
    assert images.ndim == 3
    assert images.nbytes <= path.stat().st_size
    assert pixel_size >= 0
    np.asarray(images[[0, -1]])


@pytest.mark.parametrize(("read", "suffix"), [(check_map, ".mrc"), (check_stack, ".mrcs")])
def test_images(
    read: Callable[[Path], None], suffix: str, samples: list[bytes], try_reader: Callable[..., None]
) -> None:
    try_reader(read, suffix, samples, damaged_bytes(samples), invented())
