"""How readers are tried: so many damaged and invented files, in bounded time and memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryobench.errors import InputError, UnknownName
from cryobench.testing.damage import limits

EXAMPLES: Final = int(os.environ.get("CRYOBENCH_FUZZ", "150"))
"""Files for each reader; ``make fuzz`` tries 10,000, others each time."""

Read = Callable[[Path], object]
Try = Callable[[Read, str, Sequence[bytes], st.SearchStrategy[bytes], st.SearchStrategy[bytes]], None]


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Where files are written; in memory where there is a place for it, as a disc takes longer over each than its reader."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as directory:
        yield Path(directory)


@pytest.fixture
def try_reader(scratch: Path) -> Try:
    """``try_reader(read, suffix, samples, damaged, invented)``: only an ``InputError`` or ``UnknownName`` of one line comes out.

    ``read`` gets a path, asserts what holds for whatever it accepts, and must accept at least one of the whole ``samples``.
    """

    def try_reader(
        read: Read,
        suffix: str,
        samples: Sequence[bytes],
        damaged: st.SearchStrategy[bytes],
        invented: st.SearchStrategy[bytes],
    ) -> None:
        path = scratch / f"sample{suffix}"

        def accepted(content: bytes) -> bool:
            path.write_bytes(content)
            try:
                with limits():
                    read(path)
            except (InputError, UnknownName) as error:
                message = str(error)
            else:
                return True
            assert "\n" not in message
            assert len(message) < 2000
            return False

        @settings(
            max_examples=EXAMPLES,
            derandomize="CRYOBENCH_FUZZ" not in os.environ,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.one_of(damaged, damaged, damaged, invented))
        def survives(content: bytes) -> None:
            accepted(content)

        read_whole = [accepted(sample) for sample in samples]
        assert any(read_whole)
        survives()

    return try_reader


@pytest.fixture(scope="session")
def real() -> Callable[..., list[bytes]]:
    """``real("particles/relion31.star", lines=60)``: real samples or their first lines, none where there is no data directory."""

    def real(*names: str, lines: int | None = None) -> list[bytes]:
        data = os.environ.get("CRYOBENCH_DATA")
        contents = [(Path(data) / name).read_bytes() for name in names] if data else []
        return contents if lines is None else [b"\n".join(text.split(b"\n")[:lines]) for text in contents]

    return real
