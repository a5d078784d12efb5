"""A training step follows the device of its volume and asks it for no value: shown without a GPU, on tensors without data.

With one, it computes there what the processor does: given the same first state, poses and noise, since the draws of a device's
generator are its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import pytest
import torch
from cryobench_cryogan import train
from cryobench_cryogan.build import build_discriminator
from cryobench_cryogan.discriminator import Discriminator
from cryobench_cryogan.method import Params
from cryobench_cryogan.parallel import Team
from cryobench_cryogan.simulator import Simulator
from cryobench_cryogan.state import State
from cryobench_cryogan.step import Stepper
from cryobench_cryogan.train import Trainer
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
    observed: Observed,
    shapeless: torch.Generator,
    chosen: dict[str, object],
    name_micrographs: Callable[[Observed], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none for this device
    params = Params.model_validate({"batch": 4, "templates": 4, "channels": 2, **chosen})
    if params.noise == "paired":
        name_micrographs(observed)
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


def draw_on_the_processor(observed: Observed, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poses and noise from a generator of the processor, so that they are the same wherever the images are formed."""
    draw, like = torch.Generator().manual_seed(11), simulator.values
    seen = deepcopy(observed)

    def draw_poses(count: int, _: torch.Generator) -> tuple[Tensor, Tensor]:
        rotations, shifts = seen.sample_poses(count, draw)
        return rotations.to(like), shifts.to(like)

    def draw_noise(count: int, *_: object) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(seen), (count,), generator=draw)
        # drawn in single precision wherever it goes: in double the numbers are others
        return rows.to(like.device), torch.randn(count, seen.box, seen.box, generator=draw).to(like)

    monkeypatch.setattr(observed, "sample_poses", draw_poses)
    monkeypatch.setattr(simulator.noise, "draw", draw_noise)


def difference(found: Tensor | None, expected: Tensor | None) -> float:
    """Norm of the difference over the norm of what was expected."""
    assert found is not None
    assert expected is not None
    return float((found.cpu() - expected).norm() / expected.norm())


@pytest.fixture
def _whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in single precision and not in TF32, which would keep three digits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.usefixtures("_whole_numbers")
@pytest.mark.parametrize("chosen", [{}, {"preset": "convolutions"}], ids=["templates", "convolutions"])
def test_scores_and_their_gradients_are_those_of_double_precision(
    observed: Observed, small: Callable[..., Params], device: torch.device, chosen: dict[str, Any]
) -> None:
    draw, power = torch.Generator().manual_seed(3), observed.noise_power
    exact = build_discriminator(observed, small(**chosen), power, draw, False)
    network = build_discriminator(observed, small(**chosen), power, torch.Generator(device).manual_seed(0), False)
    network.load_state_dict(exact.state_dict())
    exact.double()
    images = torch.randn(6, observed.box, observed.box, generator=draw)
    slope, told = torch.randn(6, 1, generator=draw), exact.transfer(observed.ctf[torch.arange(6)])

    def judge(judging: Discriminator, like: Tensor) -> tuple[Tensor, Tensor]:
        points = images.to(like).requires_grad_()
        scores = judging(judging.embed(points), told.to(like))
        scores.backward(slope.to(like))
        assert points.grad is not None
        return scores.detach(), points.grad

    expected = judge(exact, torch.zeros((), dtype=torch.float64))
    found = judge(network, torch.zeros((), device=device))
    assert found[0].device.type == device.type
    assert [difference(*pair) < 1e-4 for pair in zip(found, expected, strict=True)] == [True, True]
    for own, other in zip(network.parameters(), exact.parameters(), strict=True):
        assert difference(own.grad, other.grad) < 1e-4


@pytest.mark.parametrize("chosen", [{}, {"preset": "paper", "noise": "spectrum"}], ids=["fast", "paper"])
def test_simulated_images_and_the_volumes_gradient_are_those_of_double_precision(
    observed: Observed,
    small: Callable[..., Params],
    device: torch.device,
    chosen: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = torch.Generator().manual_seed(5)
    volume, slope = torch.rand(3 * [observed.box], generator=draw), torch.randn(6, *2 * [observed.box], generator=draw)
    made = []
    for where, dtype in ((torch.device("cpu"), torch.float64), (device, torch.float32)):
        seen = deepcopy(observed)
        simulator = Simulator(seen, small(**chosen), 1.5, torch.Generator(where).manual_seed(0), Team()).to(dtype)
        draw_on_the_processor(seen, simulator, monkeypatch)
        with torch.no_grad():
            simulator.values.copy_(volume)
        images, rows = simulator(6)
        assert images.device.type == where.type
        images.backward(slope.to(images))
        made.append((images.detach(), simulator.values.grad, simulator.log_signal.grad, rows.cpu()))
    (*exact, wanted), (*found, rows) = made
    assert torch.equal(rows, wanted)
    assert [difference(*pair) < 1e-4 for pair in zip(found, exact, strict=True)] == [True, True, True]


@pytest.mark.usefixtures("_whole_numbers")
@pytest.mark.parametrize("chosen", [{"reflect": False}, {"preset": "convolutions"}], ids=["fast", "convolutions"])
def test_steps_from_one_state_are_those_of_the_processor(
    observed: Observed,
    small: Callable[..., Params],
    recording_run: Callable[..., Any],
    device: torch.device,
    chosen: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The processor waits for the images of every batch, the device holds them."""
    params, told = small(**chosen), []
    kept: dict[str, Any] | None = None
    for where, images in (("cpu", "store"), (device, "device")):
        seen = deepcopy(observed)
        run = recording_run(device=torch.device(where))
        trainer = Trainer(seen, params.model_copy(update={"images": images}), run)
        state = trainer.state
        if kept is None:  # moments, too: without them Adam takes a whole step wherever a gradient is not quite zero
            for _ in range(5):
                trainer.take_step()
            kept = state.copy()
        state.load({**kept, "generator": state.generator.get_state()})
        draw_on_the_processor(seen, state.simulator, monkeypatch)
        told.append([trainer.take_step() for _ in range(5)])
        assert trainer.images is not None
        trainer.images.close()
    for found, expected in zip(told[1], told[0], strict=True):
        assert found == pytest.approx(expected, rel=1e-2)
    assert told[1][0] == pytest.approx(told[0][0], rel=1e-4)


def test_training_goes_on_from_a_checkpoint_as_on_the_processor(
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not bit for bit on a GPU, whose sums have no fixed order; what is lost or drawn anew shows at once all the same."""
    params, stop_at = small(), 8  # a snapshot is due, at which every device reports
    whole = recording_run(device=device)
    _, wanted = trained(params, whole)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    killed = recording_run(device=device, stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt):
        trained(params, killed)
    resumed = recording_run(device=device, file=killed.file)
    _, result = trained(params, resumed)
    assert difference(result.volume, wanted.volume.cpu()) < 1e-2
    left = [told for told in whole.told if told["step"] >= stop_at]
    assert [told["step"] for told in resumed.told] == [told["step"] for told in left]
    for found, expected in zip(resumed.told, left, strict=True):
        for name in ("discriminator_loss", "signal_scale", "noise_scale", "volume_gradient"):
            assert found[name] == pytest.approx(expected[name], rel=1e-2)


def test_after_a_resume_adam_still_counts_on_the_processor(
    observed: Observed, small: Callable[..., Params], device: torch.device
) -> None:
    params, draw = small(), torch.Generator(device).manual_seed(0)
    simulator = Simulator(observed, params, 1.0, draw, Team())
    network = build_discriminator(observed, params, simulator.noise.power, draw, False)
    optimisers = torch.optim.Adam([simulator.values]), torch.optim.Adam(network.parameters())
    state = State(simulator, network, *optimisers, draw, torch.zeros_like(simulator.values))
    torch.autograd.backward(simulator.transform().values.sum())
    optimisers[0].step()
    state.load(state.save())
    assert [kept["step"].device.type for kept in optimisers[0].state.values()] == ["cpu"]
