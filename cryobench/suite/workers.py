"""Where cells are computed: local dask workers, one to a GPU and one to every few cores, or somebody's cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from cryobench.errors import InputError
from cryobench.machine import available_cores
from cryobench.simulate.cluster import connect
from cryobench.suite.task import CORES

if TYPE_CHECKING:
    from distributed import Client

CORES_PER_CELL: Final = 2
"""One for each half: cells of one table get the same time on the same cores, however many run at once."""


@dataclass(frozen=True)
class Slot:
    """Room for one cell at a time: some cores, and a GPU or none."""

    cores: tuple[int, ...]
    gpu: str | None

    @property
    def resource(self) -> str:
        """What a task asks dask for."""
        return "CPU" if self.gpu is None else "GPU"


def visible_gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` of a process must be to have one of this machine's GPUs; one each."""
    count = torch.cuda.device_count()
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    return stated.split(",")[:count] if stated else [str(i) for i in range(count)]


def share_out(
    cores: Sequence[int], gpus: Sequence[str], on_gpu: int, on_cpu: int, at_once: int | None = None
) -> list[Slot]:
    """Divide a machine among cells.

    GPUs get half of the cores where other cells need the rest. Cells on the CPU get two cores each.

    Args:
        cores: of the machine.
        gpus: of the machine.
        on_gpu: cells that can use one.
        on_cpu: cells and datasets that cannot.
        at_once: cells on the CPU at the same time; as many as there are pairs of cores if not given.
    """
    slots = []
    used = list(gpus[:on_gpu])
    rest = list(cores)
    if used:
        share = max(1, len(cores) // (2 if on_cpu else 1) // len(used))
        for i, gpu in enumerate(used):
            own = tuple(cores[i * share : (i + 1) * share]) or tuple(cores)
            slots.append(Slot(own, gpu))
        rest = list(cores[len(used) * share :]) or list(cores)
    else:
        on_cpu += on_gpu
    count = min(on_cpu, at_once or max(1, len(rest) // CORES_PER_CELL))
    each = CORES_PER_CELL if at_once is None else max(1, len(rest) // at_once)
    for i in range(count):
        slots.append(Slot(tuple(rest[i * each : (i + 1) * each]) or tuple(rest), None))
    return slots


@contextmanager
def start_workers(where: str | None, on_gpu: int, on_cpu: int) -> Iterator[tuple[Client, frozenset[str]]]:
    """A client, and the resources that its workers declare.

    Args:
        where: None for this machine; ``"local:N"`` for N cells at once here; else a scheduler's address or scheduler file.
        on_gpu: cells that can use a GPU.
        on_cpu: cells and datasets that cannot.

    Raises:
        InputError: if dask is not installed, or nothing is there.
    """
    kind, _, count = (where or "local").partition(":")
    if kind != "local":
        with connect(str(where)) as client:
            workers: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
            declared = [frozenset(worker.get("resources", {})) for worker in workers.values()]
            yield client, frozenset().union(*declared)
        return
    at_once = None
    if where is not None:
        if not count.isdigit() or int(count) < 1:
            raise InputError(f"expected --dask local:N with N of 1 or more, got {where!r}")
        at_once = int(count)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(available_cores()))
    slots = share_out(cores, visible_gpus() if on_gpu else [], on_gpu, on_cpu, at_once)
    with _local(slots) as client:
        yield client, frozenset(slot.resource for slot in slots)


@contextmanager
def _local(slots: Sequence[Slot]) -> Iterator[Client]:
    try:
        from distributed import Client, Nanny, Scheduler, SpecCluster
    except ImportError as error:
        raise InputError(
            f"suites run on dask.distributed, which is not installed ({error}); pip install 'cryobench[dask]'"
        ) from error
    nowhere = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # else port 8787, open to all
    workers = {
        number: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": 0,  # the work is in processes of its own
                "resources": {slot.resource: 1},
                "env": {CORES: ",".join(map(str, slot.cores)), "CUDA_VISIBLE_DEVICES": slot.gpu or ""},
                "silence_logs": logging.CRITICAL,
                **nowhere,
            },
        }
        for number, slot in enumerate(slots)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, **nowhere}}
    with (
        SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL) as cluster,  # type: ignore[no-untyped-call]
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        yield client
