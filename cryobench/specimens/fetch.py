"""Files of public archives: from the data directory, from the user's cache, or downloaded once and checked ever after."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from cryobench.errors import InputError

DATA_VARIABLE = "CRYOBENCH_DATA"
_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20


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
        magic: what the unpacked file holds at ``magic_offset``.
    """

    prefix: str
    accession: str
    folder: str
    names: tuple[str, ...]
    url: str
    base_url: str
    base_url_variable: str
    magic: bytes
    magic_offset: int


PDB = Archive(
    prefix="pdb",
    accession=r"[1-9][a-z0-9]{3}|pdb_[a-z0-9]{8}",
    folder="models",
    names=("{0}.cif.gz", "{0}.cif", "{0}.pdb.gz", "{0}.pdb", "{0}.ent.gz", "pdb{0}.ent.gz"),
    url="{0}.cif.gz",
    base_url="https://files.rcsb.org/download",
    base_url_variable="CRYOBENCH_PDB_URL",
    magic=b"data_",
    magic_offset=0,
)
EMDB = Archive(
    prefix="emdb",
    accession=r"[0-9]{4,6}",
    folder="maps",
    names=("emd_{0}.map.gz", "emd_{0}.map", "EMD-{0}.map.gz", "EMD-{0}.map", "EMD-{0}.mrc"),
    url="EMD-{0}/map/emd_{0}.map.gz",
    base_url="https://files.wwpdb.org/pub/emdb/structures",
    base_url_variable="CRYOBENCH_EMDB_URL",
    magic=b"MAP ",
    magic_offset=208,
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
        cached = _cache() / name
        if cached.is_file():
            return _verify(cached)
    base = os.environ.get(archive.base_url_variable, archive.base_url)
    destination = _cache() / names[0]
    url = f"{base.rstrip('/')}/{archive.url.format(accession)}"
    try:
        _download(url, destination, archive)
    except (OSError, ValueError) as error:
        expected = f"${DATA_VARIABLE}/{file or names[0]} ({DATA_VARIABLE} is {data_directory or 'not set'})"
        raise InputError(
            f"expected {archive.prefix}:{accession.upper()} in the data directory or the cache, found it in neither, and the "
            f"download failed: {error}. Fetch {url} elsewhere and put it at {expected}, or at {destination}"
        ) from error
    return _verify(destination)


def _cache() -> Path:
    """The platform's cache directory of this program."""
    import pooch

    return Path(pooch.os_cache("cryobench"))


def _download(url: str, destination: Path, archive: Archive) -> None:
    """Download to a scratch directory, check, then move into place; OSError or ValueError where any of it fails."""
    import pooch

    destination.parent.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("WARNING")
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".download-") as scratch:
        downloader = pooch.HTTPDownloader(timeout=_TIMEOUT_SECONDS)
        fetched = pooch.retrieve(url, known_hash=None, fname="entry.gz", path=scratch, downloader=downloader)
        _check(Path(fetched), archive)
        os.replace(fetched, destination)


def _check(path: Path, archive: Archive) -> None:
    """Unpack a gzipped file to its end (which checks its own checksum) and look at what it begins with."""
    begins = archive.magic_offset + len(archive.magic)
    try:
        with gzip.open(path) as file:
            head = file.read(begins)
            while file.read(_CHUNK):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"got a damaged or truncated file of {path.stat().st_size} bytes ({error})") from error
    if head[archive.magic_offset :] != archive.magic:
        raise ValueError(
            f"expected {archive.magic!r} at byte {archive.magic_offset} of the unpacked file, got {head[-16:]!r}"
        )


def _verify(path: Path) -> Path:
    """Hold a cached file against the SHA-256 recorded at its first use, recording it now where there is none."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = path.with_name(path.name + ".sha256")
    if not record.is_file():
        record.write_text(digest + "\n", encoding="ascii")
    elif (expected := record.read_text(encoding="ascii").strip()) != digest:
        raise InputError(
            f"expected {path} to have the SHA-256 recorded at its first use, {expected[:16]}…, got {digest[:16]}…; "
            "delete both files to fetch it again"
        )
    return path
