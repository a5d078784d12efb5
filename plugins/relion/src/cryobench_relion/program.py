"""One run of ``relion_refine``: in a process group of its own, followed through the files it writes, and stopped whole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, final

from cryobench.errors import Declined, InputError, PluginError
from cryobench.interop.mrc import read_map
from cryobench_relion.tether import tether

PROGRAM: Final = "relion_refine"
RECONSTRUCT: Final = "relion_reconstruct"
POLL_SECONDS: Final = 0.1
LOG_LINES: Final = 12
"""Last lines of RELION's own words that an error shows."""


def check_version() -> str:
    """The version of the program on the search path.

    Raises:
        Declined: if it is not 3.1: later ones descend by ``--grad``, with other settings, and earlier ones know no optics groups.
    """
    try:
        told = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Declined(f"expected {PROGRAM} to tell its version, got: {error}") from error
    found = re.search(r"version:?\s+(\d+\.\d+\S*)", told)
    if found is None or not found[1].startswith("3.1"):
        raise Declined(f"expected RELION 3.1 (Debian package relion), got {found[1] if found else told[:80]!r}")
    return found[1]


def reconstruct_map(directory: Path, table: str, symmetry: str, output: str) -> Path:
    """RELION's final map: all images of ``table`` inserted by their poses, on a padded grid with gridding correction.

    Args:
        directory: that it runs in; names in the table are relative to it.
        table: STAR file with poses and CTFs.
        symmetry: point group to impose.
        output: name of the map.

    Raises:
        PluginError: if RELION fails, with its last words.
    """
    command = [RECONSTRUCT, "--i", table, "--o", output, "--ctf", "--sym", symmetry]
    done = subprocess.run(tether(command), cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0 or not (directory / output).is_file():
        raise PluginError(
            f"{RECONSTRUCT} failed with exit code {done.returncode}: {_last_words(done.stdout + done.stderr)}"
        )
    return directory / output


@final
class RelionRefine:
    """A context: RELION runs within, and has ended or is killed when it is left, or when this process is killed.

    Args:
        directory: that it runs in; names in its files are relative to it.
        name: of this run, and of the directory in there that its output goes to.
        arguments: beside ``--o``.
    """

    def __init__(self, directory: Path, name: str, arguments: Sequence[str]) -> None:
        self._directory, self._outputs, self._arguments = directory, directory / name, arguments
        self._log = self._outputs / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RelionRefine:
        self._outputs.mkdir()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                tether([PROGRAM, "--o", f"{self._outputs.name}/run", *self._arguments]),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def follow(self, remaining: Callable[[], float]) -> Iterator[int]:
        """Yield the number of every iteration as soon as its files are whole, from 0, which is the state before the first.

        Ends with the program, or when ``remaining()`` seconds are none and there is an iteration at least.

        Raises:
            PluginError: if RELION fails, with its last words.
        """
        assert self._process is not None
        following = 0
        while True:
            ended = self._process.poll() is not None  # asked first, so that what it wrote last is still seen
            while self._is_whole(following):
                yield following
                following += 1
            if ended:
                break
            if following and remaining() <= 0:
                return
            time.sleep(POLL_SECONDS)
        if self._process.returncode != 0 or not following:
            raise PluginError(
                f"{PROGRAM} failed with exit code {self._process.returncode}: {_last_words(self._log.read_bytes())}"
            )

    def file(self, iteration: int, part: str) -> Path:
        """Path of an iteration's file, such as ``"data.star"``."""
        return self._outputs / f"run_it{iteration:03d}_{part}"

    def forget(self, iteration: int) -> None:
        """Remove the files of an iteration: hundreds of them fill a disc."""
        for path in self._outputs.glob(f"run_it{iteration:03d}_*"):
            path.unlink()

    def _is_whole(self, iteration: int) -> bool:
        """Whether the table, which is written after the map and ends with an empty line, and the map are there to the end."""
        table = self.file(iteration, "data.star")
        if not table.is_file() or not table.read_bytes()[-8:].endswith(b"\n \n"):
            return False
        try:
            read_map(self.file(iteration, "class001.mrc"))
        except InputError:
            return False
        return True


def _last_words(log: bytes) -> str:
    text = log.decode("utf-8", errors="replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip() and "~~(" not in line]
    return " | ".join(lines[-LOG_LINES:])
