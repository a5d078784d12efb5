"""The real images of a half-set, batch by batch: held on the device, or read ahead by a thread from the host or the store.

Held are the discriminator's features of them, which for the study's discriminator are the images themselves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from cryobench.reconstruct.contract import Observed
from cryobench_cryogan.prepare import prepare

BLOCK: Final = 1024
"""Images read at a time."""
PORTION: Final = 64
"""Images prepared at a time: more would not stay in a processor's cache."""
AHEAD: Final = 4
"""Batches that the thread reads ahead."""


@final
class Order:
    """Which images make up each batch: a function of the seed and the batch's number alone, so that any can be asked for.

    Args:
        seed: of the half.
        images: in the half-set.
        batch: images in a batch.
        shuffle: every pass takes each image once; else all are drawn independently.
    """

    def __init__(self, seed: int, images: int, batch: int, shuffle: bool) -> None:
        self.seed, self.images, self.batch, self.shuffle = seed, images, batch, shuffle
        self._pass, self._permutation = -1, np.empty(0, np.int64)

    def __call__(self, number: int) -> Tensor:
        """Indices ``(batch,)`` of batch ``number``."""
        if not self.shuffle:
            return torch.as_tensor(self._generator(number).integers(self.images, size=self.batch))
        places = number * self.batch + np.arange(self.batch)
        return torch.as_tensor(np.array([self._permuted(int(p) // self.images)[p % self.images] for p in places]))

    def _permuted(self, number: int) -> np.ndarray:
        if number != self._pass:
            self._pass, self._permutation = number, self._generator(number).permutation(self.images)
        return self._permutation

    def _generator(self, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, number]))


def measure_scale(observed: Observed, kind: str) -> float:
    """Standard deviation of the prepared images' pixels, by which images are divided.

    Images that are standardised one by one (``kind="image"``) are divided already: theirs is the mean deviation before.
    """
    total = squares = deviations = 0.0
    for _, images in _blocks(observed):
        if kind == "image":
            deviations += float(images.std((-2, -1)).double().sum())
            continue
        for portion in images.split(PORTION):
            prepared = prepare(portion, kind)
            total += float(prepared.sum(dtype=torch.float64))
            squares += float(prepared.double().square().sum())
    if kind == "image":
        return deviations / len(observed)
    count = len(observed) * observed.box**2
    return ((squares - total**2 / count) / max(count - 1, 1)) ** 0.5


@final
class RealImages:
    """Features of a half-set's prepared images.

    Args:
        observed: the half-set.
        order: of its images.
        kind: how they are prepared, see :func:`~cryobench_cryogan.prepare.prepare`.
        scale: by which they are divided, see :func:`measure_scale`.
        embed: from images ``(batch, y, x)`` on the device to features.
        place: where they wait: ``"device"``, ``"host"`` or ``"store"``.
        share: the part of every batch that is wanted.
        device: where batches go.
    """

    def __init__(
        self,
        observed: Observed,
        order: Order,
        kind: str,
        scale: float,
        embed: Callable[[Tensor], Tensor],
        place: str,
        share: slice,
        device: torch.device,
    ) -> None:
        self.order, self.share, self.device = order, share, device
        self._observed, self._embed, self._kind = observed, embed, kind
        self._divisor = 1.0 if kind == "image" else scale
        self._held: Tensor | None = None
        if place != "store":
            where = device if place == "device" else torch.device("cpu")
            for block, images in _blocks(observed):
                features = self._features(images)
                if self._held is None:
                    self._held = torch.empty(len(observed), *features.shape[1:], device=where)
                self._held[block] = features
        self._reader = None if place == "device" else ThreadPoolExecutor(1, "cryogan-images")
        self._coming: OrderedDict[int, Future[Tensor]] = OrderedDict()

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        portions = images.split(PORTION)
        return torch.cat([self._embed(prepare(p.to(self.device), self._kind) / self._divisor) for p in portions])

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """This member's share of batch ``number``: features ``(image, ...)`` on the device, and its particles ``(image,)``."""
        chosen = self.order(number)[self.share]
        if self._reader is None:
            assert self._held is not None
            chosen = chosen.to(self.device, non_blocking=True)
            return self._held[chosen], chosen
        if number not in self._coming:
            self._coming.clear()  # training went back to an earlier step: what was read ahead is of no use
        for next_number in range(number, number + 1 + AHEAD):
            if next_number not in self._coming:
                self._coming[next_number] = self._reader.submit(self._read, next_number)
        found = self._coming.pop(number).result()
        return found.to(self.device, non_blocking=True), chosen.to(self.device, non_blocking=True)

    def close(self) -> None:
        """End the thread that reads ahead."""
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)

    def _read(self, number: int) -> Tensor:
        """Features of this member's share of a batch, in pinned memory where they go to a GPU."""
        chosen = self.order(number)[self.share]
        if self._held is not None:
            features = self._held[chosen]
            return features.pin_memory() if self.device.type == "cuda" else features
        rows, inverse = np.unique(chosen.numpy(), return_inverse=True)
        images = self._observed.read(rows).images[torch.as_tensor(inverse)]
        return self._features(images)


def _blocks(observed: Observed) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(observed), BLOCK):
        block = slice(start, start + BLOCK)
        yield block, observed.read(block).images
