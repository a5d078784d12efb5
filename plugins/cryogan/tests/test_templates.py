"""What the discriminators see of an image, and what they do not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from cryobench_cryogan.discriminator import ConvolutionalDiscriminator, Discriminator
from cryobench_cryogan.templates import TemplateDiscriminator
from torch import Tensor

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_images, invert_images, transform_images

SIDE = 160.0
"""Field of view, angstrom."""


def make_templates(box: int, seed: int = 0, templates: int = 4) -> TemplateDiscriminator:
    """For images in white noise of unit variance at 32 pixels, and what is left of it in smaller boxes."""
    power = torch.full((box // 2 + 1,), (box / 32) ** 2)
    return TemplateDiscriminator(
        box=box,
        voxel_size=SIDE / box,
        noise_power=power,
        extent=0.9,
        templates=templates,
        hidden=6,
        generator=torch.Generator().manual_seed(seed),
    )


def make_ctf(count: int, defocus: float = 12000.0, astigmatism: float = 0.0) -> ContrastTransfer:
    ones = torch.ones(count)
    angle = torch.linspace(0, 2, count)
    return ContrastTransfer(
        (defocus + astigmatism) * ones, defocus * ones, angle, 300 * ones, 2.7 * ones, 0.1 * ones, 0 * ones, 50 * ones
    )


def blobs(count: int, box: int = 32, seed: int = 5) -> Tensor:
    """Mean-free images ``(count, box, box)`` of a few Gaussians in the disc, band-limited and without any symmetry."""
    draw = torch.Generator().manual_seed(seed)
    place = torch.arange(32.0) - 16
    centres, heights = 12 * torch.rand(count, 5, 2, generator=draw) - 6, torch.randn(count, 5, generator=draw)
    squares = (place - centres[..., :1, None]) ** 2 + (place[:, None] - centres[..., 1:, None]) ** 2
    images = (heights[..., None, None] * torch.exp(-squares / (2 * 2.5**2))).sum(1)
    return fourier_crop_images(images - images.mean((-2, -1), keepdim=True), box)


def see(images: Tensor, ctf: ContrastTransfer) -> Tensor:
    box = images.shape[-1]
    return invert_images(transform_images(images) * ctf.evaluate(box, SIDE / box), box)


def turn(images: Tensor, quarters: int) -> Tensor:
    """About the origin ``n // 2`` of an even box."""
    turned = torch.zeros_like(images)
    turned[:, 1:, 1:] = torch.rot90(images[:, 1:, 1:], quarters, dims=(-2, -1))
    return turned


def noise(count: int, box: int = 32) -> Tensor:
    images = torch.randn(count, box, box, generator=torch.Generator().manual_seed(9))
    images[:, 0], images[:, :, 0] = 0, 0  # what has no partner on the other side of the origin
    return images


def watch(network: TemplateDiscriminator, template: int, image: Tensor) -> None:
    """Have the first template be an image, and the score its evidence (a tenth of that where it is negative)."""
    polar = network.polar
    with torch.no_grad():
        table = torch.zeros(polar.harmonics * polar.rings, 2)
        table[polar.slots] = network.embed(image[None])[0]
        seen = table.view(polar.harmonics, polar.rings, 2).mT.reshape(polar.harmonics, 2 * polar.rings)
        network.templates[..., template] = seen
        for layer, column in ((network.evidence, template), (network.score, 0)):
            layer.weight.zero_()
            layer.bias.zero_()
            layer.weight[0, column] = 1


@pytest.fixture
def network() -> TemplateDiscriminator:
    return make_templates(32)


def test_turning_an_image_leaves_its_score(network: TemplateDiscriminator) -> None:
    """But for what angles between those that are tried would add."""
    images, ctf = noise(6), make_ctf(6)
    scores = [network(network.embed(turn(images, quarters)), network.transfer(ctf)) for quarters in range(4)]
    for other in scores[1:]:
        torch.testing.assert_close(other, scores[0], rtol=0, atol=0.15 * float(scores[0].detach().std()))


def test_features_of_reflected_images_are_reflected_features(network: TemplateDiscriminator) -> None:
    images, which = noise(4), torch.tensor([True, False, True, False])
    mirrored = images.clone()
    mirrored[which, 1:] = images[which, 1:].flip(-2)
    found = network.reflect(network.embed(images), which)
    torch.testing.assert_close(found, network.embed(mirrored), rtol=1e-4, atol=1e-4)
    convolutions = ConvolutionalDiscriminator(32, 2, 6, torch.Generator().manual_seed(0))
    mirrored = torch.where(which[:, None, None], images.mT, images)
    torch.testing.assert_close(convolutions.reflect(convolutions.embed(images), which), convolutions.embed(mirrored))


@pytest.mark.parametrize("box", [16, 33])
def test_reflecting_twice_changes_nothing_and_once_the_score(box: int) -> None:
    convolutions = ConvolutionalDiscriminator(box, 2, 6, torch.Generator().manual_seed(0))
    discriminators: tuple[Discriminator, ...] = (make_templates(box), convolutions)
    for network in discriminators:
        features, told = network.embed(noise(3, box)), network.transfer(make_ctf(3))
        every = torch.ones(3, dtype=torch.bool)
        once = network.reflect(features, every)
        assert torch.equal(network.reflect(once, every), features)
        assert not torch.allclose(network(once, told), network(features, told))


def test_an_image_is_evidence_for_itself_seen_through_its_ctf(network: TemplateDiscriminator) -> None:
    """About half its power against the noise, turned or not; little without its CTF, for another image and for none."""
    (image, stranger), ctf, other = blobs(2), make_ctf(8), make_ctf(8, defocus=-18000.0)
    clean = see(image[None], ctf[:1])
    image *= 12 / float(clean.norm())
    watch(network, 2, image)
    seen = see(image.expand(8, 32, 32), ctf)
    strange = see((stranger * image.norm() / stranger.norm()).expand(8, 32, 32), ctf)
    told, told_wrong = network.transfer(ctf), network.transfer(other)
    with torch.no_grad():
        own = network(network.embed(seen + noise(8)), told)
        turned = network(network.embed(turn(seen + noise(8), 1)), told)
        wrong_ctf = network(network.embed(seen + noise(8)), told_wrong)
        another = network(network.embed(strange + noise(8)), told)
        nothing = network(network.embed(noise(8)), told)
    assert float(own.mean()) == pytest.approx(12**2 / 2, rel=0.25)
    assert float(turned.mean()) == pytest.approx(float(own.mean()), rel=0.05)
    for less in (wrong_ctf, another, nothing):
        assert float(less.mean()) < float(own.mean()) / 3


def test_rings_transfer_what_the_ctf_does(network: TemplateDiscriminator) -> None:
    ctf, rings = make_ctf(3), network.polar.rings
    along_x = ctf.evaluate(32, SIDE / 32)[:, 0, 1 : rings + 1]
    torch.testing.assert_close(network.transfer(ctf), along_x, rtol=0, atol=1e-4)


def test_astigmatism_is_averaged_over_rings(network: TemplateDiscriminator) -> None:
    """Against many directions; turning the image or the CTF is the same."""
    ctf, rings = make_ctf(3, astigmatism=800.0), network.polar.rings
    turned = [replace(ctf, defocus_angle=ctf.defocus_angle - math.pi * step / 90) for step in range(90)]
    along_x = torch.stack([one.evaluate(32, SIDE / 32)[:, 0, 1 : rings + 1] for one in turned])
    torch.testing.assert_close(network.transfer(ctf), along_x.mean(0), rtol=0, atol=0.01)
    assert float((network.transfer(ctf) - along_x[0]).abs().max()) > 0.05


def test_a_grown_discriminator_scores_the_same() -> None:
    """Band-limited images, whose features are those of the smaller box and nothing on the new rings."""
    small, large = make_templates(16, seed=1), make_templates(32, seed=2)
    large.grow(small)
    images, ctf = 10 * blobs(6), make_ctf(6)
    images = see(images, ctf)
    with torch.no_grad():
        expected = small(small.embed(fourier_crop_images(images, 16)), small.transfer(ctf))
        found = large(large.embed(images), large.transfer(ctf))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * float(expected.std()))


def test_new_rings_learn(network: TemplateDiscriminator) -> None:
    """They begin at zero, and do not stay there."""
    network.grow(make_templates(16))
    network(network.embed(noise(4)), network.transfer(make_ctf(4))).sum().backward()
    polar = network.polar
    assert network.templates.grad is not None
    for values, wanted in ((network.templates, False), (network.templates.grad, True)):
        outer = values.detach().view(polar.harmonics, 2, polar.rings, -1)[:, :, 7:]
        assert bool(outer.any()) == wanted


def test_weights_are_those_of_the_generator() -> None:
    one, again, other = (make_templates(16, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["templates"], other["templates"])
    assert not torch.equal(one["evidence.weight"], other["evidence.weight"])


def test_templates_start_at_unit_norm_within_the_table() -> None:
    network = make_templates(32, templates=64)
    table = network.templates.detach().view(network.polar.harmonics, 2, network.polar.rings, -1)
    assert float(table.square().sum((0, 1, 2)).mean()) == pytest.approx(1, rel=1e-4)
    inside = torch.zeros(network.polar.harmonics * network.polar.rings, dtype=torch.bool)
    inside[network.polar.slots] = True
    outside = ~inside.view(network.polar.harmonics, 1, network.polar.rings, 1).expand_as(table)
    assert not table[outside].any()
    assert outside.any()
