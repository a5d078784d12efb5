"""What a GPU should need, without one: the operator and a CryoGAN step counted at any box, as times and memory of a device.

    python benchmarks/gpu/predict.py --boxes 64 128 184 256 --batch 64

A time is the least that launches, memory traffic and arithmetic allow (see counting.Device), eager PyTorch, nothing fused. Steps
are counted at the box that is named: those of `fast` in smaller boxes before it cost less. Optimisers and noise are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from counting import Cost, Device, count
from cryobench_cryogan.discriminator import ConvolutionalDiscriminator
from cryobench_cryogan.method import Params
from cryobench_cryogan.templates import TemplateDiscriminator
from torch import Tensor, nn

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.imaging import ImagingOperator

SIDE = 234.4
"""Field of view in angstrom, that of the study's images."""
META = torch.device("meta")


class Shapeless(torch.Generator):
    """A generator for tensors without data."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return META


def make_ctf(batch: int) -> ContrastTransfer:
    ones = torch.ones(batch, device=META)
    return ContrastTransfer(ones, ones, ones, ones, ones, ones, ones, ones)


def make_operator(box: int, batch: int) -> ImagingOperator:
    rotations, shifts = torch.eye(3, device=META).expand(batch, 3, 3), torch.zeros(batch, 2, device=META)
    return ImagingOperator(box, SIDE / box, rotations, shifts, make_ctf(batch))


def count_operator(box: int, batch: int) -> tuple[Cost, Cost, Cost]:
    """Of a volume's transform, of ``batch`` images of it, and of the adjoint."""
    operator = make_operator(box, batch)
    volume, images = torch.zeros(box, box, box, device=META), torch.zeros(batch, box, box, device=META)
    spectrum = operator.transform(volume)
    operator.T(images)  # what is kept from call to call is made before anything is counted
    return (
        count(lambda: operator.transform(volume), [volume]),
        count(lambda: operator.image(spectrum), [spectrum.values]),
        count(lambda: operator.T(images), [images]),
    )


def count_critic(box: int, params: Params, images: int) -> Cost:
    """Of one backward pass of the discriminator over ``images``, with the features' gradient."""
    if params.discriminator == "templates":
        templates = make_templates(box, params)
        points = templates.embed(torch.zeros(images, box, box, device=META)).requires_grad_(True)
        told = templates.transfer(make_ctf(images))
        return count(lambda: templates(points, told).sum().backward(), [*templates.parameters(), points, told])
    score, points = make_convolutions(box, params, images)
    return count(lambda: score(points).sum().backward(), [*score.parameters(), points])


def count_penalty(box: int, params: Params) -> Cost:
    """Of the gradient penalty, which convolutions alone have."""
    score, points = make_convolutions(box, params, params.batch)

    def penalise() -> None:
        (gradient,) = torch.autograd.grad(score(points).sum(), points, create_graph=True)
        gradient.square().sum().backward()

    return count(penalise, [*score.parameters(), points])


def count_embedding(box: int, params: Params) -> Cost:
    """Of what the discriminator reads of a batch's images, and back; nothing for convolutions, which read the images."""
    if params.discriminator == "convolutions":
        return Cost(0, 0, 0)
    templates, images = make_templates(box, params), torch.zeros(params.batch, box, box, device=META)
    images.requires_grad_(True)
    return count(lambda: templates.embed(images).sum().backward(), [images])


def make_templates(box: int, params: Params) -> TemplateDiscriminator:
    power = torch.ones(box // 2 + 1, device=META)
    size = params.mask_radius, params.templates, params.hidden
    return TemplateDiscriminator(box, SIDE / box, power, *size, Shapeless())


def make_convolutions(box: int, params: Params, images: int) -> tuple[nn.Module, Tensor]:
    """Layers, and images that they score."""
    layers = ConvolutionalDiscriminator(box, params.channels, params.hidden, Shapeless()).layers
    dtype = torch.float32 if params.bfloat16 is False else torch.bfloat16
    points = torch.zeros(images, 1, box, box, device=META, dtype=dtype, requires_grad=True)
    return layers.to(dtype=dtype, memory_format=torch.channels_last), points


def count_step(box: int, params: Params) -> tuple[Cost, Cost, int]:
    """Of one volume step at that box: physics, discriminator, and how many real images it consumes."""
    transform, image, adjoint = count_operator(box, params.batch)
    batch, embedding = params.batch, count_embedding(box, params)
    judging = count_critic(box, params, 2 * batch)
    if params.penalty:
        judging = judging + count_penalty(box, params) * (1 / params.penalty_interval)
    if params.together:
        return transform + image + adjoint, judging + embedding, batch
    critic = (judging + embedding) * params.n_discr + count_critic(box, params, batch) + embedding
    return transform + image * (params.n_discr + 1) + adjoint, critic, batch * params.n_discr


def find_peak(params: Params, device: Device) -> float:
    """Operations a second of the device at what a discriminator does most."""
    if params.discriminator == "templates":
        return device.matrix_products
    return device.single_precision if params.bfloat16 is False else device.half_precision


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, nargs="+", default=[64, 128, 184, 256])
    parser.add_argument("--batch", type=int, default=64, help="images of the operator")
    parser.add_argument("--bandwidth", type=float, default=Device.bandwidth, help="bytes/s of the device")
    options = parser.parse_args(words)
    device = Device(bandwidth=options.bandwidth)
    print_operator(options.boxes, options.batch, device)
    print()
    print_steps(options.boxes, device)


def print_operator(boxes: list[int], batch: int, device: Device) -> None:
    print(
        f"| box | transform, ms | {batch} images, ms | images/s | adjoint, ms | images/s | traffic of images, GB | peak, GB |"
    )
    print("|---" * 8 + "|")
    for box in boxes:
        transform, image, adjoint = count_operator(box, batch)
        to, forth, back = (1e3 * cost.seconds(device) for cost in (transform, image, adjoint))
        print(
            f"| {box} | {to:.2f} | {forth:.2f} | {1e3 * batch / forth:,.0f} | {back:.2f} | {1e3 * batch / back:,.0f} | "
            f"{image.traffic / 1e9:.2f} | {(transform + image + adjoint).memory / 1e9:.2f} |"
        )


def print_steps(boxes: list[int], device: Device) -> None:
    print(
        "| preset | box | launches | physics, ms | discriminator, ms | real images/s | of the study's 68 | peak of one part, GB |"
    )
    print("|---" * 8 + "|")
    for preset in ("fast", "convolutions", "paper"):
        params = Params(preset=preset)
        for box in boxes:
            physics, critic, images = count_step(box, params)
            parts = physics.seconds(device), critic.seconds(device, peak=find_peak(params, device))
            rate = images / sum(parts)
            print(
                f"| {preset} | {box} | {physics.launches + critic.launches:,.0f} | {1e3 * parts[0]:.2f} | {1e3 * parts[1]:.2f} | "
                f"{rate:,.0f} | {rate / 68:.0f} | {(physics + critic).memory / 1e9:.2f} |"
            )


if __name__ == "__main__":
    main()
