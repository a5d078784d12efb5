"""One half-set over several processes: every batch is shared, and gradients of discriminator and volume are averaged.

All members draw the same random numbers for the whole batch and form their share of it, so that the losses are those of one
process with that batch, but for rounding. The leader (rank 0) alone has the harness: it reads the clock, reports and writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import torch
import torch.distributed as dist
from torch import Tensor

LEADER: Final = 0


@final
class Team:
    """The processes that share a half: this one alone, or those of the default group of :mod:`torch.distributed`."""

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if together else LEADER
        self.size = dist.get_world_size() if together else 1

    def share(self, count: int) -> slice:
        """This member's part of a batch of ``count``, which the members share evenly."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over the members, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def agree(self, values: Sequence[float], device: torch.device) -> list[float]:
        """The leader's numbers."""
        if self.size == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64, device=device)
        dist.broadcast(told, LEADER)
        return told.tolist()

    def tell(self, thing: Any) -> Any:
        """The leader's object, pickled on the way."""
        if self.size == 1:
            return thing
        held = [thing]
        dist.broadcast_object_list(held, LEADER)
        return held[0]


def join(address: str | None, rank: int, count: int, device: torch.device) -> None:
    """Make this process a member of a group of ``count``; without an address, as the environment says (torchrun)."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    dist.init_process_group(backend, init_method=address or "env://", rank=rank, world_size=count)
