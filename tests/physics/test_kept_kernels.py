"""Compiled code that is kept on disk is not used any more when what it was compiled from changes, in whichever file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cryobench.physics import kernels

CALLER = """
from kernels import compiled, row_length

@compiled
def twice(ky: int, box: int) -> int:
    return 2 * row_length(ky, box)

print(twice(0, 8), sum(twice.stats.cache_hits.values()))
"""


def test_a_change_of_the_shared_kernels_reaches_those_who_call_them(tmp_path: Path) -> None:
    shared, source = tmp_path / "kernels.py", Path(kernels.__file__).read_text(encoding="utf-8")
    (tmp_path / "caller.py").write_text(CALLER, encoding="utf-8")
    kept = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def call() -> str:
        done = subprocess.run(
            [sys.executable, "caller.py"], cwd=tmp_path, env=kept, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    shared.write_text(source, encoding="utf-8")
    assert call() == "8 0"
    assert call() == "8 1"  # from the disk
    shared.write_text(source.replace("    return length\n", "    return length + 1\n"), encoding="utf-8")
    assert call() == "10 0"
