from __future__ import annotations

import subprocess
import sys

import pytest

from cryobench.machine import keep_freed_memory

GIVE_BACK = """
import psutil, torch
from cryobench.machine import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
blocks = [torch.ones(2**20) for _ in range(64)]
held = psutil.Process().memory_info().rss
del blocks
print((held - psutil.Process().memory_info().rss) / 2**20)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_freed_memory_is_kept_for_the_next_block() -> None:
    """Of 256 MiB in blocks of 4 that are freed, all go back to the system without it, and none with it."""
    given_back = [
        float(
            subprocess.run([sys.executable, "-c", GIVE_BACK.format(keep=keep)], capture_output=True, check=True).stdout
        )
        for keep in (False, True)
    ]
    assert given_back == pytest.approx([256, 0], abs=16)
