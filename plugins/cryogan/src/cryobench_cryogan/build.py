"""The discriminator that parameters ask for, and what it takes."""

from __future__ import annotations

import torch
from torch import Tensor

from cryobench.reconstruct.contract import Observed
from cryobench_cryogan.discriminator import ConvolutionalDiscriminator, Discriminator
from cryobench_cryogan.method import Params
from cryobench_cryogan.templates import TemplateDiscriminator


def build_discriminator(
    observed: Observed, params: Params, noise_power: Tensor, generator: torch.Generator, bfloat16: bool
) -> Discriminator:
    """A discriminator of a half-set's prepared images, on the generator's device.

    Args:
        observed: the half-set.
        params: of the method.
        noise_power: ``(shell,)`` of the noise in the prepared images.
        generator: of the first weights.
        bfloat16: whether to convolve in it.
    """
    if params.discriminator == "convolutions":
        return ConvolutionalDiscriminator(observed.box, params.channels, params.hidden, generator, bfloat16)
    return TemplateDiscriminator(
        observed.box,
        observed.voxel_size,
        noise_power,
        params.mask_radius,
        params.templates,
        params.hidden,
        generator,
    )
