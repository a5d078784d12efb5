"""The machine: its processor, what this process may use of it, and where it keeps what can be made again."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def available_cores() -> int:
    """Cores this process may run on: those of its affinity mask, which schedulers set, and not all that the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def keep_freed_memory() -> bool:
    """Have this process keep freed blocks of up to 32 MiB for its next ones, where its C library is glibc.

    By itself glibc hands blocks of that size back to the system, and the next step of a training touches every page of its
    tensors as a new one: a fifth to a third of the time of a step, and more where two processes do so side by side.

    Returns:
        Whether the library took it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    trim_threshold, mmap_threshold = -1, -3  # malloc.h; the largest values that they may have
    return mallopt is not None and bool(mallopt(mmap_threshold, 2**25) and mallopt(trim_threshold, 2**31 - 1))


def cache_directory() -> Path:
    """The platform's cache directory of this program; what it holds can be fetched or computed again."""
    import pooch

    return Path(pooch.os_cache("cryobench"))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with ``count`` torch threads: sums and FFTs differ in their last bits with the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
