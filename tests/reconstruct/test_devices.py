"""Where the halves are computed: side by side on two GPUs where there are two and none was named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from cryobench.reconstruct import run as harness_of
from cryobench.reconstruct.contract import Reconstructor
from cryobench.reconstruct.run import default_workers, device_of
from cryobench.testing.tiny import tiny_run


class Nothing(BaseModel):
    """Parameters of a method that has none."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``machine(gpus=2, cores=4)`` is what the harness then finds."""

    def make(gpus: int = 0, cores: int = 1) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(harness_of, "available_cores", lambda: cores)

    return make


@pytest.mark.parametrize(
    ("device", "gpus", "cores", "expected"),
    [
        ("cuda", 2, 1, 2),
        ("cuda", 8, 1, 2),
        ("cuda", 1, 8, 1),
        ("cuda:0", 2, 8, 1),
        ("cuda:1", 2, 8, 1),
        ("cpu", 0, 1, 1),
        ("cpu", 2, 1, 1),
        ("cpu", 0, 2, 2),
    ],
)
def test_halves_run_at_once_where_each_has_a_device_or_a_core(
    device: str, gpus: int, cores: int, expected: int, machine: Callable[..., None]
) -> None:
    machine(gpus, cores)
    assert default_workers(torch.device(device)) == expected


@pytest.mark.parametrize(
    ("device", "gpus", "together", "expected"),
    [
        ("cuda", 2, True, ["cuda:0", "cuda:1"]),
        ("cuda", 8, True, ["cuda:0", "cuda:1"]),
        ("cuda", 1, True, ["cuda:0", "cuda:0"]),  # --workers 2 by hand
        ("cuda", 2, False, ["cuda", "cuda"]),
        ("cuda:1", 2, True, ["cuda:1", "cuda:1"]),
        ("cpu", 2, True, ["cpu", "cpu"]),
    ],
)
def test_each_half_has_a_gpu_of_its_own_only_where_both_run_and_none_was_named(
    device: str, gpus: int, together: bool, expected: list[str], machine: Callable[..., None]
) -> None:
    machine(gpus)
    assert [str(device_of(half, torch.device(device), together)) for half in (1, 2)] == expected


@pytest.mark.parametrize(
    ("gpus", "workers", "how", "devices"),
    [
        (2, None, "together", {1: "cuda:0", 2: "cuda:1"}),
        (2, 1, "in turn", {1: "cuda", 2: "cuda"}),
        (1, None, "in turn", {1: "cuda", 2: "cuda"}),
    ],
)
def test_a_run_puts_its_halves_there(
    gpus: int,
    workers: int | None,
    how: str,
    devices: dict[int, str],
    tmp_path: Path,
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(gpus)
    begun: list[tuple[str, Any, list[int]]] = []

    def begin(way: str) -> Callable[..., None]:
        def note(work: Any, halves: list[int], _: object) -> None:
            begun.append((way, work.devices, halves))
            raise KeyboardInterrupt  # before any GPU is looked for

        return note

    monkeypatch.setattr(harness_of, "run_together", begin("together"))
    monkeypatch.setattr(harness_of, "run_in_turn", begin("in turn"))
    monkeypatch.setattr(harness_of, "describe", lambda *_: {})
    monkeypatch.setattr(harness_of, "method_version", lambda _: "1.0")
    monkeypatch.setattr(harness_of, "check_method", lambda *_: (Reconstructor, Nothing(), torch.device("cuda")))
    with pytest.raises(KeyboardInterrupt):
        harness_of.reconstruct(tiny_run(tmp_path, particles=4), "method", workers=workers)
    assert begun == [(how, devices, [1, 2])]
