from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cryobench_cryogan import train
from cryobench_cryogan.build import build_discriminator
from cryobench_cryogan.discriminator import ConvolutionalDiscriminator
from cryobench_cryogan.losses import discriminator_loss, penalty, volume_loss, volume_slope
from cryobench_cryogan.method import Params
from cryobench_cryogan.train import Trainer

from cryobench.dataset.view import Observed
from cryobench.testing.conformance import ReconstructorTests


class TestCryoGAN(ReconstructorTests):
    method = "cryogan"
    params = {"steps": 30, "batch": 16, "templates": 8, "snapshots": 2, "coarsest": 8, "coarse_share": 0.3}  # noqa: RUF012

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _checkpoint_at_every_step(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
            yield


class TestConvolutions(TestCryoGAN):
    params = {"discriminator": "convolutions", "steps": 30, "batch": 16, "channels": 4, "snapshots": 2}  # noqa: RUF012


class TestWassersteinInTurn(TestCryoGAN):
    params = {  # noqa: RUF012
        "discriminator": "convolutions",
        "steps": 12,
        "batch": 16,
        "channels": 4,
        "snapshots": 2,
        "loss": "wasserstein",
        "together": False,
        "n_discr": 2,
        "penalty_interval": 1,
        "noise": "patches",
    }


@pytest.mark.parametrize("kind", ["logistic", "wasserstein"])
def test_volume_gradient_follows_from_the_discriminators(kind: str) -> None:
    scores = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None].requires_grad_(True)
    real = torch.zeros_like(scores)
    (by_discriminator,) = torch.autograd.grad(discriminator_loss(kind, real, scores), scores)
    (by_volume,) = torch.autograd.grad(volume_loss(kind, scores), scores)
    torch.testing.assert_close(by_discriminator * volume_slope(kind, scores), by_volume)


def test_penalties_of_a_linear_discriminator_are_known() -> None:
    weight = torch.arange(16.0).reshape(1, 1, 4, 4) / 10
    length = float(weight.square().sum())
    images = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    scores = (images * weight).sum((1, 2, 3))[:, None]
    assert float(penalty("logistic", scores, images)) == pytest.approx(length, rel=1e-5)
    assert float(penalty("wasserstein", scores, images)) == pytest.approx((length**0.5 - 1) ** 2, rel=1e-5)


@pytest.mark.parametrize("box", [16, 33, 64])
def test_the_study_s_discriminator_scores_any_box(box: int) -> None:
    network = ConvolutionalDiscriminator(box, 4, 10, torch.Generator().manual_seed(0))
    images = torch.zeros(3, box, box)
    assert network(network.embed(images), torch.zeros(3, 0)).shape == (3, 1)


@pytest.mark.parametrize("kind", ["templates", "convolutions"])
def test_discriminators_are_those_asked_for(kind: str, observed: Observed, small: Callable[..., Params]) -> None:
    """Told of every particle's CTF, they score the images that the store has."""
    params = small(discriminator=kind)
    network = build_discriminator(observed, params, observed.noise_power, torch.Generator().manual_seed(0), False)
    assert isinstance(network, ConvolutionalDiscriminator) == (kind == "convolutions")
    images = observed.read(slice(5)).images
    assert network(network.embed(images), network.transfer(observed.ctf)[:5]).shape == (5, 1)


@pytest.mark.parametrize(
    ("discriminator", "loss", "weight"),
    [("templates", "logistic", 0.0), ("convolutions", "logistic", 0.3), ("convolutions", "wasserstein", 0.3)],
)
@pytest.mark.parametrize("number", [0, 1])
def test_a_discriminator_step_takes_the_gradient_of_loss_and_penalty(
    discriminator: str,
    loss: str,
    weight: float,
    number: int,
    observed: Observed,
    small: Callable[..., Params],
    recording_run: Callable[..., Any],
) -> None:
    """Against the sum written out: every second step with twice the weight, simulated images asked for theirs, too."""
    params = small(discriminator=discriminator, loss=loss, penalty=weight, penalty_interval=2, reflect=True)
    trainer = Trainer(observed, params, recording_run())
    stepper, network = trainer.stepper, trainer.state.network
    assert trainer.images is not None
    before = stepper.state.generator.get_state()
    real, particles = trainer.images.batch(number)
    rows = torch.arange(8) + 40
    simulated = torch.randn(real.shape, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    draw = torch.Generator().set_state(before)
    real = network.reflect(real, torch.rand(8, generator=draw) < 0.5)
    mix = torch.rand(8, 1, 1, 1, generator=draw).view(-1, *[1] * (real.ndim - 1))
    transfer = network.transfer(trainer.state.simulator.ctf)
    told, told_of_simulated = transfer[particles], transfer[rows]
    total = discriminator_loss(loss, network(real, told), network(simulated, told_of_simulated))
    (by_image,) = torch.autograd.grad(total, simulated, retain_graph=True)
    if number == 0 and weight:
        points = real if loss == "logistic" else mix * real + (1 - mix) * simulated
        points = points.detach().requires_grad_(True)
        total = total + 2 * weight * penalty(loss, network(points, told), points)
    expected = torch.autograd.grad(total, list(network.parameters()))
    scores = stepper._discriminate(simulated, rows, number, 0.0, measure=False)
    assert scores.shape == (8, 1)
    torch.testing.assert_close(simulated.grad, by_image)
    torch.testing.assert_close([p.grad for p in network.parameters()], list(expected), rtol=1e-4, atol=1e-6)
