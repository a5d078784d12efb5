"""Downloads that go on where they were interrupted, within limits of size."""

from __future__ import annotations

import http.client
import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

TIMEOUT_SECONDS: Final = 30
"""Longest silence of a server."""

_ATTEMPTS: Final = 5
_CHUNK: Final = 1 << 20
_RANGE_NOT_SATISFIABLE: Final = 416

_log = logging.getLogger(__name__)


class _Interrupted(OSError):
    """A transfer ended before all bytes came."""


@dataclass(frozen=True)
class ResumableDownload:
    """A downloader for :func:`pooch.retrieve` that keeps what came of an interrupted transfer and fetches the rest.

    The server is asked for the rest by an HTTP range, on the condition that the file is still the same by its ETag or date
    (``If-Range``, RFC 9110, 13.1.5); one that says neither, or that answers with the whole file, is read from the start. A
    transfer that breaks off is taken up again at once, up to five times while each brings something, and else by the next call.

    Attributes:
        partial: file that holds what came so far, of no other process; what the server calls its version is beside it.
        largest: bytes beyond which nothing is taken.
    """

    partial: Path
    largest: int

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        """Fetch ``url`` into ``output_file``.

        Raises:
            OSError: the server is not reached or refuses, or the transfer broke off; what came is kept.
            ValueError: the file is larger than ``largest``, or no http address; nothing is kept.
        """
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"expected an http or https address, got {url}")
        with self.partial.open("ab") as file:
            try:
                for attempt in range(1, _ATTEMPTS + 1):
                    before = file.tell()
                    try:
                        self._pull(url, file)
                        break
                    except (_Interrupted, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                        if file.tell() <= before or attempt == _ATTEMPTS:
                            raise OSError(
                                f"{error or type(error).__name__}; {file.tell():,} bytes are kept, the next call fetches the rest"
                            ) from error
                os.replace(self.partial, output_file)
                self._validator.unlink(missing_ok=True)
            except ValueError:
                self._forget()
                raise
            finally:
                if self.partial.exists() and self.partial.stat().st_size == 0:
                    self._forget()

    @property
    def _validator(self) -> Path:
        return self.partial.with_name(self.partial.name + ".validator")

    def _forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        self._validator.unlink(missing_ok=True)

    def _pull(self, url: str, file: BinaryIO) -> None:
        """One request, for what is missing of ``file``, appended to it."""
        file.seek(0, os.SEEK_END)
        validator = self._validator.read_text(encoding="utf-8") if self._validator.exists() else ""
        headers = {"User-Agent": "cryobench", "Accept-Encoding": "identity"}
        if validator and file.tell():
            headers |= {"Range": f"bytes={file.tell()}-", "If-Range": validator}
        try:
            response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            if error.code == _RANGE_NOT_SATISFIABLE and file.tell():
                return self._start_over(url, file)
            raise
        with response:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            if response.status == http.client.PARTIAL_CONTENT:
                if not response.headers.get("Content-Range", "").startswith(f"bytes {file.tell()}-") and file.tell():
                    return self._start_over(url, file)
                total = None if total is None else total + file.tell()
            else:
                file.truncate(0)
            self._validator.write_text(_validator_of(response.headers), encoding="utf-8")
            if total is not None and total > self.largest:
                raise ValueError(f"expected at most {self.largest:,} bytes, the server announces {total:,}")
            _log.warning("downloading %s%s", url, "" if total is None else f" ({total / 1e6:.1f} MB)")
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                file.flush()
                if file.tell() > self.largest:
                    raise ValueError(f"expected at most {self.largest:,} bytes, the server sends more")
            if total is not None and file.tell() < total:
                raise _Interrupted(f"the connection ended after {file.tell():,} of {total:,} bytes")

    def _start_over(self, url: str, file: BinaryIO) -> None:
        file.truncate(0)
        self._pull(url, file)


def _validator_of(headers: http.client.HTTPMessage) -> str:
    """What tells a file from its next version: a strong ETag, else the date, else nothing."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")
