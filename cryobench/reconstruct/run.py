"""Running a method: each half-set in turn, checked, timed and resumable, into ``predicted.zarr``."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
import zarr
from pydantic import BaseModel

from cryobench.conventions import HALVES, WHOLE
from cryobench.dataset.store import PREDICTED_FORMAT, attributes_digest, digest, finish_store, open_store
from cryobench.dataset.view import Observed, Poses
from cryobench.errors import CryobenchError, Declined, PluginError, StoreError
from cryobench.machine import available_cores
from cryobench.physics.rotation import matrix_to_quaternion
from cryobench.reconstruct.checks import check_method, check_result, parse_params
from cryobench.reconstruct.contract import Reconstructor
from cryobench.reconstruct.halves import run_in_turn, run_together
from cryobench.reconstruct.harness import Harness
from cryobench.reconstruct.provenance import describe, method_version
from cryobench.reconstruct.registry import load_method

Progress = Callable[[int, int, int, dict[str, float]], None]
"""Called with (half, step, total, scalars)."""


def known_poses(directory: Path, dataset: xr.Dataset) -> tuple[Poses, Literal["true", "imported"]]:
    """Poses for methods that need them, and whose they are.

    Those of a simulated set are the true ones; else they are those that an imported file came with, which some program estimated.

    Raises:
        Declined: if there are neither.
    """
    truth = directory / "truth.zarr"
    if truth.exists():
        return _read_poses(open_store(truth, "truth"), "rotation", "shift"), "true"
    if "given_rotation" in dataset:
        return _read_poses(dataset, "given_rotation", "given_shift"), "imported"
    raise Declined("this method needs poses; the dataset has neither a truth nor poses that it was imported with")


def _read_poses(source: xr.Dataset, rotation: str, shift: str) -> Poses:
    return Poses(torch.as_tensor(source[rotation].values), torch.as_tensor(source[shift].values))


def _of_half(poses: Poses, dataset: xr.Dataset, half: int) -> Poses:
    if half == WHOLE:
        return poses
    chosen = torch.as_tensor(np.flatnonzero(dataset["half"].values == half))
    return Poses(poses.quaternions[chosen], poses.shifts[chosen])


def method_seed(seed: int, half: int) -> int:
    """Seed of a method's own draws, unrelated to the streams that made the data."""
    return int.from_bytes(hashlib.sha256(f"method {seed} half {half}".encode()).digest()[:7], "big")


def reconstruct(
    directory: Path,
    method_name: str,
    params: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    device: str | None = None,
    budget: float = math.inf,
    overwrite: bool | Literal["other"] = False,
    workers: int | None = None,
    store: str = "predicted.zarr",
    halves: tuple[int, ...] = HALVES,
    on_progress: Progress = lambda *_: None,
) -> Path:
    """Reconstruct both half-sets of ``directory/observed.zarr`` into ``directory/predicted.zarr``, or another store beside it.

    A run that was stopped goes on where it was, from its finished half and its last checkpoint.

    Args:
        directory: of the run.
        method_name: a registered method.
        params: its parameters.
        seed: for the method's draws.
        device: ``"cpu"``, ``"cuda"``, ...; the best that is here if not given.
        budget: seconds for each half.
        overwrite: replace what is there; ``"other"`` replaces a result of another method, parameters, seed or data, and keeps
            this very one.
        workers: 2 runs the halves side by side, each in a process of its own, 1 in turn; 2 where there are
            several cores, or GPUs, if not given. The result does not depend on it.
        store: name of the store that is written.
        halves: what to reconstruct; ``(WHOLE,)`` for all particles as one set.
        on_progress: called with (half, step, total, scalars).

    Returns:
        Path of the store.

    Raises:
        Declined: if the method's needs are not met.
        StoreError: if another result is there already.
    """
    method, parsed, chosen = check_method(method_name, params, device)
    dataset = open_store(directory / "observed.zarr", "observed")
    given_poses = known_poses(directory, dataset)[1] if method.needs.poses else None
    identity: dict[str, Any] = {
        "method": method_name,
        "params": parsed.model_dump(mode="json"),
        "method_version": method_version(method_name),
        "seed": seed,
        "observed_digest": digest(dataset),
        "observed_attributes": attributes_digest(dataset.attrs),
        "budget_seconds": None if math.isinf(budget) else budget,
    }
    path = directory / store
    if _is_finished(path, identity, overwrite):
        return path
    attributes = {
        "cryobench_store": PREDICTED_FORMAT,
        "complete": False,
        **identity,
        "device": str(chosen),
        "oracle_poses": given_poses == "true",
        "given_poses": given_poses,
        "voxel_size": dataset.attrs["voxel_size"],
        "symmetry": dataset.attrs["symmetry"],
        "provenance": describe(method_name, chosen),
    }
    root = zarr.open_group(path, mode="a", zarr_format=3)
    root.attrs.update(attributes)
    left = [half for half in halves if not root.require_group(f"half{half}").attrs.get("complete")]
    together = len(left) > 1 and (workers or default_workers(chosen)) > 1
    devices = {half: str(device_of(half, chosen, together)) for half in left}
    work = _HalfWork(directory, store, method_name, params or {}, seed, devices, budget)
    if left and "side_by_side" not in root.attrs:
        root.attrs["side_by_side"] = together
    (run_together if together else run_in_turn)(work, left, on_progress)
    finish_store(root)
    shutil.rmtree(_checkpoints(path), ignore_errors=True)
    return path


def default_workers(device: torch.device) -> int:
    """Halves to run at once: two where each can have a core or, if no GPU was named, a GPU; one is kept busy by one half."""
    if device.type == "cpu":
        return 2 if available_cores() > 1 else 1
    return 2 if device.index is None and torch.cuda.device_count() > 1 else 1


def device_of(half: int, device: torch.device, together: bool) -> torch.device:
    """Where one half is computed: on a GPU of its own where the halves run side by side and no GPU was named."""
    shared = device.type != "cuda" or device.index is not None or not together
    return device if shared else torch.device("cuda", (half - 1) % torch.cuda.device_count())


@dataclass(frozen=True)
class _HalfWork:
    """The work on one half, opened from disk where it is done."""

    directory: Path
    store: str
    method_name: str
    params: Mapping[str, Any]
    seed: int
    devices: Mapping[int, str]
    budget: float

    def __call__(self, half: int, on_progress: Callable[[int, int, dict[str, float]], None]) -> None:
        method = load_method(self.method_name)
        dataset = open_store(self.directory / "observed.zarr", "observed")
        poses = known_poses(self.directory, dataset)[0] if method.needs.poses else None
        group = zarr.open_group(self.directory / self.store / f"half{half}", mode="r+")
        harness = Harness(
            group,
            _checkpoints(self.directory / self.store) / f"half{half}.pt",
            method_seed(self.seed, half),
            torch.device(self.devices[half]),
            self.budget,
            on_progress,
        )
        observed = Observed(dataset, half, None if poses is None else _of_half(poses, dataset, half))
        _run_half(method(), observed, parse_params(method, self.params), harness, group)


def _checkpoints(path: Path) -> Path:
    """Where a method keeps its state while ``path`` is made."""
    return path.with_suffix(".checkpoints")


def _is_finished(path: Path, identity: Mapping[str, Any], overwrite: bool | Literal["other"]) -> bool:
    """Whether this very result is there already; clears the way for it where it may."""
    if not path.exists():
        shutil.rmtree(_checkpoints(path), ignore_errors=True)  # of a result that was since removed
        return False
    if not path.is_dir():
        raise StoreError(f"expected a store at {path}, or nothing, found a file; move it away")
    attrs = dict(zarr.open_group(path, mode="r").attrs) if (path / "zarr.json").is_file() else {}
    is_this = all(attrs.get(name) == value for name, value in identity.items())
    if is_this and not (overwrite is True and attrs.get("complete")):
        return bool(attrs.get("complete"))
    begun = (path / "zarr.json").is_file() and not attrs  # stopped before it was labelled: nothing to lose
    if not overwrite and not begun:
        raise StoreError(
            f"{path} holds a result of method {attrs.get('method')!r} with other parameters, seed, budget, data or version; "
            "choose another directory with --out, or pass --overwrite to replace it"
        )
    shutil.rmtree(path)
    shutil.rmtree(_checkpoints(path), ignore_errors=True)
    return False


def _run_half(
    method: Reconstructor, observed: Observed, params: BaseModel, harness: Harness, group: zarr.Group
) -> None:
    if harness.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(harness.device)
    with harness.memory:
        try:
            result = method.reconstruct(observed, params, harness)
        except (CryobenchError, KeyboardInterrupt):
            harness.write_history()
            raise
        except Exception as error:
            harness.write_history()
            raise PluginError(f"method {method.name!r} failed: {type(error).__name__}: {error}") from error
    seconds = harness.elapsed()
    check_result(result, observed, method.name)
    harness.write_history()
    _write(group, "volume", result.volume, ("z", "y", "x"))
    if result.example_images is not None:
        _write(group, "example_images", result.example_images, ("example", "y", "x"))
    if result.rotations is not None:
        _write(group, "rotation", matrix_to_quaternion(result.rotations), ("particle", "quaternion"))
    if result.shifts is not None:
        _write(group, "shift", result.shifts, ("particle", "xy"))
    on_gpu = harness.device.type == "cuda"
    group.attrs.update(
        {
            "wall_seconds": seconds,
            "cpu_seconds": harness.cpu_seconds(),
            "gpu_seconds": seconds if on_gpu else None,
            "peak_memory_bytes": harness.peak_memory(),
            "steps": harness.steps,
            "notes": list(result.notes),
            "complete": True,
        }
    )


def _write(group: zarr.Group, name: str, values: torch.Tensor, dims: tuple[str, ...]) -> None:
    data = values.detach().to("cpu", torch.float32).numpy()
    if name in group:
        del group[name]
    group.create_array(name, shape=data.shape, dtype="float32", chunks=data.shape, dimension_names=dims)[...] = data
