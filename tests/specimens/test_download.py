from __future__ import annotations

import dataclasses
import gzip
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cryobench.errors import InputError
from cryobench.specimens import fetch
from cryobench.specimens.download import ResumableDownload
from cryobench.specimens.fetch import PDB, locate

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server:
    """A server of one file that can break off, lie, forget ranges and change the file; it notes what it was asked."""

    def __init__(self) -> None:
        self.content, self.tag = CONTENT, '"one"'
        self.breaks: list[int] = []  # bytes after which each of the next answers ends
        self.ranges, self.length_offset, self.says_length = True, 0, True
        self.asked: list[str | None] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        start = 0
        if asked and self.ranges and handler.headers.get("If-Range") == self.tag:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if start > len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.tag:
            handler.send_header("ETag", self.tag)
        if self.says_length:
            handler.send_header("Content-Length", str(len(body) + self.length_offset))
        handler.end_headers()
        handler.wfile.write(body[: self.breaks.pop(0)] if self.breaks else body)

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Server()
    yield made
    made.close()


def download(server: Server, directory, largest: int = 1 << 20) -> bytes:
    ResumableDownload(directory / "partial", largest)(server.url, str(directory / "out"), None)
    return (directory / "out").read_bytes()


def names(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_transfer_that_breaks_off_is_taken_up_where_it_ended(server, tmp_path):
    server.breaks = [100_000, 50_000]
    assert download(server, tmp_path) == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]
    assert names(tmp_path) == ["out"]


def test_the_next_call_goes_on(server, tmp_path):
    server.breaks = [100_000, 0]
    with pytest.raises(OSError, match=r"ended after 100,000 of 300,000 bytes; 100,000 bytes are kept"):
        download(server, tmp_path)
    assert names(tmp_path) == ["partial", "partial.validator"]
    assert download(server, tmp_path) == CONTENT
    assert server.asked[-1] == "bytes=100000-"
    assert names(tmp_path) == ["out"]


def test_it_does_not_try_for_ever(server, tmp_path):
    server.breaks = [1000] * 50
    with pytest.raises(OSError, match="5,000 bytes are kept"):
        download(server, tmp_path)
    assert len(server.asked) == 5


@pytest.mark.parametrize("how", ["no ranges", "no validator", "changed", "shrunk"])
def test_what_cannot_be_taken_up_is_read_from_the_start(server, tmp_path, how):
    server.tag = "" if how == "no validator" else server.tag
    server.ranges = how != "no ranges"
    server.breaks = [100_000, 0] if how in ("changed", "shrunk") else [100_000] * 5
    with pytest.raises(OSError, match="bytes are kept"):
        download(server, tmp_path)
    server.breaks = []
    if how == "changed":
        server.content, server.tag = CONTENT[::-1], '"two"'
    if how == "shrunk":
        server.content = CONTENT[:5000]
    assert download(server, tmp_path) == server.content


def test_a_length_that_promises_too_much_is_an_interruption(server, tmp_path):
    server.length_offset = 10
    with pytest.raises(OSError, match=r"ended after 300,000 of 300,010 bytes"):
        download(server, tmp_path)


def test_a_length_that_promises_too_little_leaves_a_truncated_file_that_is_refused(server, tmp_path, monkeypatch):
    server.content = gzip.compress(b"data_9ZZZ\n" + CONTENT)
    server.length_offset = -1000
    monkeypatch.setenv("CRYOBENCH_PDB_URL", server.url)
    monkeypatch.delenv("CRYOBENCH_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "cache")
    with pytest.raises(InputError, match="download failed: got a damaged or truncated file of 2"):
        locate(PDB, "9ZZZ")
    assert names(tmp_path / "cache/models") == [".lock"]


@pytest.mark.parametrize("says_length", [True, False])
def test_too_large_a_file_is_refused(server, tmp_path, says_length):
    server.says_length = says_length
    with pytest.raises(ValueError, match="expected at most 200,000 bytes"):
        download(server, tmp_path, largest=200_000)
    assert names(tmp_path) == []
    assert download(server, tmp_path, largest=300_000) == CONTENT


def test_a_gzip_that_unpacks_to_too_much_is_refused(server, tmp_path, monkeypatch):
    server.content = gzip.compress(b"data_9ZZZ\n" + bytes(1 << 22))
    monkeypatch.setenv("CRYOBENCH_PDB_URL", server.url)
    monkeypatch.delenv("CRYOBENCH_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "cache")
    monkeypatch.setattr(fetch, "_CHUNK", 1 << 16)
    with pytest.raises(InputError, match="bytes that unpack to more than"):
        locate(dataclasses.replace(PDB, largest=1 << 13), "9ZZZ")


def test_an_interrupted_entry_is_completed_by_the_next_look(server, tmp_path, monkeypatch):
    """Through the archive, pooch and all: killed halfway, then whole, checked, and held to its hash."""
    server.content = gzip.compress(b"data_9ZZZ\n" + CONTENT)
    server.breaks = [200_000, 0]
    monkeypatch.setenv("CRYOBENCH_PDB_URL", server.url)
    monkeypatch.delenv("CRYOBENCH_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "cache")
    with pytest.raises(InputError, match="200,000 bytes are kept, the next call fetches the rest"):
        locate(PDB, "9ZZZ")
    path = locate(PDB, "9ZZZ")
    assert path.read_bytes() == server.content
    assert server.asked[-1] == "bytes=200000-"
    assert names(path.parent) == [".lock", "9zzz.cif.gz", "9zzz.cif.gz.sha256"]


def test_several_at_once_download_once(server, tmp_path, monkeypatch):
    server.content = gzip.compress(b"data_9ZZZ\n" + CONTENT)
    monkeypatch.setenv("CRYOBENCH_PDB_URL", server.url)
    monkeypatch.delenv("CRYOBENCH_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "cache")
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(locate(PDB, "9ZZZ").read_bytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [server.content] * 4
    assert len(server.asked) == 1


def test_the_first_users_of_a_cached_file_may_come_together(tmp_path, monkeypatch):
    """The record of its hash is there whole or not at all, however many look for it while one writes it."""
    monkeypatch.delenv("CRYOBENCH_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "cache")
    path = tmp_path / "cache/models/9zzz.cif.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b"data_9ZZZ\n"))
    record = path.with_name(path.name + ".sha256")
    with ThreadPoolExecutor(8) as users:
        for _ in range(100):
            record.unlink(missing_ok=True)
            assert list(users.map(lambda _: locate(PDB, "9ZZZ"), range(8))) == [path] * 8
    assert names(path.parent) == [path.name, record.name]


def test_only_web_addresses_are_fetched(tmp_path):
    with pytest.raises(ValueError, match="http or https"):
        ResumableDownload(tmp_path / "partial", 1000)("file:///etc/hostname", str(tmp_path / "out"), None)
