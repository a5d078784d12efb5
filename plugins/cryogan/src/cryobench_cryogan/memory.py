"""What training on a half takes of memory, by formula, and whether there is so much.

With ``n`` the data's box (the largest that is trained at), ``P`` the discriminator's weights, ``A`` the numbers that it holds of
one image, ``w`` their width (4 bytes, or 2 where it convolves in bfloat16), ``F`` the features that it reads of an image, and
``b`` this process's share of the batch:

- features ``4 F`` of each image, where they are held (the study's discriminator reads the image itself), and the noise patches;
- weights ``16 P``: themselves, gradients and Adam's two moments;
- volume ``24 n^3``: values, gradient, moments, mean and mask; its spectrum ``32 n^3``, and ``48 n^3`` more while it is
  transformed (68 on a GPU, where that is not done in place; or ``8 n^3`` for every rotation of the symmetry);
- convolutions, at another time than that: ``2 b A (1.5 w + 2)``, or ``2.4 b A (1.5 w + 2)`` when the penalty is differentiated;
  of every four numbers, pooling keeps one and its 8-byte index;
- or templates: ``8 P + 8 b A``, real and imaginary parts of them side by side, and ``24 P`` at least, with their gradients;
- slices on a GPU: ``112 n^2 b``;
- two good states to go back to, ``24 P + 40 n^3``, in the host's memory.

Python and its libraries come on top. Held against measurement in EXPERIMENTS.md.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import psutil
import torch

from cryobench.errors import Declined
from cryobench.physics.symmetry import symmetry_rotations
from cryobench.reconstruct.contract import Observed
from cryobench_cryogan.discriminator import count_numbers
from cryobench_cryogan.method import Params
from cryobench_cryogan.templates import count_template_numbers

GIB: Final = 2**30
RESERVE: Final = 1.25
"""How much more than the formula's has to be free."""


@final
@dataclass(frozen=True)
class Memory:
    """Bytes that one process takes, by what they are for."""

    images: int
    weights: int
    volume: int
    working: int
    good_states: int

    def on(self, device: torch.device, resident: bool) -> int:
        """Bytes of the device, with or without the images."""
        host = self.good_states if device.type == "cpu" else 0
        return self.weights + self.volume + self.working + host + (self.images if resident else 0)


def estimate(observed: Observed, params: Params, bfloat16: bool, device: torch.device) -> Memory:
    """Memory of one process that trains on a half-set."""
    n, batch = observed.box, params.batch // params.processes
    if params.discriminator == "convolutions":
        weights, outputs = count_numbers(n, params.channels, params.hidden)
        features = n**2
        scoring = (2.4 if params.penalty else 2.0) * batch * outputs * (1.5 * (2 if bfloat16 else 4) + 2)
    else:
        weights, outputs, features = count_template_numbers(n, params.mask_radius, params.templates, params.hidden)
        scoring = 4 * max(2 * weights + 2 * batch * outputs, 6 * weights)
    order = len(symmetry_rotations(observed.symmetry)) if params.symmetrise else 1
    physics = max(48 if device.type == "cpu" else 68, 8 * order) * n**3
    slices = 112 * n**2 * batch if device.type == "cuda" else 0
    patches = 0 if params.noise == "spectrum" else len(observed.noise_patches)
    return Memory(
        images=4 * (features * len(observed) + n**2 * patches),
        weights=16 * weights,
        volume=56 * n**3,
        working=int(max(physics, scoring)) + slices,
        good_states=24 * weights + 40 * n**3,
    )


def find_place(observed: Observed, params: Params, bfloat16: bool, device: torch.device) -> str:
    """Where the images are to wait: ``"device"``, ``"host"`` or ``"store"``, the first of those allowed that has room.

    Raises:
        Declined: if training does not fit, with what would make it fit.
    """
    free, free_host = free_memory(device), free_memory(torch.device("cpu"))
    members = params.processes if device.type == "cpu" else 1  # on CUDA each has a device of its own

    def need(tried: Params, place: str) -> float:
        return RESERVE * members * estimate(observed, tried, bfloat16, device).on(device, place == "device")

    places = ["device", "host", "store"] if params.images == "auto" else [params.images]
    if device.type == "cpu":  # where the host's memory is the device's
        places = list(dict.fromkeys("device" if place == "host" else place for place in places))
    images = params.processes * estimate(observed, params, bfloat16, device).images
    for place in places:
        if need(params, place) <= free and (place != "host" or images <= free_host):
            return place
    width = _width(params)
    fitting = next((tried for tried in _smaller(params) if need(tried, "store") <= free), None)
    advice = "a smaller box (`--box`) or a device with more memory"
    if fitting is not None:
        differs = [name for name in ("images", "batch", width) if getattr(fitting, name) != getattr(params, name)]
        advice = " ".join(f"-p {name}={getattr(fitting, name)}" for name in differs)
    needed, found, where = need(params, places[-1]), free, "of memory" if device.type == "cpu" else f"on {device}"
    if needed <= free:  # the device has room, and the host has none for the images
        needed, found, where = images, free_host, "of the host's memory"
    raise Declined(
        f"expected {needed / GIB:.2f} GiB {where} for {len(observed)} images of {observed.box} px, batch {params.batch} and "
        f"{getattr(params, width)} {width}, found {found / GIB:.2f} GiB free; what fits: {advice}"
    )


def _smaller(params: Params) -> Iterator[Params]:
    """The same training with images in the store, then with ever smaller batches, then with a narrower discriminator, too."""
    width = _width(params)
    count = getattr(params, width)
    while count:
        batch = params.batch
        while batch >= params.processes:
            yield params.model_copy(update={"images": "store", "batch": batch, width: count})
            batch = batch // 2 // params.processes * params.processes
        count //= 2


def _width(params: Params) -> str:
    """The parameter that says how much the discriminator looks for."""
    return "channels" if params.discriminator == "convolutions" else "templates"


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take: of the GPU, or of the machine and its control group less the other half's share.

    Of a GPU it is all that is free: halves that run side by side have one each, unless a GPU was named for both.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    free = min([psutil.virtual_memory().available, *_group_limits()])
    # the harness runs halves side by side in processes of their own, and this one cannot see what the other will take
    return free // 2 if multiprocessing.parent_process() is not None else free


def _group_limits(root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Bytes that the control group (containers, batch systems) leaves: version 2, then version 1; none where it sets no limit."""
    for limit, used, stat, inactive in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            most = int((root / limit).read_text())  # "max" where there is no limit
            taken = int((root / used).read_text())
            lines = (root / stat).read_text().split("\n")
        except (OSError, ValueError):
            continue
        # file pages that nobody uses are given up at need
        reclaimable = sum(int(line.split()[1]) for line in lines if line.startswith(f"{inactive} "))
        yield most - taken + reclaimable
