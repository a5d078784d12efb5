"""What a training returns of its steps, and steps with a compiled discriminator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cryobench_cryogan.method import Params
from cryobench_cryogan.simulator import Simulator

STUDY = {
    "discriminator": "convolutions",
    "loss": "wasserstein",
    "penalty": 1.0,
    "penalty_interval": 1,
    "together": False,
}


@pytest.mark.parametrize(
    ("average", "weights"),
    [(0.0, (0, 0, 0, 1)), (0.5, (1 / 8, 1 / 8, 1 / 4, 1 / 2)), (0.999, (1 / 4, 1 / 4, 1 / 4, 1 / 4))],
)
def test_the_running_mean_of_the_volumes_is_returned(
    average: float,
    weights: tuple[float, ...],
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plain mean until it is as long as asked for; the last volume alone where none is asked for."""
    constrain, volumes = Simulator.constrain, []

    def note(self: Simulator) -> None:
        constrain(self)
        volumes.append(self.values.detach().clone())

    monkeypatch.setattr(Simulator, "constrain", note)
    trainer, result = trained(small(steps=4, coarsest=None, average=average), recording_run())
    simulator = trainer.state.simulator
    assert len(volumes) == 4
    mean = sum(weight * volume for weight, volume in zip(weights, volumes, strict=True))
    with torch.no_grad():
        expected = simulator.constrained(mean) * simulator.unit * simulator.log_signal.exp()
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(result.volume, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.filterwarnings("ignore")  # of what torch's compiler looks at on its way
@pytest.mark.parametrize(
    "given", [{}, {"discriminator": "convolutions", "penalty": 0.1}, STUDY], ids=["fast", "R1", "study"]
)
def test_a_compiled_discriminator_has_the_losses_of_one_that_is_not(
    given: dict[str, Any],
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Graphs of forward and backward pass are recorded as ever and run as they are: machine code would take minutes to make."""
    compile_with, compiled = torch.compile, []

    def record(network: torch.nn.Module) -> Any:
        compiled.append(network)
        return compile_with(network, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", record)
    told = {}
    for asked in (False, True):
        run = recording_run()
        trained(small(steps=3, coarsest=None, compile=asked, **given), run)
        told[asked] = [(report["discriminator_loss"], report["volume_gradient"]) for report in run.told]
        assert bool(compiled) == asked
    torch.testing.assert_close(told[True], told[False], rtol=1e-4, atol=0)
