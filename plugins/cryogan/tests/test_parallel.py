from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from cryobench_cryogan.launch import train_in_team
from cryobench_cryogan.method import Params
from cryobench_cryogan.parallel import Team, join
from cryobench_cryogan.train import STEPS_AT_ONCE, Trainer
from numpy.typing import NDArray
from pydantic import ValidationError

from cryobench.dataset.store import open_predicted
from cryobench.dataset.view import Observed
from cryobench.reconstruct.run import method_seed

PARAMS: dict[str, Any] = {
    "steps": 2 * STEPS_AT_ONCE,
    "batch": 8,
    "templates": 8,
    "channels": 2,
    "bfloat16": False,
    "snapshots": 1,
    "coarsest": 8,
    "coarse_share": 0.5,
}
EVERY_STEP = {"snapshots": 64}
"""One is due after every step, which is then looked at."""
CONVOLUTIONS = {"discriminator": "convolutions", "coarsest": None, **EVERY_STEP}
STUDY = {"preset": "paper", "coarsest": None, "penalty": 1.0, "n_discr": 2, **EVERY_STEP}
"""In turn, with the penalty on interpolates and noise patches paired with CTFs."""
SEED = 3
MEASURED = ("discriminator_loss", "discriminator_gradient", "volume_gradient")
Trained: TypeAlias = tuple[dict[int, list[float]], NDArray[np.float32]]


@pytest.fixture
def train(
    observed: Observed, recording_run: Callable[..., Any], name_micrographs: Callable[[Observed], None]
) -> Callable[..., Trained]:
    """What was measured in each step that is told of, and the volume; some noise patches are from particles' micrographs."""
    name_micrographs(observed)

    def train(**given: Any) -> Trained:
        run = recording_run(seed=method_seed(SEED, 1))
        result = train_in_team(observed, Params.model_validate(PARAMS | given), run)
        told = {int(report["step"]): [report[name] for name in MEASURED] for report in run.told}
        return told, result.volume.numpy()

    return train


def assert_same(shared: Trained, alone: Trained, every: int) -> None:
    """To rounding, which training blows up, in ``every`` so many steps."""
    (found, volume), (expected, expected_volume) = shared, alone
    assert list(found) == list(range(every, PARAMS["steps"] + 1, every))
    for step, measured in found.items():
        np.testing.assert_allclose(measured, expected[step], rtol=1e-3, atol=1e-5, err_msg=f"{MEASURED} in step {step}")
    assert np.abs(volume - expected_volume).max() < 0.01 * np.abs(expected_volume).max()


@pytest.mark.parametrize(
    ("given", "every"),
    [({}, STEPS_AT_ONCE), (CONVOLUTIONS, 1), (STUDY, 1)],
    ids=["templates, two boxes", "convolutions", "study"],
)
def test_two_processes_train_as_one_with_the_joint_batch(
    given: dict[str, Any], every: int, train: Callable[..., Trained]
) -> None:
    assert_same(train(processes=2, **given), train(**given), every)


@pytest.mark.slow
def test_torchrun_starts_the_same(tiny_directory: Path, tmp_path: Path, train: Callable[..., Trained]) -> None:
    shutil.copytree(tiny_directory / "observed.zarr", tmp_path / "observed.zarr")
    words = [f"-p{name}={str(value).lower()}" for name, value in PARAMS.items()]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*torchrun, "-m", "cryobench_cryogan", str(tmp_path), f"--seed={SEED}", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    _, halves = open_predicted(tmp_path / "predicted.zarr")
    last = halves[1]["history_step"].values[-1], halves[1]["history_discriminator_loss"].values[-1]
    told, expected = train()
    assert last == (PARAMS["steps"], pytest.approx(told[PARAMS["steps"]][0], rel=1e-3))
    assert np.abs(halves[1]["volume"].values - expected).max() < 0.01 * np.abs(expected).max()


def test_learning_rates_go_by_the_leaders_clock(
    observed: Observed, recording_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each member's own would let their volumes drift apart."""
    monkeypatch.setattr(Team, "agree", lambda *_: [10.0, 30.0])  # seconds left, and spent
    take, spent = Trainer.take_step, []

    def note(self: Trainer, share: float, measure: bool) -> dict[str, float]:
        spent.append(share)
        return take(self, share, measure)

    monkeypatch.setattr(Trainer, "take_step", note)
    Trainer(observed, Params(**PARAMS), recording_run()).train()
    assert set(spent) == {0.75}


def test_a_gpu_without_a_number_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    for name in ("cuda", "cuda:2"):
        join("tcp://127.0.0.1:1", 0, 2, torch.device(name))
    assert chosen == [0, 2]


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValidationError, match="share evenly"):
        Params(batch=9, processes=2)
