"""A discriminator that turns: learned templates, held against an image at all in-plane angles, its CTF known.

Poses are uniform in the plane, so that nothing is lost by judging an image at every angle alike. In white noise of unit variance
a template ``t`` seen through the CTF ``C`` and turned by ``phi`` explains an image ``y`` with the log-likelihood ratio

    s(phi) = <y, C R_phi t> - |C t|^2 / 2,

and ``log mean_phi exp s(phi)`` is the evidence for it whatever the angle (Neyman and Pearson's best test of a known image that
may be turned). The evidence of all templates goes through two connected layers to the score. Templates are weights like any
others, learned from the discriminator's loss alone; they know nothing of the volume, and no viewing direction is ever found.
"""

from __future__ import annotations

import math
from typing import Any, Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import leaky_relu
from typing_extensions import override

from cryobench.physics.ctf import ContrastTransfer
from cryobench.types import Curve, Images
from cryobench_cryogan.discriminator import Discriminator, draw_weights
from cryobench_cryogan.polar import PolarTransform

DIRECTIONS: Final = 8
"""On half a turn, over which a CTF is averaged along a ring: what astigmatism leaves of it."""


TOGETHER: Final = 1024
"""Pairs of image and template whose likelihoods a processor works on at a time: more would not stay in its cache."""


class _AverageAngles(torch.autograd.Function):
    """``log mean_a exp (turns p)_a`` of every column, and its gradient ``turns' softmax(turns p)`` while all is at hand."""

    @staticmethod
    def forward(ctx: Any, products: Tensor, turns: Tensor) -> Tensor:
        found, gradient = products.new_empty(products.shape[1]), torch.empty_like(products)
        step = TOGETHER if products.device.type == "cpu" else products.shape[1]
        for start in range(0, products.shape[1], step):
            part = slice(start, start + step)
            likelihood = turns @ products[:, part]
            largest = likelihood.amax(0)
            likelihood.sub_(largest).exp_()
            total = likelihood.sum(0)
            found[part] = largest + (total / len(turns)).log()
            gradient[:, part] = turns.mT @ likelihood.div_(total)
        ctx.save_for_backward(gradient)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * slope, None


def _average_angles(products: Tensor, turns: Tensor) -> Tensor:
    """Evidence ``(column,)`` of harmonics ``(part and harmonic, column)`` over the angles of ``(angle, part and harmonic)``."""
    found: Tensor = _AverageAngles.apply(products, turns)
    return found


@final
class TemplateDiscriminator(Discriminator):
    """Scores of images from the evidence for learned templates at all in-plane angles.

    Args:
        box: pixels of the images.
        voxel_size: of the same, angstrom.
        noise_power: ``(shell,)`` of the noise in the prepared images, by which they are whitened.
        extent: radius of the disc that holds the particle, fraction of half the box.
        templates: their number.
        hidden: width of the first connected layer.
        generator: of the first weights, on the device of all.
    """

    whitening: Tensor

    def __init__(
        self,
        box: int,
        voxel_size: float,
        noise_power: Curve,
        extent: float,
        templates: int,
        hidden: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        device = generator.device
        self.polar = PolarTransform(box, extent).to(device)
        self.voxel_size = voxel_size
        rings, harmonics = self.polar.rings, self.polar.harmonics
        self.register_buffer("whitening", noise_power[1 : rings + 1].to(device).rsqrt(), persistent=False)
        inside = torch.zeros(harmonics * rings, device=device)
        inside[self.polar.slots] = 1.0
        drawn = torch.randn(harmonics, 2 * rings, templates, generator=generator, device=device)
        drawn *= inside.view(harmonics, 1, rings).expand(-1, 2, -1).reshape(harmonics, 2 * rings, 1)
        self.templates = nn.Parameter(drawn / drawn.square().sum((0, 1)).mean().sqrt())
        """``(harmonic, part and ring, template)``: at first of unit norm, that of the noise along each"""
        self.evidence = nn.Linear(2 * templates, hidden)
        self.score = nn.Linear(hidden, 1)
        self.to(device)
        draw_weights(self, generator)
        angle = 2 * math.pi * torch.arange(_angles(harmonics), device=device).double() / _angles(harmonics)
        turns = torch.arange(harmonics, device=device)[:, None] * angle
        self.register_buffer("_turns", torch.cat([turns.cos(), -turns.sin()]).mT.float(), persistent=False)

    @override
    def grow(self, smaller: Discriminator) -> None:
        """Take over templates and weights; new rings and harmonics begin at zero."""
        assert isinstance(smaller, TemplateDiscriminator)
        old, new = smaller.polar, self.polar
        with torch.no_grad():
            table = self.templates.zero_().view(new.harmonics, 2, new.rings, -1)
            table[: old.harmonics, :, : old.rings] = smaller.templates.view(old.harmonics, 2, old.rings, -1)
        self.evidence.load_state_dict(smaller.evidence.state_dict())
        self.score.load_state_dict(smaller.score.state_dict())

    @override
    def embed(self, images: Images) -> Float[Tensor, "batch coefficient 2"]:
        ring = self.polar.slots % self.polar.rings
        return self.polar(images) * self.whitening[ring][:, None]

    @override
    def transfer(self, ctf: ContrastTransfer) -> Float[Tensor, "batch ring"]:
        """The CTF along every ring, averaged."""
        xx, xy, yy, q, c, e = ctf.coefficients(self.polar.box, self.voxel_size).unbind(-1)
        k = torch.arange(1, self.polar.rings + 1, device=xx.device)
        direction = math.pi * torch.arange(DIRECTIONS, device=xx.device) / DIRECTIONS
        cos, sin = direction.cos(), direction.sin()
        square = xx[:, None] * cos**2 + xy[:, None] * cos * sin + yy[:, None] * sin**2
        cycles = square[:, None] * k[:, None] ** 2 + (q[:, None] * k**4 + c[:, None])[..., None]
        return (torch.sin(2 * math.pi * cycles).mean(-1) * torch.exp(-e[:, None] * k**2)).float()

    @override
    def reflect(self, features: Tensor, which: Tensor) -> Tensor:
        sign = torch.where(which, -1.0, 1.0)[:, None]  # in the x axis: conjugates
        return torch.stack([features[..., 0], features[..., 1] * sign], -1)

    @override
    def forward(self, features: Tensor, transfer: Tensor) -> Tensor:
        rings, harmonics, templates = self.polar.rings, self.polar.harmonics, self.templates
        real, imaginary = templates.split(rings, 1)
        # of c conj(t): the real parts of all harmonics, then the imaginary ones
        weights = torch.stack([templates, torch.cat([-imaginary, real], 1)]).flatten(0, 1)
        # (batch, coefficient, 2) to (harmonic, batch, part and ring), multiplied by the CTF
        table = features.new_zeros(len(features), harmonics * rings, 2).index_copy(1, self.polar.slots, features)
        seen = table.view(-1, harmonics, rings, 2).permute(1, 0, 3, 2) * transfer[:, None]
        seen = seen.reshape(harmonics, -1, 2 * rings)
        products = torch.bmm(torch.cat([seen, seen]), weights)
        shape = len(features), templates.shape[2]
        evidence = _average_angles(products.flatten(1), self._turns).view(shape)
        spread = (products.square().sum(0) / 2 + 1e-6).sqrt().view(shape)
        power = templates.square().sum(0).view(2, rings, -1).sum(0)
        norm = transfer.square() @ (power / 2)
        found = torch.cat([evidence - norm, spread - norm - 1], 1)
        scores: Tensor = self.score(leaky_relu(self.evidence(found), 0.1))
        return scores


def count_template_numbers(box: int, extent: float, templates: int, hidden: int) -> tuple[int, int, int]:
    """How much such a discriminator takes of memory, in numbers.

    Its weights; what it holds of one image while it learns: harmonics for every template five times over, and tables of
    features eight times; and what is kept of an image: features and what its CTF transfers.
    """
    polar = PolarTransform(box, extent)
    table = 2 * polar.harmonics * polar.rings
    weights = table * templates + hidden * (2 * templates + 1) + hidden + 1
    outputs = 5 * 2 * polar.harmonics * templates + 8 * table
    return weights, outputs, 2 * len(polar.slots) + polar.rings


def _angles(harmonics: int) -> int:
    """In-plane angles at which templates are held against images: enough for the highest harmonic."""
    return -(-2 * harmonics // 4) * 4  # a quarter turn leaves them in place
