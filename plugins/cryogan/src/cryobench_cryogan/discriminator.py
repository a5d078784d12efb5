"""What a discriminator is, and the study's: convolution, max pooling and leaky ReLU blocks, then two connected layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor, nn
from typing_extensions import override

from cryobench.physics.ctf import ContrastTransfer
from cryobench.types import Images


class Discriminator(ABC, nn.Module):
    """Scores images: high for what looks real.

    It reads *features*, a fixed linear function of the images, which are computed once for the real ones, and may be told what
    their CTFs transfer.
    """

    @abstractmethod
    def embed(self, images: Images) -> Tensor:
        """Features ``(batch, ...)`` of prepared images ``(batch, y, x)``; linear and fixed."""

    @abstractmethod
    def transfer(self, ctf: ContrastTransfer) -> Tensor:
        """What it is told of CTFs: ``(batch, number)``, perhaps no number at all."""

    @abstractmethod
    def forward(self, features: Tensor, transfer: Tensor) -> Tensor:
        """Scores ``(batch, 1)``."""

    @abstractmethod
    def grow(self, smaller: Discriminator) -> None:
        """Take over what a discriminator of the same kind for a smaller box has learned, if it can be of use."""

    @abstractmethod
    def reflect(self, features: Tensor, which: Tensor) -> Tensor:
        """Features of the same images, those reflected (in a line through the centre) for which ``which (batch,)`` is true."""


@final
class ConvolutionalDiscriminator(Discriminator):
    """The study's (paper, section III-D); features are the images ``(batch, 1, y, x)``, and of CTFs it is told nothing.

    Blocks of 3 x 3 convolution (channels doubling), 2 x 2 max pooling and leaky ReLU (0.1) follow until at most 3 pixels are
    left; then fully connected layers of ``hidden`` and 1. Weights are drawn from ``generator`` (Kaiming, for the leaky slope).

    Args:
        box: pixels of the images.
        channels: of the first convolution.
        hidden: width of the first connected layer.
        generator: of the first weights, on the device of all.
        bfloat16: whether to convolve in it.
    """

    def __init__(
        self, box: int, channels: int, hidden: int, generator: torch.Generator, bfloat16: bool = False
    ) -> None:
        super().__init__()
        self.bfloat16 = bfloat16
        layers: list[nn.Module] = []
        previous, side = 1, box
        for width, before in _blocks(box, channels):
            layers += [nn.Conv2d(previous, width, 3, padding=1), nn.MaxPool2d(2), nn.LeakyReLU(0.1)]
            previous, side = width, before // 2
        layers += [nn.Flatten(), nn.Linear(previous * side * side, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, 1)]
        self.layers = nn.Sequential(*layers).to(generator.device)
        draw_weights(self.layers, generator)
        self.layers.to(memory_format=torch.channels_last)

    @override
    def embed(self, images: Images) -> Tensor:
        return images[:, None]

    @override
    def transfer(self, ctf: ContrastTransfer) -> Tensor:
        return ctf.voltage.new_zeros(len(ctf), 0)

    @override
    def forward(self, features: Tensor, transfer: Tensor) -> Tensor:
        features = features.contiguous(memory_format=torch.channels_last)
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.bfloat16):
            scores: Tensor = self.layers(features)
        return scores.float()

    @override
    def grow(self, smaller: Discriminator) -> None:
        """Nothing: its pixels were others."""

    @override
    def reflect(self, features: Tensor, which: Tensor) -> Tensor:
        return torch.where(
            which[:, None, None, None], features.mT, features
        )  # in the diagonal: the centre n // 2 stays


def draw_weights(layers: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of convolutions and connected layers anew."""
    with torch.no_grad():
        for layer in layers.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.1, generator=generator)
                nn.init.zeros_(layer.bias)


def count_numbers(box: int, channels: int, hidden: int) -> tuple[int, int]:
    """How many weights the study's discriminator has, and how many numbers its convolutions put out for one image."""
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
