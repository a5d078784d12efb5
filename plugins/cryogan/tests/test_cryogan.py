from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cryobench_cryogan import train
from cryobench_cryogan.discriminator import build_discriminator
from cryobench_cryogan.losses import discriminator_loss, penalty, volume_loss, volume_slope
from cryobench_cryogan.method import Params
from cryobench_cryogan.train import Trainer

from cryobench.dataset.view import Observed
from cryobench.testing.conformance import ReconstructorTests


class TestCryoGAN(ReconstructorTests):
    method = "cryogan"
    params = {"steps": 30, "batch": 16, "channels": 4, "snapshots": 2}  # noqa: RUF012

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _checkpoint_at_every_step(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
            yield


class TestWassersteinInTurn(TestCryoGAN):
    params = {  # noqa: RUF012
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
def test_discriminator_scores_any_box(box: int) -> None:
    network = build_discriminator(box, 4, 10, torch.Generator().manual_seed(0))
    assert network(torch.zeros(3, 1, box, box)).shape == (3, 1)


@pytest.mark.parametrize("loss", ["logistic", "wasserstein"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_discriminator_step_takes_the_gradient_of_loss_and_penalty(
    loss: str, number: int, observed: Observed, small: Callable[..., Params], recording_run: Callable[..., Any]
) -> None:
    """Against the sum written out: every second step with twice the weight, simulated images asked for theirs, too."""
    trainer = Trainer(observed, small(loss=loss, penalty=0.3, penalty_interval=2), recording_run())
    stepper, network = trainer.stepper, trainer.state.network
    before = stepper.state.generator.get_state()
    simulated = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    real = stepper.images.batch(number)
    mix = torch.rand(8, 1, 1, 1, generator=torch.Generator().set_state(before))
    total = discriminator_loss(loss, network(real), network(simulated))
    (by_image,) = torch.autograd.grad(total, simulated, retain_graph=True)
    if number == 0:
        points = real if loss == "logistic" else mix * real + (1 - mix) * simulated
        points = points.detach().requires_grad_(True)
        total = total + 0.6 * penalty(loss, network(points), points)
    expected = torch.autograd.grad(total, list(network.parameters()))
    scores = stepper._discriminate(simulated, number, 0.0, measure=False)
    assert scores.shape == (8, 1)
    torch.testing.assert_close(simulated.grad, by_image)
    torch.testing.assert_close([p.grad for p in network.parameters()], list(expected), rtol=1e-4, atol=1e-6)
