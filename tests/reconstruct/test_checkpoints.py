"""Checkpoints: whole or not at all, and never code that somebody slipped in."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr

from cryobench.reconstruct.harness import Harness


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "predicted.checkpoints" / "half1.pt"


def begin(place: Path) -> Harness:
    """A try at a half, the first or a later one."""
    group = zarr.open_group(place.parent.with_suffix(".zarr"), mode="a", zarr_format=3)
    return Harness(group, place, 0, torch.device("cpu"), math.inf, lambda *_: None)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_tensors_numbers_and_words_come_back(place: Path) -> None:
    begin(place).checkpoint({"volume": torch.arange(8.0), "rate": 0.5, "notes": ["well"]}, 3)
    later = begin(place)
    kept = later.restore()
    assert kept is not None
    assert torch.equal(kept.pop("volume"), torch.arange(8.0))
    assert kept == {"rate": 0.5, "notes": ["well"]}
    assert later.steps == 3


def test_a_pickled_object_is_refused_and_not_run(place: Path, tmp_path: Path) -> None:
    """Whoever can write a checkpoint must not be able to have code run."""
    begin(place).checkpoint({"volume": torch.zeros(8), "trap": Trap(tmp_path / "sprung")}, 3)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        begin(place).restore()
    assert not (tmp_path / "sprung").exists()


def test_a_write_that_breaks_off_leaves_the_checkpoint_before_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(place).checkpoint({"value": 1}, 1)

    def break_off(_: object, file: Path) -> None:
        file.write_bytes(b"PK")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", break_off)
        with pytest.raises(KeyboardInterrupt):
            begin(place).checkpoint({"value": 2}, 2)
    assert begin(place).restore() == {"value": 1}
    begin(place).checkpoint({"value": 3}, 3)
    assert begin(place).restore() == {"value": 3}
    assert [file.name for file in place.parent.iterdir()] == [place.name]
