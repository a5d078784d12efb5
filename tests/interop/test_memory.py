"""Files that state or unpack to gigabytes are refused in an address space that could not hold them."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE

MEMORY = 192 * 2**20
"""What reading may take beyond what is there after the imports; 1 GiB of zeros is three times as much and more."""

READ = """
import resource, sys
from pathlib import Path
from cryobench.errors import InputError
from cryobench.interop.box_files import read_boxes
from cryobench.interop.cryosparc import read_particles
from cryobench.interop.ctf_tables import read_ctf_rows
from cryobench.interop.mrc import open_stack, read_map

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), resource.RLIM_INFINITY))
readers = {".map": read_map, ".gz": read_map, ".mrcs": open_stack, ".cs": read_particles, ".npz": read_ctf_rows}
for name in sys.argv[2:]:
    path = Path(name)
    try:
        (read_boxes if path.name.endswith(".csv.gz") else readers[path.suffix])(path)
        print(path.name, "read")
    except InputError as error:
        print(path.name, "refused:", error)
"""


def mrc_header(sections: int, rows: int, columns: int, extended: int = 0) -> bytes:
    header = np.zeros((), dtype=HEADER_DTYPE.newbyteorder("<"))
    header["nx"], header["ny"], header["nz"], header["mode"], header["nsymbt"] = columns, rows, sections, 2, extended
    header["machst"], header["map"] = [0x44, 0x44, 0, 0], b"MAP "
    return header.tobytes()


def zeros(megabytes: int) -> bytes:
    """A gzip file of so many megabytes of zeros, in a thousandth of that size."""
    return gzip.compress(bytes(2**20), mtime=0) * megabytes


def npy_header(shape: tuple[int, ...], dtype: list[tuple[str, str]] | str) -> bytes:
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def archive(path: Path, members: dict[str, bytes], of_zeros: int) -> None:
    """An npz archive, ``of_zeros`` megabytes of zeros after the first member's content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number, (name, content) in enumerate(members.items()):
            with file.open(name, "w") as member:
                member.write(content)
                for _ in range(0 if number else of_zeros):
                    member.write(bytes(2**20))


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What every such file is answered with, by its name."""
    here = tmp_path_factory.mktemp("large")
    gigabyte = mrc_header(256, 1024, 1024)
    contents = {
        "true.map": mrc_header(2, 4, 4) + bytes(128),
        "large.map": gigabyte + bytes(1000),
        "largest.map": mrc_header(2**31 - 1, 2**31 - 1, 2**31 - 1) + bytes(1000),
        "large.mrcs": gigabyte + bytes(1000),
        "extended.map": mrc_header(1, 4, 4, 2**31 - 1) + bytes(1000),
        "negative.map": mrc_header(1, -4, -4) + bytes(1000),
        "true.map.gz": gzip.compress(mrc_header(2, 4, 4) + bytes(128)),
        "large.map.gz": gzip.compress(gigabyte + bytes(1000)),
        "likely.map.gz": gzip.compress(mrc_header(60, 512, 512) + bytes(1000)),
        "bomb.map.gz": gzip.compress(gigabyte) + zeros(1024),
        "longer.map.gz": gzip.compress(mrc_header(2, 4, 4)) + zeros(1024),
        "extended.map.gz": gzip.compress(mrc_header(1, 4, 4, 2**30)) + zeros(1024),
        "boxes.csv.gz": gzip.compress(b"micrograph,x,y,w,h\n") + zeros(1024),
        "large.cs": npy_header((10**9,), [("blob/path", "S8"), ("blob/idx", "<u4")]) + bytes(1000),
        "nothing.cs": npy_header((10**12,), [("blob/path", "S0")]),
    }
    for name, content in contents.items():
        (here / name).write_bytes(content)
    stream = io.BytesIO()
    np.save(stream, np.array(["dfU_A"]))
    columns = {"columns.npy": stream.getvalue()}
    archive(here / "bomb.npz", {"ctf.npy": npy_header((256, 2**20), "<f4"), **columns}, 256)
    archive(here / "large.npz", {"ctf.npy": npy_header((10**6, 10**6), "<f4"), **columns}, 0)
    paths = sorted(here.iterdir())
    command = [sys.executable, "-c", READ, str(MEMORY), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = {line.split(" ")[0]: line.split(" ", 1)[1] for line in done.stdout.splitlines()}
    assert sorted(said) == [p.name for p in paths]
    return said


def test_true_files_are_read_there(said: dict[str, str]) -> None:
    assert said["true.map"] == "read"
    assert said["true.map.gz"] == "read"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("large.map", "truncated or foreign file: "),
        ("largest.map", "truncated or foreign file: "),
        ("large.mrcs", "1073742848 bytes, in 2024"),
        ("extended.map", "an extended header of 2147483647 bytes"),
        ("negative.map", "expected sizes above 0 in the header of "),
        ("large.map.gz", "decompress it if it is true"),
        ("likely.map.gz", "got a truncated file of 1000; copy it again"),
        ("bomb.map.gz", "decompress it if it is true"),
        ("longer.map.gz", "holds more than it states"),
        ("extended.map.gz", "decompress it if it is true"),
        ("boxes.csv.gz", "which would unpack to more"),
        ("large.cs", "the header states shape (1000000000,), 12000000000 bytes, and 1000 follow"),
        ("nothing.cs", "expected numbers or text, got shape (1000000000000,)"),
        ("bomb.npz", "it would unpack to 268435"),
        ("large.npz", "the header states shape (1000000, 1000000)"),
    ],
)
def test_false_files_are_refused_there(said: dict[str, str], name: str, message: str) -> None:
    assert said[name].startswith("refused: ")
    assert name in said[name]
    assert message in said[name]
