from __future__ import annotations

import subprocess
import sys

import pytest

from cryobench.machine import keep_freed_memory

ROUNDS = """
import resource, torch
from cryobench.machine import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
for round in range(40):
    if round == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = torch.ones(4, 2**20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_freed_memory_is_kept_for_the_next_block() -> None:
    """Pages of a block of 16 MiB that are touched as new ones, 20 times over: all without it, none with it."""
    without, kept = (
        int(subprocess.run([sys.executable, "-c", ROUNDS.format(keep=keep)], capture_output=True, check=True).stdout)
        for keep in (False, True)
    )
    assert without > 100
    assert kept < without / 20
