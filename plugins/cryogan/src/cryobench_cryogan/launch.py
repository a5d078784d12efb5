"""Training on one half-set, in this process or with others that it starts or finds."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, final

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from cryobench.errors import Declined
from cryobench.reconstruct.contract import Observed, Reconstruction, Run
from cryobench_cryogan.method import Params
from cryobench_cryogan.parallel import LEADER, Team, join
from cryobench_cryogan.train import Trainer


@final
class FollowerRun:
    """The harness's hand as a follower has it: the leader's seed, no clock, and nothing that it says is kept."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed, self.device = seed, device

    def remaining(self) -> float:
        """The leader minds the budget."""
        return float("inf")

    def progress(self, step: int, total: int, images_seen: int = 0, **scalars: float) -> None:
        """The leader reports."""

    def snapshot(self, volume: Tensor, images_seen: int = 0) -> None:
        """The leader keeps volumes."""

    def checkpoint(self, state: Mapping[str, Any], step: int) -> None:
        """The leader keeps the state."""

    def restore(self) -> dict[str, Any] | None:
        """The leader tells its state."""
        return None


def train_in_team(observed: Observed, params: Params, run: Run) -> Reconstruction:
    """Train on one half-set, as the leader of those that ``params.processes`` asks for, or of those that are there already.

    Raises:
        Declined: if there are fewer CUDA devices than processes that want one.
    """
    if params.processes == 1:
        return Trainer(observed, params, run).train()
    if dist.is_initialized():
        return _lead(observed, params, run)
    found = torch.cuda.device_count()
    first = run.device.index or 0
    if run.device.type == "cuda" and first + params.processes > found:
        raise Declined(
            f"expected {params.processes} CUDA devices from {run.device} on, found {found - first}; lower -p processes, or run "
            "the halves in turn (--workers 1)"
        )
    with _followers(params.processes, run.device):
        return _lead(observed, params, run)


def _lead(observed: Observed, params: Params, run: Run) -> Reconstruction:
    team = Team()
    if team.size != params.processes:
        raise Declined(f"expected {params.processes} processes, found {team.size}; pass -p processes={team.size}")
    team.tell((observed, params, run.seed))
    return Trainer(observed, params, run, team).train()


def serve(device: torch.device) -> None:
    """Follow the leader through every half-set that it tells of, until it tells of no more."""
    team = Team()
    while (task := team.tell(None)) is not None:
        observed, params, seed = task
        Trainer(observed, params, FollowerRun(seed, device), team).train()


@contextmanager
def _followers(count: int, device: torch.device) -> Iterator[None]:
    """``count - 1`` processes that follow this one, which is their leader; they end with it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    address = f"tcp://127.0.0.1:{port}"
    threads = max(1, torch.get_num_threads() // count)
    children = [
        context.Process(target=_follow, args=(rank, count, address, device, threads), daemon=True)
        for rank in range(1, count)
    ]
    for child in children:
        child.start()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        join(address, LEADER, count, device)
        yield
        Team().tell(None)
        for child in children:
            child.join()
    finally:
        torch.set_num_threads(before)
        for child in children:
            child.kill()
        if dist.is_initialized():
            dist.destroy_process_group()


def _follow(rank: int, count: int, address: str, device: torch.device, threads: int) -> None:
    threading.Thread(target=_leave_with_leader, daemon=True).start()
    torch.set_num_threads(threads)
    own = torch.device("cuda", (device.index or 0) + rank) if device.type == "cuda" else device
    join(address, rank, count, own)
    serve(own)
    dist.destroy_process_group()


def _leave_with_leader() -> None:
    """End this process when the leader is killed, for whom NCCL would have it wait for minutes with a GPU in its hands."""
    leader = multiprocessing.parent_process()
    if leader is not None:
        wait([leader.sentinel])
        os._exit(1)
