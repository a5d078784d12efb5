"""A training step follows the device of its volume and asks it for no value: shown without a GPU, on tensors without data."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from cryobench_cryogan.build import build_discriminator
from cryobench_cryogan.discriminator import Discriminator
from cryobench_cryogan.method import Params
from cryobench_cryogan.parallel import Team
from cryobench_cryogan.simulator import Simulator
from cryobench_cryogan.state import State
from cryobench_cryogan.step import Stepper
from torch import Tensor

from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.testing.tiny import tiny_run

META = torch.device("meta")


class Batches:
    """Features of real images, without data."""

    def __init__(self, batch: int, box: int, network: Discriminator) -> None:
        self._features = network.embed(torch.empty(batch, box, box, device=META))

    def batch(self, _number: int) -> tuple[Tensor, Tensor]:
        return self._features, torch.empty(len(self._features), device=META, dtype=torch.long)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    return Observed(open_store(tiny_run(tmp_path_factory.mktemp("tiny")) / "observed.zarr", "observed"), 1)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"together": False, "n_discr": 2},
        {"preset": "convolutions", "together": False, "n_discr": 2, "loss": "wasserstein", "penalty_interval": 1},
        {"preset": "convolutions"},
        {"preset": "paper", "batch": 4, "noise": "paired"},
        {"preset": "paper", "batch": 4, "noise": "patches"},
    ],
    ids=["fast", "in turn", "Wasserstein in turn", "convolutions", "paper", "paper, unpaired"],
)
def test_a_step_stays_on_its_device(
    observed: Observed, shapeless: torch.Generator, chosen: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none for this device
    params = Params(**{"batch": 4, "templates": 4, "channels": 2, **chosen})  # type: ignore[arg-type]
    if params.noise == "paired":  # half of the patches are from the micrographs of particles
        observed.micrographs = np.arange(len(observed)) % 3
        observed.patch_micrographs = np.arange(len(observed.noise_patches)) % 6
    simulator = Simulator(observed, params, 1.0, shapeless, Team())
    assert (simulator.noise.partners is not None) == (params.noise == "paired")
    network = build_discriminator(observed, params, simulator.noise.power, shapeless, False)
    state = State(
        simulator,
        network,
        torch.optim.Adam([simulator.values, simulator.log_signal, simulator.log_noise]),
        torch.optim.Adam(network.parameters()),
        shapeless,
        torch.zeros_like(simulator.values),
    )
    batches = Batches(params.batch, observed.box, network)
    stepper = Stepper(params, state, batches, Team())  # type: ignore[arg-type]
    for _ in range(2):
        stepper.take(0.0, False)
    assert simulator.values.grad is not None
    assert simulator.values.grad.device == state.average.device == META


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_after_a_resume_adam_still_counts_on_the_processor(observed: Observed) -> None:
    params, draw = Params(batch=4, templates=4), torch.Generator("cuda").manual_seed(0)
    simulator = Simulator(observed, params, 1.0, draw, Team())
    network = build_discriminator(observed, params, simulator.noise.power, draw, False)
    optimisers = torch.optim.Adam([simulator.values]), torch.optim.Adam(network.parameters())
    state = State(simulator, network, *optimisers, draw, torch.zeros_like(simulator.values))
    simulator.transform().values.sum().backward()
    optimisers[0].step()
    state.load(state.save())
    assert [kept["step"].device.type for kept in optimisers[0].state.values()] == ["cpu"]
