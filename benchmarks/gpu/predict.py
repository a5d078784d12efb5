"""What a GPU should need, without one: the operator and a CryoGAN step counted at any box, as times and memory of a device.

    python benchmarks/gpu/predict.py --boxes 64 128 184 256 --batch 64

A time is the least that launches, memory traffic and arithmetic allow (see counting.Device), eager PyTorch, nothing fused. Steps
are the plugin's own, whole, at the box that is named: those of `fast` in smaller boxes before it cost less.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from counting import OTHER, Cost, Device, count, count_phases
from cryobench_cryogan.build import build_discriminator
from cryobench_cryogan.images import Order, RealImages
from cryobench_cryogan.method import Params
from cryobench_cryogan.parallel import Team
from cryobench_cryogan.simulator import Simulator
from cryobench_cryogan.state import State
from cryobench_cryogan.step import PHASES, Stepper
from cryobench_cryogan.train import STEPS_AT_ONCE
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.imaging import ImagingOperator
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate

SIDE = 234.4
"""Field of view in angstrom, that of the study's images."""
META = torch.device("meta")
PARTICLES = 128
"""Enough for a batch of either half; what is held of a whole half-set is in the plugin's formula."""
PARTS = {
    "physics": ("physics",),
    "discriminator": ("discriminator", "penalty"),
    "the rest": tuple(name for name in (*PHASES, OTHER) if name not in ("physics", "discriminator", "penalty")),
}
"""What phases of a step are told together; the discriminator's part is bound by arithmetic, the others are not."""


class Shapeless(torch.Generator):
    """A generator for tensors without data."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return META


class Autocast(TorchFunctionMode):
    """What torch.autocast, which knows no tensors without data, does with the layers of a discriminator."""

    def __init__(self, _device: str, dtype: torch.dtype, enabled: bool) -> None:
        super().__init__()
        self._dtype, self._enabled = dtype, enabled

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._enabled and func in (torch.conv2d, torch.nn.functional.linear):
            args = tree_map(lambda leaf: leaf.to(self._dtype) if isinstance(leaf, Tensor) else leaf, args)
        return func(*args, **(kwargs or {}))


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


def observe(directory: Path, box: int) -> Observed:
    """The first half of a few images as the benchmark's, of that box."""
    settings = [f"image.native_box={box}", f"image.native_pixel_size={SIDE / box}", "noise.pool=64"]
    simulate(adapt_scenario("snr-20", particles=PARTICLES, box=box, settings=settings), directory, jobs=1)
    return Observed(open_store(directory / "observed.zarr", "observed"), 1)


def make_stepper(observed: Observed, params: Params) -> tuple[Stepper, list[Tensor]]:
    """What takes the steps, as the plugin's ``Trainer`` makes it, and all tensors that it keeps; without data."""
    draw, team = Shapeless(), Team()
    simulator = Simulator(observed, params, 1.0, draw, team)
    network = build_discriminator(observed, params, simulator.noise.power, draw, params.bfloat16 is not False)
    volume = [simulator.values, simulator.log_signal, simulator.log_noise]
    # many tensors in one launch, as PyTorch chooses by itself for those of a GPU
    optimisers = torch.optim.Adam(volume, foreach=True), torch.optim.Adam(network.parameters(), foreach=True)
    state = State(simulator, network, *optimisers, draw, torch.zeros_like(simulator.values))
    order = Order(0, len(observed), params.batch, params.shuffle)
    share = team.share(params.batch)
    images = RealImages(observed, order, params.normalise, 1.0, network.embed, "device", share, META)
    stepper = Stepper(params, state, images, team)
    stepper.take(params.smoothing, False)  # what is kept from call to call is made before anything is counted
    kept = tree_leaves((state.save(), list(simulator.buffers()), list(network.buffers()), vars(simulator.noise)))
    return stepper, [leaf for leaf in kept if isinstance(leaf, Tensor)]


def count_step(observed: Observed, params: Params) -> dict[str, Cost]:
    """Of one volume step, by its phases: the mean of those with and without a penalty, with and without a look at losses."""
    steps = params.penalty_interval if params.penalty else 1
    whole: dict[str, Cost] = {}
    with patch("torch.autocast", Autocast):
        stepper, kept = make_stepper(observed, params)
        for measure, share in ((False, 1 - 1 / STEPS_AT_ONCE), (True, 1 / STEPS_AT_ONCE)):
            counted = count_phases(lambda: [stepper.take(params.smoothing, measure) for _ in range(steps)], kept)  # noqa: B023
            for phase, cost in counted.items():
                whole[phase] = whole.get(phase, Cost(0, 0, 0)) + cost * (share / steps)
    return whole


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
    parser.add_argument("--launch", type=float, default=Device.launch, help="seconds of a launch; 0 for CUDA graphs")
    options = parser.parse_args(words)
    device = Device(bandwidth=options.bandwidth, launch=options.launch)
    print_operator(options.boxes, options.batch, device)
    print()
    with TemporaryDirectory() as directory:
        print_steps({box: observe(Path(directory) / str(box), box) for box in options.boxes}, device)


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


def print_steps(observed: dict[int, Observed], device: Device) -> None:
    heads = ("preset", "box", "launches", "traffic, GB", "GFLOP", *(f"{name}, ms" for name in PARTS), "real images/s")
    print(f"| {' | '.join(heads)} | of the study's 68 | peak, GB |")
    print("|---" * (len(heads) + 2) + "|")
    for preset in ("fast", "convolutions", "paper"):
        params = Params(preset=preset)
        for box in observed:
            phases = count_step(observed[box], params)
            parts = [sum((phases[name] for name in names if name in phases), Cost(0, 0, 0)) for names in PARTS.values()]
            whole, peak = sum(parts, Cost(0, 0, 0)), find_peak(params, device)
            times = [part.seconds(device, peak=peak) for part in parts]
            rate = params.batch * (1 if params.together else params.n_discr) / sum(times)
            told = " | ".join(f"{1e3 * time:.2f}" for time in times)
            print(
                f"| {preset} | {box} | {whole.launches:,.0f} | {whole.traffic / 1e9:.1f} | {whole.arithmetic / 1e9:,.0f} | "
                f"{told} | {rate:,.0f} | {rate / 68:.0f} | {whole.memory / 1e9:.2f} |"
            )


if __name__ == "__main__":
    main()
