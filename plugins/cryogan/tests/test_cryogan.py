from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from cryobench_cryogan import train
from cryobench_cryogan.discriminator import build_discriminator
from cryobench_cryogan.losses import discriminator_loss, penalty, volume_loss, volume_slope
from cryobench_cryogan.simulator import keep_disc

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
    images = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def score(x: torch.Tensor) -> torch.Tensor:
        return (x * weight).sum((1, 2, 3))[:, None]

    assert float(penalty("logistic", score, images, images, torch.ones(5))) == pytest.approx(length, rel=1e-5)
    expected = (length**0.5 - 1) ** 2
    assert float(penalty("wasserstein", score, images, -images, torch.rand(5))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("box", [16, 33, 64])
def test_discriminator_scores_any_box(box: int) -> None:
    network = build_discriminator(box, 4, 10, torch.Generator().manual_seed(0))
    assert network(torch.zeros(3, 1, box, box)).shape == (3, 1)


def test_kept_disc_has_no_mean_and_no_corners() -> None:
    images = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)) + 5
    kept = keep_disc(images)
    assert kept.mean((-2, -1)).abs().max() < 1e-5
    torch.testing.assert_close(keep_disc(kept), kept, rtol=0, atol=1e-5)
    assert torch.fft.rfft2(kept)[:, 8, 8].abs().max() < 1e-4
