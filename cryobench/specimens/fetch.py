"""Files of public archives: from the data directory, from the user's cache, or downloaded once and checked ever after."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryobench.errors import InputError
from cryobench.interop.atomic import written_whole
from cryobench.machine import cache_directory

DATA_VARIABLE: Final = "CRYOBENCH_DATA"
"""Environment variable that names the directory of data files."""
OFFLINE_VARIABLE: Final = "CRYOBENCH_OFFLINE"
"""Environment variable that forbids downloads where it is set to anything but 0."""

_CHUNK = 1 << 20
_MAP_HEADER_BYTES = 1024
_BYTES_OF_MODE = {0: 1, 1: 2, 2: 4, 6: 2, 12: 2}
_UNPACKED_RATIO = 64


@dataclass(frozen=True)
class Archive:
    """Where the entries of one public archive are found.

    Attributes:
        prefix: what precedes the accession in a specimen's name.
        accession: pattern of a whole accession.
        folder: of its files within the data directory and the cache.
        names: file names to look for, ``{0}`` standing for the accession.
        url: address of an entry below the base address.
        base_url: of the archive; the environment variable ``base_url_variable`` names a mirror.
        largest: bytes of a packed file; what unpacks to more than 64 times as many is refused too.
        check: given the first bytes of the unpacked file, its length and the accession, raises ValueError if it is not the entry.
    """

    prefix: str
    accession: str
    folder: str
    names: tuple[str, ...]
    url: str
    base_url: str
    base_url_variable: str
    largest: int
    check: Callable[[bytes, int, str], None]


def _check_model(head: bytes, _length: int, accession: str) -> None:
    """An mmCIF file names its entry first."""
    if head.split(b"\n")[0].strip().lower() != f"data_{accession}".encode():
        raise ValueError(f"expected an mmCIF file that begins with data_{accession.upper()}, got {head[:24]!r}")


def _check_map(head: bytes, length: int, _accession: str) -> None:
    """A CCP4 map has its word at byte 208, and as many bytes as its header states."""
    if len(head) < _MAP_HEADER_BYTES or head[208:212] != b"MAP ":
        raise ValueError(f"expected b'MAP ' at byte 208 of the unpacked file, got {head[:24]!r} …")
    order = ">" if head[212:213] == b"\x11" else "<"
    nx, ny, nz, mode = struct.unpack(f"{order}4i", head[:16])
    (extended,) = struct.unpack(f"{order}i", head[92:96])
    stated = _MAP_HEADER_BYTES + extended + nx * ny * nz * _BYTES_OF_MODE.get(mode, 0)
    if min(nx, ny, nz) < 1 or mode not in _BYTES_OF_MODE or stated != length:
        raise ValueError(
            f"expected {stated:,} bytes as the header states ({nx} x {ny} x {nz} voxels, mode {mode}), got {length:,}"
        )


PDB = Archive(
    prefix="pdb",
    accession=r"[1-9][a-z0-9]{3}|pdb_[a-z0-9]{8}",
    folder="models",
    names=("{0}.cif.gz", "{0}.cif", "{0}.pdb.gz", "{0}.pdb", "{0}.ent.gz", "pdb{0}.ent.gz"),
    url="{0}.cif.gz",
    base_url="https://files.rcsb.org/download",
    base_url_variable="CRYOBENCH_PDB_URL",
    largest=1 << 29,
    check=_check_model,
)
EMDB = Archive(
    prefix="emdb",
    accession=r"[0-9]{4,6}",
    folder="maps",
    names=("emd_{0}.map.gz", "emd_{0}.map", "EMD-{0}.map.gz", "EMD-{0}.map", "EMD-{0}.mrc"),
    url="EMD-{0}/map/emd_{0}.map.gz",
    base_url="https://files.wwpdb.org/pub/emdb/structures",
    base_url_variable="CRYOBENCH_EMDB_URL",
    largest=1 << 33,
    check=_check_map,
)


def locate(archive: Archive, accession: str, file: str | None = None) -> Path:
    """Path of an archive entry's file: in the data directory, else in the cache, else downloaded into the cache.

    The SHA-256 of a cached file is recorded beside it when it is first used, and must be the same ever after.

    Args:
        archive: :data:`PDB` or :data:`EMDB`.
        accession: in either case, such as ``5A1A`` or ``3197``.
        file: where the data directory is expected to hold it; its usual names are looked for besides.

    Raises:
        InputError: no such accession, no way to download it (the message says where to put the file), or a file that is not
            what it should be.
    """
    accession = accession.lower().removeprefix("emd-").removeprefix("emd_")
    if not re.fullmatch(archive.accession, accession):
        example = "pdb:5A1A" if archive is PDB else "emdb:3197"
        raise InputError(f"expected a {archive.prefix.upper()} accession as in {example!r}, got {accession!r}")
    names = [f"{archive.folder}/{name.format(accession)}" for name in archive.names]
    data_directory = os.environ.get(DATA_VARIABLE)
    if data_directory:
        for name in [file, *names] if file else names:
            for candidate in (
                Path(data_directory) / name,
                Path(data_directory) / name.replace(accession, accession.upper()),
            ):
                if candidate.is_file():
                    return candidate
    for name in names:
        cached = cache_directory() / name
        if cached.is_file():
            return _verify(cached)
    base = os.environ.get(archive.base_url_variable, archive.base_url)
    destination = cache_directory() / names[0]
    url = f"{base.rstrip('/')}/{archive.url.format(accession)}"
    try:
        if os.environ.get(OFFLINE_VARIABLE, "0") != "0":
            raise OSError(f"{OFFLINE_VARIABLE} forbids it")
        with _alone(destination.parent):
            if not destination.is_file():
                _download(url, destination, archive, accession)
    except (OSError, ValueError) as error:
        expected = f"${DATA_VARIABLE}/{file or names[0]} ({DATA_VARIABLE} is {data_directory or 'not set'})"
        raise InputError(
            f"expected {archive.prefix}:{accession.upper()} in the data directory or the cache, found it in neither, and the "
            f"download failed: {error}. Fetch {url} elsewhere and put it at {expected}, or at {destination}"
        ) from error
    return _verify(destination)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process downloads into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(url: str, destination: Path, archive: Archive, accession: str) -> None:
    """Download to a scratch directory, check, then move into place; OSError or ValueError where any of it fails."""
    import pooch

    from cryobench.specimens.download import ResumableDownload

    pooch.get_logger().setLevel("WARNING")
    downloader = ResumableDownload(destination.with_name(f".{destination.name}.partial"), archive.largest)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".download-") as scratch:
        fetched = pooch.retrieve(url, known_hash=None, fname="entry.gz", path=scratch, downloader=downloader)
        _check(Path(fetched), archive, accession)
        os.replace(fetched, destination)


def _check(path: Path, archive: Archive, accession: str) -> None:
    """Unpack a gzipped file to its end (which checks its own checksum) and look at what it begins with."""
    size = path.stat().st_size
    try:
        with gzip.open(path) as file:
            head = file.read(_MAP_HEADER_BYTES)
            length = len(head)
            while chunk := file.read(_CHUNK):
                length += len(chunk)
                if length > _UNPACKED_RATIO * archive.largest:
                    raise ValueError(f"got {size:,} bytes that unpack to more than {length:,}")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"got a damaged or truncated file of {size:,} bytes ({error})") from error
    archive.check(head, length, accession)


def _verify(path: Path) -> Path:
    """Hold a cached file against the SHA-256 recorded at its first use, recording it now where there is none."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = path.with_name(path.name + ".sha256")
    if not record.is_file():
        with written_whole(record) as partial:  # another process may look for it at this moment
            partial.write_text(digest + "\n", encoding="ascii")
    elif (expected := record.read_text(encoding="ascii").strip()) != digest:
        raise InputError(
            f"expected {path} to have the SHA-256 recorded at its first use, {expected[:16]}…, got {digest[:16]}…; "
            "delete both files to fetch it again"
        )
    return path
