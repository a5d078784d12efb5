"""The published study's settings, written out once more: a preset that drifts away from the paper fails here."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from cryobench_cryogan.discriminator import ConvolutionalDiscriminator
from cryobench_cryogan.method import Params
from cryobench_cryogan.train import Trainer
from torch import Tensor

from cryobench.dataset.view import Observed

EVERYWHERE: dict[str, Any] = {
    "loss": "wasserstein",
    "steps": None,
    "together": False,
    "n_discr": 4,
    "batch": 8,
    "shuffle": True,
    "learning_rate_volume": 0.001,
    "learning_rate_discriminator": 0.001,
    "learning_rate_scales": 0.001,
    "beta1": 0.5,
    "beta2": 0.9,
    "epsilon": 1e-8,
    "penalty_interval": 1,
    "discriminator": "convolutions",
    "channels": 96,
    "hidden": 10,
    "bfloat16": False,
    "network_seed": 0,
    "symmetrise": True,
    "nonnegative": True,
    "noise": "paired",
    "whole_pixel_shifts": True,
    "normalise": "image",
    "reflect": False,
    "coarsest": None,
    "average": 0.0,
}
"""What the paper does with every dataset."""
OF_EACH: dict[str, dict[str, Any]] = {
    "paper": {
        "penalty": 0.001,
        "epochs": 40,
        "epoch_decay": 0.01,
        "smoothing": 0.0,
        "smoothing_decay": 0.0,
        "mask_radius": 1.0,
    },
    "paper-experimental": {
        "penalty": 1.0,
        "epochs": 15,
        "epoch_decay": 0.08,
        "smoothing": 2.0,
        "smoothing_decay": 0.02,
        "mask_radius": 1.0,
    },
    "paper-ribosome": {
        "penalty": 1.0,
        "epochs": 20,
        "epoch_decay": 0.08,
        "smoothing": 2.0,
        "smoothing_decay": 0.02,
        "mask_radius": 0.8,
    },
}


@pytest.mark.parametrize("preset", list(OF_EACH))
def test_a_preset_is_the_papers(preset: str) -> None:
    expected = EVERYWHERE | OF_EACH[preset]
    params = Params.model_validate({"preset": preset})
    assert {name: getattr(params, name) for name in expected} == expected


def test_adam_is_given_the_rates_and_moments_asked_for(
    observed: Observed, small: Callable[..., Params], recording_run: Callable[..., Any]
) -> None:
    rates = {"learning_rate_volume": 0.1, "learning_rate_scales": 0.2, "learning_rate_discriminator": 0.3}
    state = Trainer(observed, small(**rates, beta1=0.4, beta2=0.8, epsilon=1e-3), recording_run()).state
    volume, scales = state.volume_optimiser.param_groups
    (network,) = state.network_optimiser.param_groups
    assert [group["lr"] for group in (volume, scales, network)] == [0.1, 0.2, 0.3]
    assert all((group["betas"], group["eps"]) == ((0.4, 0.8), 1e-3) for group in (volume, scales, network))
    simulator = state.simulator
    moved = [list(map(id, group["params"])) for group in (volume, scales, network)]
    assert moved[:2] == [[id(simulator.values)], [id(simulator.log_signal), id(simulator.log_noise)]]
    assert moved[2] == [id(weights) for weights in state.network.parameters()]


@pytest.mark.parametrize(
    ("box", "widths", "left"),
    [
        (180, (96, 192, 384, 768, 1536, 3072), 2),
        (184, (96, 192, 384, 768, 1536, 3072), 2),
        (192, (96, 192, 384, 768, 1536, 3072), 3),
        (256, (96, 192, 384, 768, 1536, 3072, 6144), 2),
        (360, (96, 192, 384, 768, 1536, 3072, 6144), 2),
    ],
)
def test_the_discriminator_is_the_papers_layer_by_layer(
    box: int, widths: tuple[int, ...], left: int, shapeless: torch.Generator
) -> None:
    """Blocks of convolution, pooling and rectifier down to ``left`` pixels, then two connected layers (section III-D)."""
    with shapeless.device:
        network = ConvolutionalDiscriminator(box, 96, 10, shapeless)
    expected = []
    for before, width in pairwise((1, *widths)):
        expected += [
            f"Conv2d({before}, {width}, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))",
            "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
            "LeakyReLU(negative_slope=0.1)",
        ]
    expected += [
        "Flatten(start_dim=1, end_dim=-1)",
        f"Linear(in_features={widths[-1] * left**2}, out_features=10, bias=True)",
        "LeakyReLU(negative_slope=0.1)",
        "Linear(in_features=10, out_features=1, bias=True)",
    ]
    assert [str(layer) for layer in network.layers] == expected


def share_of_details(images: Tensor) -> float:
    """Of the power of ``images (..., y, x)``, what is at frequencies above half of Nyquist along either axis."""
    power = torch.fft.fft2(images).abs().square()
    frequency = torch.fft.fftfreq(images.shape[-1]).abs()
    fine = torch.maximum(frequency[:, None], frequency) > 0.25
    return float(power[..., fine].sum() / power.sum())


@pytest.mark.parametrize("width", [2.0, 0.0])
def test_all_images_of_a_step_are_smoothed(width: float, observed: Observed, recording_run: Callable[..., Any]) -> None:
    """Real and simulated ones, for the discriminator's moves and for the volume's: a Gaussian of 2 px leaves no details."""
    params = Params(preset="paper-experimental", steps=1, channels=2, smoothing=width)
    trainer, batch = Trainer(observed, params, recording_run()), params.batch
    shown: list[Tensor] = []
    stepper = trainer.stepper

    def look(features: Tensor, transfer: Tensor) -> Tensor:
        shown.append(features.detach())
        return trainer.state.network(features, transfer)

    stepper.score = look
    trainer.take_step()
    assert [len(images) for images in shown] == [2 * batch] * 4 + [batch]
    # real and simulated ones four times, then simulated ones
    shares = [share_of_details(part) for images in shown for part in (images[:batch], images[-batch:])]
    assert max(shares) < 1e-3 if width else min(shares) > 0.1
