"""Adversarial losses of discriminator and volume, and the penalties that keep the discriminator tame."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus


def discriminator_loss(kind: str, real: Tensor, simulated: Tensor) -> Tensor:
    """What the discriminator minimises, from its scores of real and simulated images.

    ``wasserstein``: ``mean D(simulated) - mean D(real)`` (paper, eq. 9); ``logistic``: cross-entropy (Goodfellow et al. 2014).
    """
    if kind == "wasserstein":
        return simulated.mean() - real.mean()
    return softplus(simulated).mean() + softplus(-real).mean()


def volume_loss(kind: str, simulated: Tensor) -> Tensor:
    """What the volume minimises; ``logistic`` is the non-saturating form."""
    return -simulated.mean() if kind == "wasserstein" else softplus(-simulated).mean()


def volume_slope(kind: str, simulated: Tensor) -> Tensor:
    """``(d volume_loss / dD) / (d discriminator_loss / dD)`` for each simulated score.

    Both losses see an image through the one number ``D``, so that the volume's gradient follows from the discriminator's own
    backward pass: ``wasserstein`` -1; ``logistic`` ``-sigmoid(-D) / sigmoid(D) = -exp(-D)``, held finite where the
    discriminator is as good as certain.
    """
    return -torch.ones_like(simulated) if kind == "wasserstein" else -torch.exp(-simulated.clamp(min=-15))


def penalty(kind: str, scores: Tensor, points: Tensor) -> Tensor:
    """Gradient penalty of the discriminator, from its ``scores`` of the ``points`` at which it is held; differentiable.

    ``wasserstein``: ``mean((|grad D| - 1)^2)``, to be taken at interpolates of real and simulated images (Gulrajani et al. 2017;
    paper, eq. 9). ``logistic``: R1, ``mean |grad D|^2``, to be taken at real images (Mescheder et al. 2018).
    """
    (gradient,) = torch.autograd.grad(scores.sum(), points, create_graph=True)
    squares = gradient.square().flatten(1).sum(1)
    if kind == "logistic":
        return squares.mean()
    return ((squares + 1e-12).sqrt() - 1).square().mean()
