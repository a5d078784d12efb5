"""A scenario becomes ``observed.zarr`` and ``truth.zarr``: shard by shard, resumable, the same bytes for any worker count."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryobench.dataset.store import (
    build_store,
    digest,
    finish_store,
    has_shard,
    open_store,
    open_unfinished,
    put,
    shards,
)
from cryobench.errors import StoreError
from cryobench.machine import available_cores, torch_threads
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.noise import radial_power
from cryobench.scenario.draw import draw_particles
from cryobench.scenario.imager import Imager, Progress, blocks, measure_signal
from cryobench.scenario.noise import NoiseSource, noise_sources
from cryobench.scenario.spec import Scenario
from cryobench.specimens.catalogue import find


@contextmanager
def _one_thread_each(jobs: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool of workers of one torch thread each, and this thread alike."""
    with (
        torch_threads(1),
        ThreadPoolExecutor(jobs or available_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        yield pool


def simulate(
    scenario: Scenario,
    directory: Path,
    *,
    seed: int = 0,
    jobs: int | None = None,
    on_progress: Progress = lambda *_: None,
) -> tuple[Path, Path]:
    """Simulate a dataset into ``directory``, or complete one that was begun there.

    Args:
        scenario: what to simulate.
        directory: gets ``observed.zarr`` and ``truth.zarr``.
        seed: of every draw.
        jobs: worker threads; all cores if not given. The bytes written do not depend on it.
        on_progress: called with (stage, done, total).

    Returns:
        Paths of the two stores.

    Raises:
        StoreError: if the directory holds stores of another scenario or seed.
    """
    observed_path, truth_path = directory / "observed.zarr", directory / "truth.zarr"
    fingerprint = scenario.model_dump(mode="json")
    with _one_thread_each(jobs) as pool:
        if truth_path.exists():
            truth = open_unfinished(truth_path, "truth")
            if truth.attrs["scenario"] != fingerprint or truth.attrs["seed"] != seed:
                there = {"seed": truth.attrs["seed"], **_flatten(truth.attrs["scenario"])}
                asked = {"seed": seed, **_flatten(fingerprint)}
                differing = [
                    f"{k}: {there.get(k)!r} there, {asked.get(k)!r} asked" for k in asked if there.get(k) != asked[k]
                ]
                raise StoreError(
                    f"{directory} holds a dataset of another scenario or seed ({'; '.join(differing)}); "
                    "choose another directory with --out, or remove it"
                )
            if (
                truth.attrs["complete"]
                and observed_path.exists()
                and open_unfinished(observed_path, "observed").attrs["complete"]
            ):
                return observed_path, truth_path
        volume = find(scenario.specimen).density(scenario.image.native_box, scenario.image.native_pixel_size)
        imager = Imager.prepare(scenario, seed, volume)
        sources, note = noise_sources(scenario)
        if not truth_path.exists():
            if observed_path.exists():
                raise StoreError(
                    f"{observed_path} has no truth beside it, so it is not this scenario's; choose another directory"
                )
            _write_truth(truth_path, imager, volume, sources["pool-1"], pool, on_progress)
        truth_set = open_store(truth_path, "truth")
        scale = float(truth_set.attrs["noise_scale"])
        truth_digest = digest(truth_set, salt=str(truth_set.attrs["salt"]))
        if not observed_path.exists():
            _create_observed(observed_path, imager, sources, scale, note, truth_digest, pool)
        if open_unfinished(observed_path, "observed").attrs.get("truth_digest") != truth_digest:
            raise StoreError(
                f"{observed_path} was not made from the truth beside it; choose another directory with --out"
            )
        _fill_observed(observed_path, imager, sources["noise"], scale, pool, on_progress)
    return observed_path, truth_path


def _flatten(table: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _write_truth(
    path: Path, imager: Imager, volume: Tensor, source: NoiseSource, pool: ThreadPoolExecutor, on_progress: Progress
) -> None:
    scenario, seed = imager.scenario, imager.seed
    spec, count = scenario.image, scenario.particles
    native_variance, working_variance = measure_signal(imager, pool, on_progress)
    snr = scenario.noise.snr_db
    noise_variance = 0.0 if snr == math.inf else native_variance / 10 ** (snr / 10)
    # how much of the noise the Fourier crop keeps, measured on the method's patches (variance one at the native pixel)
    sample = torch.cat([_noise(source, imager, "pool-1", block) for block in blocks(0, scenario.noise.pool)])
    working_noise = noise_variance * float(sample.double().var())
    working_snr = 10 * math.log10(working_variance / working_noise) if noise_variance else None
    specimen = find(scenario.specimen)
    fingerprint = scenario.model_dump(mode="json")
    salt = hashlib.sha256(json.dumps([fingerprint, seed], sort_keys=True).encode()).hexdigest()
    draws = draw_particles(scenario, seed, 0, count, imager.table)
    shapes = {"volume": tuple(volume.shape), "rotation": (count, 4), "shift": (count, 2)}
    with build_store(
        path,
        "truth",
        shapes,
        {
            "voxel_size": spec.native_pixel_size,
            "native_pixel_size": spec.native_pixel_size,
            "native_box": spec.native_box,
            "working_box": spec.box,
            "noise_scale": math.sqrt(noise_variance),
            "noise_variance": noise_variance,
            "clean_signal_variance": native_variance,
            "working_signal_variance": working_variance,
            "snr_db": None if snr == math.inf else snr,
            "working_snr_db": working_snr,
            "specimen": scenario.specimen,
            "symmetry": specimen.symmetry,
            "scenario": fingerprint,
            "seed": seed,
            "salt": salt,
        },
    ) as group:
        put(group, "volume", volume.numpy())
        put(group, "rotation", draws.quaternions.numpy())
        put(group, "shift", draws.shifts.numpy())
        finish_store(group)


def _noise(source: NoiseSource, imager: Imager, factor: str, block: tuple[int, int]) -> Tensor:
    return fourier_crop_images(source.draw(imager.seed, factor, *block), imager.scenario.image.box)


def _create_observed(
    path: Path,
    imager: Imager,
    sources: dict[str, NoiseSource],
    scale: float,
    note: str,
    truth_digest: str,
    pool: ThreadPoolExecutor,
) -> None:
    scenario, spec = imager.scenario, imager.scenario.image
    count, patches, box = scenario.particles, scenario.noise.pool, spec.box
    draws = draw_particles(scenario, imager.seed, 0, count, imager.table)
    shapes: dict[str, tuple[int, ...]] = {
        "images": (count, box, box),
        "micrograph": (count,),
        "half": (count,),
        "noise_patches": (2 * patches, box, box),
        "patch_half": (2 * patches,),
        "patch_micrograph": (2 * patches,),
        "noise_power": (2, box // 2 + 1),
        **dict.fromkeys(ContrastTransfer.names(), (count,)),
    }
    with build_store(
        path,
        "observed",
        shapes,
        {
            "voxel_size": spec.voxel_size,
            "symmetry": scenario.assume.symmetry or find(scenario.specimen).symmetry,
            "assumed_pose": scenario.assumed_pose(),
            "assumed_shift": scenario.assumed_shift(),
            "contrast": "protein bright",
            "noise_note": note,
            "truth_digest": truth_digest,
        },
    ) as group:
        for number, factor in enumerate(("pool-1", "pool-2")):
            made = pool.map(lambda block, f=factor: scale * _noise(sources[f], imager, f, block), blocks(0, patches))
            pool_patches = torch.cat(list(made))
            put(group, "noise_patches", pool_patches.numpy(), number * patches)
            put(group, "noise_power", radial_power(pool_patches).numpy()[None], number)
        put(group, "patch_half", np.repeat([1, 2], patches).astype(np.int8))
        put(group, "patch_micrograph", np.full(2 * patches, -1, np.int32))
        put(group, "micrograph", draws.micrographs)
        put(group, "half", (1 + np.arange(count) % 2).astype(np.int8))
        for name in ContrastTransfer.names():
            put(group, name, getattr(draws.ctf, name).numpy())


def _fill_observed(
    path: Path, imager: Imager, source: NoiseSource, scale: float, pool: ThreadPoolExecutor, on_progress: Progress
) -> None:
    group = open_unfinished(path, "observed")
    count = imager.scenario.particles

    def image(block: tuple[int, int]) -> Tensor:
        return imager.clean(*block) + scale * _noise(source, imager, "noise", block)

    for start, stop in shards(count):
        if not has_shard(path, start):
            images = []
            for part in pool.map(image, blocks(start, stop)):
                images.append(part)
                on_progress("simulate", start + sum(map(len, images)), count)
            put(group, "images", torch.cat(images).numpy(), start)
    finish_store(group)
