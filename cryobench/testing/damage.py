"""Damaged and invented files, for tests of what reads them: hypothesis strategies, and limits on what reading may take."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st

from cryobench.interop.particles import ParticleTable

SECONDS_PER_INPUT: Final = 20
MEMORY_PER_INPUT: Final = 512 * 2**20
"""Bytes; more than a small file ever needs, less than what its header may be made to state."""

TOKENS: Final = (
    *(
        "nan",
        "inf",
        "-inf",
        "-1",
        "0",
        "1",
        "2",
        "0.5",
        "1e400",
        "1e300",
        "1e-320",
        "1_000",
        "0x10",
        "1,5",
        "2147483648",
    ),
    *(
        "12000",
        "300",
        "0.1",
        "2.7",
        "1.5",
        "64",
        "9" * 40,
        "9" * 5000,
        "None",
        "NA",
        "true",
        "''",
        '""',
        '"',
        "'a b'",
        '"a b"',
    ),
    *(
        "a.mrc",
        "@",
        "000001@",
        "@s.mrcs",
        "0@s.mrcs",
        "000000@s.mrcs",
        "000001@s.mrcs",
        "000002@s.mrcs",
        "-1@s.mrcs",
        "1@/",
    ),
    *(
        "1@../../a",
        "\u0661@s.mrcs",
        f"{'9' * 20}@s.mrcs",
        "\u00e9",
        "\x00",
        "\x85",
        "x" * 300,
        "[0,0]",
        "[[[",
        "#",
        ";",
        "_",
    ),
    *("data_", "data_optics", "data_particles", "loop_", "_rlnDefocusU", "_rlnImageName"),
)
"""What stands where a value is expected: numbers at and beyond every edge, words of other places, quotes without end."""
NUMBERS: Final = (0, 1, -1, 2, 3, 4, 12, 101, 255, 401, 1024, 65535, 10**6, 2**30, 2**31 - 1, -(2**31))
"""What stands in a field of a binary header."""

_WHERE: Final = st.integers(0, 2**16)
_BYTE_CHANGES: Final = st.one_of(
    st.tuples(st.just("flip"), _WHERE, st.integers(0, 7)),
    st.tuples(st.just("cut"), _WHERE),
    st.tuples(st.just("delete"), _WHERE, st.integers(1, 64)),
    st.tuples(st.just("repeat"), _WHERE, st.integers(1, 64)),
    st.tuples(st.just("insert"), _WHERE, st.binary(max_size=16)),
    st.tuples(
        st.just("number"), st.integers(0, 56), st.sampled_from(NUMBERS), st.sampled_from(["<i4", ">i4", "<f4", "<i8"])
    ),
)
_TEXT_CHANGES: Final = st.one_of(
    st.tuples(st.just("token"), _WHERE, _WHERE, st.sampled_from(TOKENS)),
    st.tuples(st.just("lose token"), _WHERE, _WHERE),
    st.tuples(st.just("lose column"), _WHERE, _WHERE),
    st.tuples(st.just("lose line"), _WHERE),
    st.tuples(st.just("repeat line"), _WHERE, _WHERE),
    _BYTE_CHANGES,
)


@contextmanager
def limits(seconds: int = SECONDS_PER_INPUT, memory: int = MEMORY_PER_INPUT) -> Iterator[None]:
    """An alarm that ends what hangs, and an address space in which to allocate more than ``memory`` is a ``MemoryError``.

    For Linux, and the main thread.

    Raises:
        TimeoutError: after ``seconds``.
    """

    def stop(*_: object) -> None:
        raise TimeoutError(f"reading took more than {seconds} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, before[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def damaged_bytes(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Samples with bits flipped, bytes lost, repeated and put in, cut short, or with another number in the header."""
    return _damaged(samples, _BYTE_CHANGES, _change_bytes)


def damaged_text(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Samples with tokens, lines and columns lost, repeated or replaced by :data:`TOKENS`, or their bytes damaged."""
    return _damaged(samples, _TEXT_CHANGES, _change_text)


def invented_text(words: Sequence[str] = (), lines: int = 8) -> st.SearchStrategy[bytes]:
    """Lines of :data:`TOKENS` and ``words``."""
    known = [*words, *TOKENS, "\n", "\n"]
    return st.binary(max_size=8 * lines).map(
        lambda drawn: " ".join(known[byte % len(known)] for byte in drawn).encode()
    )


def _damaged(
    samples: Sequence[bytes],
    changes: st.SearchStrategy[tuple[Any, ...]],
    change: Callable[[bytes, tuple[Any, ...]], bytes],
) -> st.SearchStrategy[bytes]:
    def damage(number: int, made: list[tuple[Any, ...]]) -> bytes:
        data = samples[number]
        for one in made:
            data = change(data, one)
        return data

    return st.builds(damage, st.sampled_from(range(len(samples))), st.lists(changes, min_size=1, max_size=5))


def _change_bytes(data: bytes, change: tuple[Any, ...]) -> bytes:
    where = change[1] % max(len(data), 1)
    before, after = data[:where], data[where:]
    match change[0]:
        case "flip" if after:
            return before + bytes([after[0] ^ (1 << change[2])]) + after[1:]
        case "cut":
            return before
        case "delete":
            return before + after[change[2] :]
        case "repeat":
            return before + after[: change[2]] + after
        case "insert":
            return before + change[2] + after
        case "number":  # at the start, where headers are
            field, value = change[1] * 4, np.array(change[2]).astype(change[3]).tobytes()
            return data[:field] + value + data[field + len(value) :]
    return data


def _change_text(data: bytes, change: tuple[Any, ...]) -> bytes:
    lines = data.split(b"\n")
    row = change[1] % len(lines)
    words = lines[row].split()
    match change[0]:
        case "token" if words:
            words[change[2] % len(words)] = change[3].encode()
            lines[row] = b" ".join(words)
        case "lose token" if words:
            del words[change[2] % len(words)]
            lines[row] = b" ".join(words)
        case "lose column" if words:
            for i in [i for i, line in enumerate(lines) if len(line.split()) == len(words)]:
                kept = lines[i].split()
                del kept[change[2] % len(words)]
                lines[i] = b" ".join(kept)
        case "lose line":
            del lines[row]
        case "repeat line":
            lines.insert(change[2] % len(lines), lines[row])
        case "token" | "lose token" | "lose column":  # of an empty line
            pass
        case _:
            return _change_bytes(data, change)
    return b"\n".join(lines)


def check_table(table: ParticleTable) -> None:
    """Assert what holds of every table that a reader gives, however odd its file was."""
    n = len(table)
    assert n > 0
    for column in (
        *table.ctf.values(),
        table.pixel_size,
        table.box,
        table.index,
        table.quaternion,
        table.shift,
        table.half,
    ):
        assert column is None or (len(column) == n and np.isfinite(column).all())
    assert (table.index >= 0).all()
    assert (table.pixel_size > 0).all()
    assert table.half is None or set(table.half.tolist()) <= {1, 2}
