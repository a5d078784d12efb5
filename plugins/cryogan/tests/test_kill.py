"""Killed at any moment and given the same command again, a training ends with the volumes of one that was left alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from cryobench.dataset.store import open_predicted

SCRIPT = """
import os, signal, sys
from pathlib import Path
from cryobench.machine import torch_threads
from cryobench.reconstruct import harness
from cryobench.reconstruct.run import reconstruct
import torch

# what is imported late is there before the first fork
import cryobench_cryogan.launch, cryobench_cryogan.train, torch._dynamo

cryobench_cryogan.train.CHECKPOINT_SECONDS = harness.HISTORY_INTERVAL = 0.0
PARAMS = {"steps": 16, "batch": 8, "templates": 4, "coarsest": 8, "coarse_share": 0.5, "snapshots": 2}
whole, killed = map(Path, sys.argv[1:])
save, written = torch.save, []


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def go_on(*_):
    pass


def kill_at(half, step):
    return lambda *now: kill() if now[:2] == (half, step) else None


def kill_within_a_write(kept, file):
    written.append(file)
    save(kept, file)
    if len(written) == 5:
        os.truncate(file, file.stat().st_size // 2)
        kill()


def train(directory, on_progress=go_on, write=save):
    pid = os.fork()
    if pid == 0:
        torch.save = write
        with torch_threads(1):
            reconstruct(directory, "cryogan", PARAMS, device="cpu", workers=1, on_progress=on_progress)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == (0 if on_progress is go_on and write is save else -signal.SIGKILL), status


train(whole)
train(killed, kill_at(1, 6))  # in the smaller box
train(killed, write=kill_within_a_write)
train(killed, kill_at(2, 12))  # in the larger box
train(killed)
"""


def test_a_training_that_is_killed_again_and_again_ends_with_the_same_volumes(
    tiny_directory: Path, tmp_path: Path
) -> None:
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    for directory in (whole, killed):
        shutil.copytree(tiny_directory / "observed.zarr", directory / "observed.zarr")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(whole), str(killed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (_, expected), (_, found) = (open_predicted(directory / "predicted.zarr") for directory in (whole, killed))
    for half in (1, 2):
        for name in ("volume", "history_step", "history_discriminator_loss", "snapshots"):
            np.testing.assert_array_equal(found[half][name].values, expected[half][name].values)
