from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from cryobench_cryogan.method import Params
from cryobench_cryogan.step import Stepper
from cryobench_cryogan.train import Trainer

from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.machine import torch_threads
from cryobench.testing.tiny import tiny_run


@dataclass
class RecordingRun:
    """A harness in memory: keeps every report, and the last checkpoint as the bytes of a file."""

    seed: int = 7
    stop_at: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    file: bytes | None = None
    told: list[dict[str, float]] = field(default_factory=list)
    snapshots: list[torch.Size] = field(default_factory=list)
    left: Callable[[], float] = lambda: math.inf

    def remaining(self) -> float:
        return self.left()

    def progress(self, step: int, total: int, images_seen: int = 0, **scalars: float) -> None:
        self.told.append({"step": step, "total": total, "images_seen": images_seen, **scalars})
        if step == self.stop_at:
            raise KeyboardInterrupt

    def snapshot(self, volume: torch.Tensor, images_seen: int = 0) -> None:
        assert bool(torch.isfinite(volume).all())
        assert images_seen >= 0
        self.snapshots.append(volume.shape)

    def checkpoint(self, state: Mapping[str, Any], step: int) -> None:
        assert state["step"] == step
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.file = buffer.getvalue()

    def restore(self) -> dict[str, Any] | None:
        return None if self.file is None else torch.load(io.BytesIO(self.file), weights_only=True)


class Shapeless(torch.Generator):
    """A generator for tensors without data."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("meta")


@pytest.fixture
def shapeless() -> torch.Generator:
    """Draws on the device of tensors without data."""
    return Shapeless()


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device this machine has."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def observed(tiny_directory: Path) -> Observed:
    """The first half of the tiny dataset: 96 images of 16 pixels."""
    return Observed(open_store(tiny_directory / "observed.zarr", "observed"), 1)


@pytest.fixture
def name_micrographs() -> Callable[[Observed], None]:
    """Have half of the noise patches be from the micrographs of particles."""

    def name(observed: Observed) -> None:
        observed.micrographs = torch.arange(len(observed)) % 3
        observed.patch_micrographs = torch.arange(len(observed.noise_patches)) % 6

    return name


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Callable[[], float]]:
    """``clock(10)`` has every step of training take ten seconds, and nothing else any; what it returns tells the time."""

    def start(seconds: float) -> Callable[[], float]:
        time_now, take = [0.0], Trainer.take_step

        def tick(self: Trainer, *arguments: Any) -> dict[str, float]:
            time_now[0] += seconds
            return take(self, *arguments)

        monkeypatch.setattr(Trainer, "take_step", tick)
        monkeypatch.setattr(time, "monotonic", lambda: time_now[0])
        return lambda: time_now[0]

    return start


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Step and box of every step that is taken."""
    found: list[tuple[int, int]] = []
    take = Stepper.take

    def note(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        found.append((self.state.step, self.state.simulator.observed.box))
        return take(self, *arguments)

    monkeypatch.setattr(Stepper, "take", note)
    return found


@pytest.fixture
def small() -> Callable[..., Params]:
    """Parameters of a training that takes a second."""

    def make(**given: Any) -> Params:
        return Params.model_validate(
            {"steps": 24, "batch": 8, "templates": 8, "channels": 2, "bfloat16": False, **given}
        )

    return make


@pytest.fixture
def recording_run() -> Callable[..., RecordingRun]:
    return RecordingRun


@pytest.fixture
def trained(observed: Observed) -> Callable[..., tuple[Trainer, Any]]:
    """Train on the tiny half-set with given parameters and run."""

    def train(params: Params, run: RecordingRun) -> tuple[Trainer, Any]:
        trainer = Trainer(observed, params, run)
        return trainer, trainer.train()

    return train
