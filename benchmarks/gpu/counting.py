"""What a piece of PyTorch work costs on a device that is not here: launches, bytes moved, arithmetic, memory.

The work runs on ``meta`` tensors, which have shapes and no data, so that the native box costs no time and no memory. What it
does within ``torch.profiler.record_function`` is filed under that name, its gradients under the name where they are asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Device:
    """What a device can do; the defaults are an H100 (SXM) by its data sheet."""

    bandwidth: float = 3.35e12
    half_precision: float = 990e12
    single_precision: float = 495e12
    """Of convolutions, which PyTorch computes in TF32 unless told otherwise."""
    matrix_products: float = 67e12
    """In single precision, which PyTorch computes without TF32 unless told otherwise."""
    launch: float = 6e-6
    """Seconds that the host needs for one operation of eager PyTorch, gradients included."""
    reached: float = 0.6
    """Share of the above that real kernels reach, as a rule of thumb."""


@dataclass(frozen=True)
class Cost:
    """Of a piece of work: operations launched, bytes read and written, floating-point operations, peak bytes held."""

    launches: float
    traffic: float
    arithmetic: float
    memory: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.launches + other.launches,
            self.traffic + other.traffic,
            self.arithmetic + other.arithmetic,
            max(self.memory, other.memory),
        )

    def __mul__(self, times: float) -> Cost:
        return Cost(times * self.launches, times * self.traffic, times * self.arithmetic, self.memory)

    def seconds(self, device: Device, *, peak: float = Device.single_precision) -> float:
        """At least, on that device: what the slowest of memory, arithmetic (of that peak rate) and launching takes."""
        busy = max(self.traffic / device.bandwidth, self.arithmetic / peak) / device.reached
        return max(busy, self.launches * device.launch)


OTHER = "other"
"""Phase of what is done under no name."""


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts launches, bytes as if every operation read its inputs from memory and wrote its results there, and what is held."""

    def __init__(self, held: Iterable[Tensor], device: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.costs: defaultdict[str, Cost] = defaultdict(lambda: Cost(0, 0, 0))
        self._phases: list[str] = []
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._note(held)

    def _note(self, values: Any) -> None:
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor) and leaf.device.type == self._device:
                kept = StorageWeakRef(leaf.untyped_storage())  # type: ignore[no-untyped-call]
                self._alive.setdefault(kept.cdata, (kept, leaf.untyped_storage().nbytes()))
        gone = [key for key, (kept, _) in self._alive.items() if kept.expired()]  # type: ignore[no-untyped-call]
        for key in gone:
            del self._alive[key]
        held = sum(size for _, size in self._alive.values())
        self._add(Cost(0, 0, 0, held))

    def _add(self, cost: Cost) -> None:
        phase = self._phases[0] if self._phases else OTHER  # optimisers name theirs within ours
        self.costs[phase] = self.costs[phase] + cost

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "profiler":  # record_function begins or ends
            if "enter" in func.overloadpacket.__name__:
                self._phases.append(args[0])
            else:
                self._phases.pop()
            return func(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if tensors and all(leaf.device.type != self._device for leaf in tensors):
            return result  # the processor by itself: counters of steps, single numbers
        self._note(result)
        if func.is_view or func in (torch.ops.aten.detach.default, torch.ops.aten.empty.memory_format):
            return result
        read, name = _bytes((args, kwargs)), func.overloadpacket.__name__
        written = _bytes(args[0] if result is None else result)  # of a whole list in place, nothing is returned
        if name in ("index_select", "index", "gather"):
            read = written + _bytes(args[1:])  # of the table, what is asked for
        elif name.startswith("_fft"):
            passes = len(args[1])
            read, written = passes * read, passes * written
        arithmetic = 0
        if func.overloadpacket in flop_registry:  # matrix products and convolutions; the rest is as good as free
            arithmetic = flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        self._add(Cost(1, read + written, arithmetic))
        return result


def _bytes(values: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def count(work: Callable[[], object], held: Iterable[Tensor], device: str = "meta") -> Cost:
    """The cost of ``work`` on one kind of device; ``held`` are tensors that are there before it and after."""
    return sum(count_phases(work, held, device).values(), Cost(0, 0, 0))


def count_phases(work: Callable[[], object], held: Iterable[Tensor], device: str = "meta") -> dict[str, Cost]:
    """The cost of ``work`` by its phases."""
    with _Counting(list(held), device) as counting:
        work()
    return dict(counting.costs)
