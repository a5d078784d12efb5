"""Draws and stores: what simulating a dataset costs beside its physics."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
import zarr

from cryobench.dataset.check import check_dataset
from cryobench.dataset.create import create_store
from cryobench.dataset.shard import ShardBuffer
from cryobench.dataset.store import digest, open_store, put
from cryobench.dataset.view import Observed
from cryobench.physics.ctf import ContrastTransfer
from cryobench.scenario.draw import draw_particles, draw_states
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.micrographs import draw_micrographs
from cryobench.scenario.noise import noise_sources
from cryobench.simulate import simulate

SCENARIO = "snr-20-shift3"
SHARD = 2048


class Draws:
    """6,400 particles of a scenario, in the blocks of 64 that images are computed in."""

    def setup(self) -> None:
        torch.set_num_threads(1)
        self.scenario = adapt_scenario(SCENARIO)
        self.table = draw_micrographs(self.scenario.ctf, 0)
        sources, _ = noise_sources(self.scenario)
        self.noise = sources["noise"]

    def time_poses_shifts_micrographs(self) -> None:
        for start in range(0, 6400, 64):
            draw_particles(self.scenario, 0, start, start + 64, self.table)

    def time_states(self) -> None:
        draw_states((0.5, 0.3, 0.2), 0, 0, 6400)

    def time_native_noise_of_64(self) -> None:
        self.noise.draw(0, "noise", 0, 64)

    def time_working_noise_of_64(self) -> None:
        self.noise.draw(0, "noise", 0, 64, 32)


class Simulate:
    """2,048 images, native and working box alike, on one thread, writing included."""

    params = ([32, 64, 128], [float("inf"), -20.0], ["float32", "float16"])
    param_names = ("box", "snr", "dtype")
    timeout = 300

    def setup(self, box: int, snr: float, dtype: str) -> None:
        self.directory = Path(tempfile.mkdtemp())
        settings = [f"image.native_box={box}", f"image.native_pixel_size={234 / box}", f"image.dtype={dtype}"]
        self.scenario = adapt_scenario(SCENARIO, particles=SHARD, box=box, snr_db=snr, settings=settings)
        self.count = 0

    def teardown(self, box: int, snr: float, dtype: str) -> None:
        shutil.rmtree(self.directory)

    def time_simulate(self, box: int, snr: float, dtype: str) -> None:
        self.count += 1
        simulate(self.scenario, self.directory / str(self.count), jobs=1)


class Write:
    """One shard of images: through zarr, and assembled in place."""

    params = [32, 64, 128]
    param_names = ("box",)

    def setup(self, box: int) -> None:
        self.directory = Path(tempfile.mkdtemp())
        shapes = {
            "images": (SHARD, box, box),
            "micrograph": (SHARD,),
            "half": (SHARD,),
            "noise_patches": (4, box, box),
            "patch_half": (4,),
            "patch_micrograph": (4,),
            "noise_power": (2, box // 2 + 1),
            **dict.fromkeys(ContrastTransfer.names(), (SHARD,)),
        }
        stated = ("voxel_size", "symmetry", "assumed_pose", "assumed_shift", "contrast", "noise_note")
        self.group = create_store(self.directory / "observed.zarr", "observed", shapes, dict.fromkeys(stated, 1))
        self.images = np.random.default_rng(0).standard_normal((SHARD, box, box), dtype=np.float32)
        array = self.group["images"]
        assert isinstance(array, zarr.Array)
        self.buffer = ShardBuffer(array)

    def teardown(self, box: int) -> None:
        shutil.rmtree(self.directory)

    def time_put(self, box: int) -> None:
        put(self.group, "images", self.images)

    def time_shard(self, box: int) -> None:
        for first in range(0, SHARD, 64):
            self.buffer.rows(first, first + 64)[...] = self.images[first : first + 64]
        self.buffer.write(0, SHARD)


class Read:
    """A dataset of 2,048 images at box 64: a half-set in order, batches at random, every chunk checked, the digest."""

    timeout = 120

    def setup_cache(self) -> str:
        directory = tempfile.mkdtemp()
        simulate(adapt_scenario(SCENARIO, particles=SHARD, box=64), Path(directory), jobs=1)
        return directory

    def setup(self, directory: str) -> None:
        self.dataset = open_store(Path(directory) / "observed.zarr", "observed")
        self.half = Observed(self.dataset, 1)
        self.chosen = np.sort(np.random.default_rng(0).choice(len(self.half), 64, replace=False))

    def time_read_half(self, directory: str) -> None:
        self.half.read(slice(None))

    def time_read_64_at_random(self, directory: str) -> None:
        self.half.read(self.chosen)

    def time_check(self, directory: str) -> None:
        check_dataset(Path(directory))

    def time_digest(self, directory: str) -> None:
        digest(self.dataset)
