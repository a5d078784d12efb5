"""One half-set's run: clock, progress, history, snapshots and checkpoints, written as they come."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import psutil
import torch
import zarr

from cryobench.errors import InputError
from cryobench.types import Volume

HISTORY_INTERVAL: Final = 0.5
"""Seconds between records of the history; a method may report every step."""


def _processor_seconds() -> float:
    """Of this process and of those it waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


@final
class PeakMemory:
    """Largest resident memory of this process between enter and exit, sampled ten times a second."""

    def __init__(self) -> None:
        self._process, self._stop = psutil.Process(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = 0

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._process.memory_info().rss)
            if self._stop.wait(0.1):
                return

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@final
class Harness:
    """The :class:`~cryobench.reconstruct.contract.Run` that a method is handed. Its clock counts the method's own work only.

    Args:
        group: zarr group of the half, open for writing.
        checkpoint_path: file of this half's checkpoint.
        seed: for the method.
        device: to compute on.
        budget: seconds, or infinity.
        on_progress: called with (step, total, scalars).
    """

    def __init__(
        self,
        group: zarr.Group,
        checkpoint_path: Path,
        seed: int,
        device: torch.device,
        budget: float,
        on_progress: Callable[[int, int, dict[str, float]], None],
    ) -> None:
        self.seed, self.device = seed, device
        self._group, self._path, self._budget, self._report = group, checkpoint_path, budget, on_progress
        self._before = 0.0  # seconds of earlier tries that this one goes on from
        self._paused = 0.0
        self._records: list[dict[str, float]] = []
        self._snapshots = 0
        self._begun = False  # whether what an earlier try left is sorted out
        self.steps = 0
        self._earlier_cpu, self._earlier_peak = 0.0, 0
        self._cpu_start = _processor_seconds()
        self.memory = PeakMemory()
        self._synchronise()
        self._start = time.perf_counter()

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def elapsed(self) -> float:
        """Seconds of work so far, earlier tries included, writing left out."""
        self._synchronise()
        return self._before + time.perf_counter() - self._start - self._paused

    def cpu_seconds(self) -> float:
        """Processor seconds of this process, and of programs that it ran, on the half so far, earlier tries included."""
        return self._earlier_cpu + _processor_seconds() - self._cpu_start

    def peak_memory(self) -> int:
        """Largest memory so far, earlier tries included: the device's on a GPU, else the process's resident size, bytes."""
        own = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else self.memory.peak
        return max(self._earlier_peak, own)

    def remaining(self) -> float:
        """Seconds left of the budget; infinity where there is none."""
        return math.inf if math.isinf(self._budget) else self._budget - self.elapsed()

    def progress(self, step: int, total: int, images_seen: int = 0, **scalars: float) -> None:
        """Report where the method is; kept in the history at most twice a second, and at the last step."""
        self.steps = step
        now = time.perf_counter() - self._start - self._paused + self._before
        if not self._records or step >= total or now - self._records[-1]["seconds"] >= HISTORY_INTERVAL:
            record = {"step": float(step), "seconds": now, "images_seen": float(images_seen)}
            self._records.append(record | {name: float(value) for name, value in scalars.items()})
            self._report(step, total, scalars)

    def snapshot(self, volume: Volume, images_seen: int = 0) -> None:
        """Append a volume to the half's snapshots; the clock stops while it is written."""
        seconds, began = self.elapsed(), time.perf_counter()
        values = volume.detach().to("cpu", torch.float32).numpy()
        if not np.isfinite(values).all():
            raise InputError(f"expected a finite volume in the snapshot at step {self.steps}, got NaN or infinity")
        if not self._begun:
            self._drop_snapshots(0)  # the method began anew and asked for no checkpoint
        self._snapshots += 1
        self._append("snapshots", values, ("snapshot", "z", "y", "x"))
        self._append("snapshot_seconds", np.float64(seconds), ("snapshot",))
        self._append("snapshot_images_seen", np.int64(images_seen), ("snapshot",))
        self._paused += time.perf_counter() - began

    def _append(self, name: str, row: Any, dims: tuple[str, ...]) -> None:
        row = np.asarray(row)
        if name not in self._group:
            self._group.create_array(
                name, shape=(0, *row.shape), dtype=row.dtype, chunks=(1, *row.shape), dimension_names=dims
            )
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        array.append(row[None])

    def checkpoint(self, state: Mapping[str, Any], step: int) -> None:
        """Write the state of the method beside the harness's own, atomically; the clock stops while it is written."""
        kept = {
            "method": dict(state),
            "harness": {
                "step": step,
                "seconds": self.elapsed(),
                "cpu_seconds": self.cpu_seconds(),
                "peak_memory": self.peak_memory(),
                "records": self._records,
                "snapshots": self._snapshots,
            },
        }
        began = time.perf_counter()
        self._path.parent.mkdir(exist_ok=True)
        partial = self._path.with_suffix(".partial")
        torch.save(kept, partial)
        os.replace(partial, self._path)
        self._paused += time.perf_counter() - began

    def restore(self) -> dict[str, Any] | None:
        """The last checkpoint of this very run, or None; history and snapshots after it are dropped."""
        kept = None
        if self._path.is_file():
            kept = torch.load(self._path, map_location=self.device, weights_only=True)
        fresh = {"step": 0, "seconds": 0.0, "cpu_seconds": 0.0, "peak_memory": 0, "records": [], "snapshots": 0}
        own: dict[str, Any] = kept["harness"] if kept else fresh
        self._earlier_cpu, self._earlier_peak = own["cpu_seconds"], own["peak_memory"]
        self.steps, self._before, self._records = own["step"], own["seconds"], list(own["records"])
        self._drop_snapshots(own["snapshots"])
        self._start, self._paused = time.perf_counter(), 0.0
        return kept["method"] if kept else None

    def _drop_snapshots(self, keep: int) -> None:
        """Cut off the snapshots that an earlier try took after the first ``keep``."""
        for name in ("snapshots", "snapshot_seconds", "snapshot_images_seen"):
            if name in self._group:
                array = self._group[name]
                assert isinstance(array, zarr.Array)
                array.resize((keep, *array.shape[1:]))
        self._snapshots, self._begun = keep, True

    def write_history(self) -> None:
        """Write the records as one variable a scalar along ``record``; NaN where a record lacks one."""
        for earlier in [name for name in self._group if name.startswith("history_")]:
            del self._group[earlier]
        names = {name for record in self._records for name in record}
        for name in sorted(names):
            values = np.array([record.get(name, np.nan) for record in self._records])
            array = self._group.create_array(
                f"history_{name}", shape=values.shape, dtype="float64", chunks=values.shape, dimension_names=("record",)
            )
            array[...] = values
