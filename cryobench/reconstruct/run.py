"""Running a method: each half-set in turn, checked, timed and resumable, into ``predicted.zarr``."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from pydantic import BaseModel, ValidationError

from cryobench.conventions import HALVES
from cryobench.dataset.store import PREDICTED_FORMAT, digest, finish_store, open_store
from cryobench.dataset.view import Observed, Poses
from cryobench.errors import CryobenchError, Declined, InputError, PluginError, StoreError, UnknownName
from cryobench.machine import available_cores
from cryobench.physics.rotation import matrix_to_quaternion
from cryobench.reconstruct.contract import Reconstruction, Reconstructor
from cryobench.reconstruct.halves import run_in_turn, run_together
from cryobench.reconstruct.harness import Harness
from cryobench.reconstruct.provenance import describe, method_version
from cryobench.reconstruct.registry import load_method
from cryobench.scenario.spec import explain

Progress = Callable[[int, int, int, dict[str, float]], None]
"""Called with (half, step, total, scalars)."""


def parse_params(method: type[Reconstructor], params: Mapping[str, Any]) -> BaseModel:
    """The method's parameters, validated.

    Raises:
        UnknownName: if a parameter of that name does not exist.
        InputError: if a value does not fit.
    """
    known = method.Params.model_fields
    for name in params:
        if name not in known:
            raise UnknownName(f"parameter of method {method.name!r}", name, known)
    try:
        return method.Params.model_validate(dict(params))
    except ValidationError as error:
        raise InputError(f"method {method.name!r}: {explain(error)}") from error


def choose_device(method: type[Reconstructor], device: str | None) -> torch.device:
    """The device to compute on: the one named, else CUDA where it is and the method can use it.

    Raises:
        Declined: if the method needs a GPU, or a device that is not here was named.
    """
    has_gpu = torch.cuda.is_available()
    if device is None:
        device = "cuda" if has_gpu and method.needs.gpu != "none" else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"expected a device such as 'cpu', 'cuda' or 'cuda:1', got {device!r}") from error
    if chosen.type == "cuda" and not has_gpu:
        raise Declined(
            f"expected a CUDA device for --device {device}, found none; leave --device out to run on the CPU"
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise Declined(f"expected one of {torch.cuda.device_count()} CUDA devices, counted from 0, got {device}")
    if method.needs.gpu == "required" and chosen.type != "cuda":
        raise Declined(f"method {method.name!r} needs a CUDA device, and {device} was chosen or found")
    return chosen


def check_needs(method: type[Reconstructor]) -> None:
    """Decline where a program that the method drives is missing."""
    missing = [program for program in method.needs.programs if shutil.which(program) is None]
    if missing:
        raise Declined(f"method {method.name!r} needs {', '.join(missing)} on the search path; install it first")


def check_method(
    name: str, params: Mapping[str, Any] | None, device: str | None
) -> tuple[type[Reconstructor], BaseModel, torch.device]:
    """The method, its validated parameters and its device; everything that can be refused before any work is."""
    method = load_method(name)
    parsed = parse_params(method, params or {})
    check_needs(method)
    return method, parsed, choose_device(method, device)


def known_poses(directory: Path, dataset: xr.Dataset) -> Poses:
    """Poses for methods that need them: the true ones of a simulated set, else those an imported file came with."""
    truth = directory / "truth.zarr"
    if truth.exists():
        source = open_store(truth, "truth")
        names = ("rotation", "shift")
    elif "given_rotation" in dataset:
        source, names = dataset, ("given_rotation", "given_shift")
    else:
        raise Declined("this method needs poses; the dataset has neither a truth nor poses that it was imported with")
    rotation, shift = (torch.as_tensor(source[name].values) for name in names)
    return Poses(rotation, shift)


def _of_half(poses: Poses, dataset: xr.Dataset, half: int) -> Poses:
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
    overwrite: bool = False,
    workers: int | None = None,
    on_progress: Progress = lambda *_: None,
) -> Path:
    """Reconstruct both half-sets of ``directory/observed.zarr`` into ``directory/predicted.zarr``.

    A run that was stopped goes on where it was, from its finished half and its last checkpoint.

    Args:
        directory: of the run.
        method_name: a registered method.
        params: its parameters.
        seed: for the method's draws.
        device: ``"cpu"``, ``"cuda"``, ...; the best that is here if not given.
        budget: seconds for each half.
        overwrite: replace a result of another method, parameters or seed.
        workers: 2 runs the halves side by side, each in a process of its own, 1 in turn; 2 on a CPU of several cores if not
            given. The result does not depend on it.
        on_progress: called with (half, step, total, scalars).

    Returns:
        Path of the store.

    Raises:
        Declined: if the method's needs are not met.
        StoreError: if another result is there already.
    """
    method, parsed, chosen = check_method(method_name, params, device)
    dataset = open_store(directory / "observed.zarr", "observed")
    if method.needs.poses:
        known_poses(directory, dataset)
    identity: dict[str, Any] = {
        "method": method_name,
        "params": parsed.model_dump(mode="json"),
        "method_version": method_version(method_name),
        "seed": seed,
        "observed_digest": digest(dataset),
        "budget_seconds": None if math.isinf(budget) else budget,
    }
    path = directory / "predicted.zarr"
    if _is_finished(path, identity, overwrite):
        return path
    attributes = {
        "cryobench_store": PREDICTED_FORMAT,
        "complete": False,
        **identity,
        "device": str(chosen),
        "oracle_poses": method.needs.poses,
        "voxel_size": dataset.attrs["voxel_size"],
        "symmetry": dataset.attrs["symmetry"],
        "provenance": describe(method_name, chosen),
    }
    root = zarr.open_group(path, mode="a", zarr_format=3)
    root.attrs.update(attributes)
    left = [half for half in HALVES if not root.require_group(f"half{half}").attrs.get("complete")]
    work = _HalfWork(directory, method_name, params or {}, seed, str(chosen), budget)
    together = len(left) > 1 and (workers or default_workers(chosen)) > 1
    if left and "side_by_side" not in root.attrs:
        root.attrs["side_by_side"] = together
    (run_together if together else run_in_turn)(work, left, on_progress)
    finish_store(root)
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
    return path


def default_workers(device: torch.device) -> int:
    """Halves to run at once: two where each can have a core; one GPU is kept busy by one half."""
    return 2 if device.type == "cpu" and available_cores() > 1 else 1


@dataclass(frozen=True)
class _HalfWork:
    """The work on one half, opened from disk where it is done."""

    directory: Path
    method_name: str
    params: Mapping[str, Any]
    seed: int
    device: str
    budget: float

    def __call__(self, half: int, on_progress: Callable[[int, int, dict[str, float]], None]) -> None:
        method = load_method(self.method_name)
        dataset = open_store(self.directory / "observed.zarr", "observed")
        poses = known_poses(self.directory, dataset) if method.needs.poses else None
        group = zarr.open_group(self.directory / "predicted.zarr" / f"half{half}", mode="r+")
        harness = Harness(
            group,
            self.directory / "checkpoints" / f"half{half}.pt",
            method_seed(self.seed, half),
            torch.device(self.device),
            self.budget,
            on_progress,
        )
        observed = Observed(dataset, half, None if poses is None else _of_half(poses, dataset, half))
        _run_half(method(), observed, parse_params(method, self.params), harness, group)


def _is_finished(path: Path, identity: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether this very result is there already; clears the way for it where it may."""
    if not path.exists():
        shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)  # of a result that was since removed
        return False
    attrs = dict(zarr.open_group(path, mode="r").attrs) if (path / "zarr.json").is_file() else {}
    if all(attrs.get(name) == value for name, value in identity.items()) and not (overwrite and attrs.get("complete")):
        return bool(attrs.get("complete"))
    begun = (path / "zarr.json").is_file() and not attrs  # stopped before it was labelled: nothing to lose
    if not overwrite and not begun:
        raise StoreError(
            f"{path} holds a result of method {attrs.get('method')!r} with other parameters, seed, budget or data; "
            "choose another directory with --out, or pass --overwrite to replace it"
        )
    shutil.rmtree(path)
    shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)
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
    _check_result(result, observed, method.name)
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


def _check_result(result: Reconstruction, observed: Observed, name: str) -> None:
    if not isinstance(result, Reconstruction):
        raise PluginError(f"expected method {name!r} to return a Reconstruction, got {type(result).__name__}")
    box, particles = observed.box, len(observed)
    shapes: dict[str, tuple[int | None, ...]] = {
        "volume": (box, box, box),
        "example_images": (None, box, box),
        "rotations": (particles, 3, 3),
        "shifts": (particles, 2),
    }
    for part, shape in shapes.items():
        values: torch.Tensor | None = getattr(result, part)
        if values is None and part != "volume":
            continue
        if values is None or not _fits(tuple(values.shape), shape) or not bool(torch.isfinite(values).all()):
            got = "None" if values is None else f"shape {tuple(values.shape)}"
            flawed = values is not None and not bool(torch.isfinite(values).all())
            raise PluginError(
                f"expected method {name!r} to return finite {part} of shape {str(shape).replace('None', 'any')}, got {got}"
                + (" with NaN or infinity" if flawed else "")
            )


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(e in (None, n) for n, e in zip(shape, expected, strict=True))


def _write(group: zarr.Group, name: str, values: torch.Tensor, dims: tuple[str, ...]) -> None:
    data = values.detach().to("cpu", torch.float32).numpy()
    if name in group:
        del group[name]
    group.create_array(name, shape=data.shape, dtype="float32", chunks=data.shape, dimension_names=dims)[...] = data
