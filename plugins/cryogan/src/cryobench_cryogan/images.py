"""The real images of a half-set, batch by batch: held on the device, or read ahead by a thread from the host or the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from cryobench.reconstruct.contract import Observed
from cryobench_cryogan.prepare import prepare

BLOCK: Final = 1024
"""Images read and prepared at a time."""
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


@final
class RealImages:
    """Prepared images of a half-set.

    Args:
        observed: the half-set.
        order: of its images.
        kind: how they are prepared, see :func:`~cryobench_cryogan.prepare.prepare`.
        place: where they wait: ``"device"``, ``"host"`` or ``"store"``.
        share: the part of every batch that is wanted.
        device: where batches go.

    Attributes:
        scale: standard deviation of the pixels, by which the images are divided.
    """

    def __init__(
        self, observed: Observed, order: Order, kind: str, place: str, share: slice, device: torch.device
    ) -> None:
        self.order, self.kind, self.share, self.device = order, kind, share, device
        self._observed = observed
        box = observed.box
        where = None if place == "store" else device if place == "device" else torch.device("cpu")
        self._held = None if where is None else torch.empty(len(observed), box, box, device=where)
        total = squares = deviations = 0.0
        for block, images in self._blocks():
            if kind == "image":
                deviations += float(images.std((-2, -1)).double().sum())
            images = prepare(images, kind)
            total += float(images.sum(dtype=torch.float64))
            squares += float(images.double().square().sum())
            if self._held is not None:
                self._held[block] = images
        count = len(observed) * box**2
        deviation = ((squares - total**2 / count) / max(count - 1, 1)) ** 0.5
        # images that are standardised one by one are divided already; the data's own scale is then their mean deviation
        self.scale = deviation if kind == "disc" else deviations / len(observed)
        self._divisor = self.scale if kind == "disc" else 1.0
        if self._held is not None:
            self._held /= self._divisor
        self._reader = None if place == "device" else ThreadPoolExecutor(1, "cryogan-images")
        self._coming: OrderedDict[int, Future[Tensor]] = OrderedDict()

    def batch(self, number: int) -> Tensor:
        """This member's share of batch ``number``: ``(image, 1, y, x)`` on the device."""
        if self._reader is None:
            assert self._held is not None
            chosen = self.order(number)[self.share]
            return self._held[chosen.to(self.device, non_blocking=True)][:, None]
        if number not in self._coming:
            self._coming.clear()  # training went back to an earlier step: what was read ahead is of no use
        for next_number in range(number, number + 1 + AHEAD):
            if next_number not in self._coming:
                self._coming[next_number] = self._reader.submit(self._read, next_number)
        return self._coming.pop(number).result().to(self.device, non_blocking=True)[:, None]

    def close(self) -> None:
        """End the thread that reads ahead."""
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)

    def _read(self, number: int) -> Tensor:
        """This member's share of a batch, in pinned memory where it goes to a GPU."""
        chosen = self.order(number)[self.share]
        if self._held is not None:
            images = self._held[chosen]
        else:
            rows, inverse = np.unique(chosen.numpy(), return_inverse=True)
            images = prepare(self._observed.read(rows).images, self.kind)[torch.as_tensor(inverse)] / self._divisor
        return images.pin_memory() if self.device.type == "cuda" else images

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self._observed), BLOCK):
            block = slice(start, start + BLOCK)
            yield block, self._observed.read(block).images.to(self.device)
