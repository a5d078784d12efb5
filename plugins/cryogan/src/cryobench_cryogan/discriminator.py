"""The discriminator: convolution, max pooling and leaky ReLU blocks, then two fully connected layers (paper, section III-D)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def build_discriminator(box: int, channels: int, hidden: int, generator: torch.Generator) -> nn.Sequential:
    """A discriminator of square images ``(batch, 1, box, box)`` with one score each.

    Blocks of 3 x 3 convolution (channels doubling), 2 x 2 max pooling and leaky ReLU (0.1) follow until at most 3 pixels are
    left; then fully connected layers of ``hidden`` and 1. Weights are drawn from ``generator`` (Kaiming, for the leaky slope).
    """
    layers: list[nn.Module] = []
    previous, side = 1, box
    for width, before in _blocks(box, channels):
        layers += [nn.Conv2d(previous, width, 3, padding=1), nn.MaxPool2d(2), nn.LeakyReLU(0.1)]
        previous, side = width, before // 2
    layers += [nn.Flatten(), nn.Linear(previous * side * side, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, 1)]
    network = nn.Sequential(*layers).to(generator.device)
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.1, generator=generator)
                nn.init.zeros_(layer.bias)
    return network


def count_numbers(box: int, channels: int, hidden: int) -> tuple[int, int]:
    """How many weights a discriminator has, and how many numbers its convolutions put out for one image."""
    weights, outputs, previous, side = 0, 0, 1, box
    for width, before in _blocks(box, channels):
        weights += width * (9 * previous + 1)
        outputs += width * before**2
        previous, side = width, before // 2
    return weights + hidden * (previous * side**2 + 1) + hidden + 1, outputs


def _blocks(box: int, channels: int) -> Iterator[tuple[int, int]]:
    """Channels of each block, and the side of the images that enter it."""
    width, side = channels, box
    while side > 3:
        yield width, side
        width, side = 2 * width, side // 2
