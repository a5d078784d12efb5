"""Killed at any moment and started again, a run ends with the bytes of one that was left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cryobench.dataset.store import digest, open_store

SCRIPT = """
import os, random, signal, sys, time
from pathlib import Path
import cryobench.simulate.run
from cryobench.dataset.store import open_store
from cryobench.errors import StoreError
from cryobench.scenario.files import adapt_scenario

directory, kills = Path(sys.argv[1]), int(sys.argv[2])
scenario = adapt_scenario("tiny", particles=10240, settings=["noise.pool=64"])


# what is imported late is there before the first fork; nothing was computed, since MKL's memory does not live through a fork
import cryobench.physics.formation, cryobench.specimens.phantom


def begin(where):
    pid = os.fork()
    if pid == 0:
        signal.alarm(100)
        cryobench.simulate.run.simulate(scenario, where, seed=1, jobs=2)
        os._exit(0)
    return pid


def written(where):
    return sum(len(files) for _, _, files in os.walk(where))  # which bears that directories vanish


os.waitpid(begin(directory / "whole"), 0)
total, chance = written(directory / "whole"), random.Random(7)
for number in range(kills):
    # by how much is written, not by the clock: a busy machine gets no further in the same time
    moment, pid = total * number // kills, begin(directory / "killed")
    while written(directory / "killed") < moment:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.05))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    there = [p for p in (directory / "killed").rglob("*") if p.is_file() and p.name.isdigit()]
    try:
        open_store(directory / "killed" / "observed.zarr", "observed")
        state = "whole"
    except StoreError:
        state = "refused"
    print(state, sorted(p.name for p in (directory / "killed").glob("*")), sum("images" in p.parts for p in there), flush=True)
_, status = os.waitpid(begin(directory / "killed"), 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_digest(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "8"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    moments = done.stdout.splitlines()
    assert len(set(moments)) > 2, f"the kills were to come at different moments, they came at {moments}"
    assert all(moment.startswith("refused") or moment.endswith(" 5") for moment in moments), moments
    for name in ("truth", "observed"):
        stores = [open_store(tmp_path / run / f"{name}.zarr", name) for run in ("whole", "killed")]  # type: ignore[arg-type]
        assert digest(stores[0]) == digest(stores[1])
    leftovers = [p for p in (tmp_path / "killed").rglob("*") if p.suffix in (".partial", ".building", ".discarded")]
    assert not leftovers
