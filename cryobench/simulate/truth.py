"""``truth.zarr``: the specimen, every pose and shift, and the noise scale that gives the scenario's SNR."""

from __future__ import annotations

import hashlib
import json
import math
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import torch

from cryobench.dataset.create import build_store
from cryobench.dataset.store import finish_store, open_store, put, shards
from cryobench.scenario.imager import CPU, Imager, Progress
from cryobench.scenario.noise import NoiseSource
from cryobench.scenario.power import measure_noise, measure_signal
from cryobench.scenario.spec import Scenario
from cryobench.simulate.inputs import input_digests
from cryobench.specimens.catalogue import find
from cryobench.specimens.ensemble import states_of


def prepare_imager(scenario: Scenario, seed: int, device: torch.device = CPU) -> Imager:
    """An imager of the scenario's specimen, its density made anew."""
    spec = scenario.image
    states = states_of(find(scenario.specimen))
    volumes = [state.density(spec.native_box, spec.native_pixel_size) for state, _ in states]
    return Imager.prepare(scenario, seed, volumes, [weight for _, weight in states], device)


def imager_of_truth(path: Path, device: torch.device = CPU) -> Imager:
    """An imager of the specimen and scenario that a truth holds: the same on every machine that reads it."""
    truth = open_store(path, "truth")
    volumes = truth["state_volume"].values if "state_volume" in truth else truth["volume"].values[None]
    scenario = Scenario.model_validate(truth.attrs["scenario"])
    return Imager.prepare(
        scenario, int(truth.attrs["seed"]), list(torch.as_tensor(volumes)), truth.attrs["state_weights"], device
    )


def write_truth(path: Path, imager: Imager, source: NoiseSource, pool: Executor, on_progress: Progress) -> None:
    """Measure signal and noise, and write the truth in the place of whatever is there, all at once."""
    scenario, spec, count = imager.scenario, imager.scenario.image, imager.scenario.particles
    snr, specimen = scenario.noise.snr_db, find(scenario.specimen)
    signal = measure_signal(imager, pool, on_progress)
    noise_variance = 0.0 if snr == math.inf else signal.native / 10 ** (snr / 10)
    noise = measure_noise(source, imager, pool, on_progress) if noise_variance else None
    working_noise = noise_variance * noise.working / noise.native if noise else 0.0
    fingerprint = scenario.model_dump(mode="json")
    volume = sum(w * v for w, v in zip(imager.weights, imager.volumes, strict=True))
    assert isinstance(volume, torch.Tensor)
    shapes = {"volume": tuple(volume.shape), "rotation": (count, 4), "shift": (count, 2)}
    if len(imager.volumes) > 1:
        shapes |= {"state": (count,), "state_volume": (len(imager.volumes), *volume.shape)}
    with build_store(
        path,
        "truth",
        shapes,
        {
            "voxel_size": spec.native_pixel_size,
            "native_pixel_size": spec.native_pixel_size,
            "native_box": spec.native_box,
            "working_box": spec.box,
            "noise_scale": math.sqrt(noise_variance / noise.native) if noise else 0.0,
            "noise_variance": noise_variance,
            "clean_signal_variance": signal.native,
            "working_signal_variance": signal.working,
            "working_noise_variance": working_noise,
            "snr_db": None if snr == math.inf else snr,
            "working_snr_db": 10 * math.log10(signal.working / working_noise) if noise else None,
            "snr_sample": signal.sample,
            "snr_standard_error_db": 10 / math.log(10) * math.hypot(signal.error, noise.error if noise else 0.0),
            "specimen": scenario.specimen,
            "symmetry": specimen.symmetry,
            "state_weights": list(imager.weights),
            "scenario": fingerprint,
            "inputs": input_digests(scenario),
            "seed": imager.seed,
            "salt": hashlib.sha256(json.dumps([fingerprint, imager.seed], sort_keys=True).encode()).hexdigest(),
        },
    ) as group:
        put(group, "volume", volume.numpy())
        for start, stop in shards(count):
            draws = imager.draws(start, stop)
            put(group, "rotation", draws.quaternions.numpy(), start)
            put(group, "shift", draws.shifts.numpy(), start)
            if "state" in shapes:
                put(group, "state", imager.states(start, stop), start)
        if "state_volume" in shapes:
            put(group, "state_volume", np.stack([volume.numpy() for volume in imager.volumes]))
        finish_store(group)
