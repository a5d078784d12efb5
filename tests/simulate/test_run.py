"""What a run reads, and where it computes."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryobench.dataset.store import open_store
from cryobench.errors import InputError
from cryobench.scenario import noise
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.spec import Scenario
from cryobench.simulate import run, simulate


@pytest.fixture
def patched(tmp_path: Path) -> Scenario:
    """A scenario of a few particles with noise from a stack of patches."""
    stack = tmp_path / "noise.mrcs"
    draws = np.random.default_rng(0).standard_normal((210, 40, 40)).astype(np.float32)
    with mrcfile.new(stack, draws) as file:
        file.voxel_size = 7.326
        file.set_image_stack()
    return adapt_scenario("tiny", noise=stack)


def test_the_noise_is_read_once_and_not_again_for_a_whole_dataset(
    patched: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Scenario] = []

    def count(scenario: Scenario) -> object:
        read.append(scenario)
        return noise.noise_sources(scenario)

    monkeypatch.setattr(run, "noise_sources", count)
    observed, _ = simulate(patched, tmp_path / "run", jobs=1)
    assert len(read) == 1
    (tmp_path / "noise.mrcs").unlink()
    assert simulate(patched, tmp_path / "run", jobs=1)[0] == observed
    assert len(read) == 1


def test_a_device_that_is_not_here_is_refused_before_any_work(tmp_path: Path) -> None:
    scenario = adapt_scenario("tiny")
    with pytest.raises(InputError, match="expected a device of this machine"):
        simulate(scenario, tmp_path / "run", device="cuda:77")
    with pytest.raises(InputError, match="expected a device of this machine"):
        simulate(scenario, tmp_path / "run", device="abacus")
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_dataset_of_a_gpu_is_that_of_the_processor_but_for_rounding(tmp_path: Path) -> None:
    scenario = adapt_scenario("tiny", particles=130)
    for device in ("cpu", "cuda"):
        simulate(scenario, tmp_path / device, device=device)
    ours, theirs = (open_store(tmp_path / d / "observed.zarr", "observed") for d in ("cpu", "cuda"))
    difference = ours["images"].values - theirs["images"].values
    assert np.linalg.norm(difference) < 1e-5 * np.linalg.norm(ours["images"].values)
    with pytest.raises(InputError, match="expected a device or workers"):
        simulate(scenario, tmp_path / "both", device="cuda", dask="local:1")
