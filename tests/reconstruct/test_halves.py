"""Halves side by side: two processes give what one gives, and stop as one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cryobench.dataset.store import open_predicted
from cryobench.errors import Declined, PluginError, StoreError
from cryobench.reconstruct.halves import run_together
from cryobench.reconstruct.run import reconstruct
from cryobench.testing.tiny import tiny_run

MODULE = """
import os, time
from cryobench.errors import Declined
from cryobench.reconstruct.contract import Needs, Reconstruction, Reconstructor
from pydantic import BaseModel, ConfigDict, Field

class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")
    steps: int = Field(6, ge=1, description="how many")

class Walk(Reconstructor):
    name, summary, Params, needs = "walk", "a random walk", Params, Needs()

    def reconstruct(self, observed, params, run):
        import torch
        generator = torch.Generator().manual_seed(run.seed)
        volume, step = torch.zeros((observed.box,) * 3), 0
        kept = run.restore()
        if kept is not None:
            volume, step = kept["volume"], kept["step"]
            generator.set_state(kept["generator"])
        while step < params.steps:
            volume = volume + torch.randn(volume.shape, generator=generator)
            step += 1
            run.progress(step, params.steps)
            run.checkpoint({"volume": volume, "step": step, "generator": generator.get_state()}, step)
        return Reconstruction(volume, notes=[str(os.getpid())])

def decline_second(half, on_progress):
    if half == 2:
        raise Declined("half 2 will not")
    while True:
        time.sleep(0.1)

def die(half, on_progress):
    os._exit(7)

def sleep(place, half, on_progress):
    open(os.path.join(place, f"{os.getpid()}.pid"), "w").close()
    time.sleep(120)

def crash(half, on_progress):
    raise ZeroDivisionError("of nothing")
"""


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The module above on the import path, its method registered: spawned processes find it there too."""
    place = tmp_path_factory.mktemp("site")
    (place / "side_by_side.py").write_text(MODULE, encoding="utf-8")
    info = place / "side_by_side-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: side-by-side\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[cryobench.reconstructors]\nwalk = side_by_side:Walk\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        yield
    sys.modules.pop("side_by_side", None)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("dataset"), particles=8)


def copied(dataset: Path, place: Path) -> Path:
    shutil.copytree(dataset, place)
    return place


def test_two_processes_give_what_one_gives_and_go_on_after_a_stop(dataset: Path, tmp_path: Path) -> None:
    _, alone = open_predicted(reconstruct(copied(dataset, tmp_path / "turn"), "walk", device="cpu", workers=1))
    directory = copied(dataset, tmp_path / "together")

    def stop(half: int, *_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct(directory, "walk", device="cpu", workers=2, on_progress=stop)
    with pytest.raises(StoreError, match="unfinished"):
        open_predicted(directory / "predicted.zarr")
    told = []
    path = reconstruct(directory, "walk", device="cpu", workers=2, on_progress=lambda half, *_: told.append(half))
    _, together = open_predicted(path)
    assert set(told) <= {1, 2}
    assert {found.attrs["notes"][0] for found in alone.values()} == {str(os.getpid())}
    # a half that was finished before the stop is left alone, so that the other one may run in this process
    assert {found.attrs["notes"][0] for found in together.values()} != {str(os.getpid())}
    for half, found in together.items():
        np.testing.assert_array_equal(found["volume"].values, alone[half]["volume"].values)


@pytest.mark.parametrize(
    ("work", "error", "reason"),
    [
        ("decline_second", Declined, "half 2 will not"),
        ("crash", PluginError, "ZeroDivisionError: of nothing"),
        ("die", PluginError, r"ended without a word \(exit code 7"),
    ],
)
def test_trouble_in_one_process_stops_both_and_is_named(work: str, error: type[Exception], reason: str) -> None:
    import side_by_side

    with pytest.raises(error, match=reason):
        run_together(getattr(side_by_side, work), [1, 2], lambda *_: None)


def test_halves_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    import side_by_side

    code = (
        f"import sys; sys.path.insert(0, {str(Path(side_by_side.__file__).parent)!r})\n"
        "import functools, side_by_side\n"
        "from cryobench.reconstruct.halves import run_together\n"
        "if __name__ == '__main__':\n"
        f"    run_together(functools.partial(side_by_side.sleep, {str(tmp_path)!r}), [1, 2], lambda *_: None)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, str(script)])
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        children = [psutil.Process(int(path.stem)) for path in tmp_path.glob("*.pid")]
        assert len(children) == 2
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive
