"""Draws and stores: what simulating a dataset costs beside its physics."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.scenario.draw import draw_particles
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.micrographs import draw_micrographs
from cryobench.scenario.noise import noise_sources
from cryobench.simulate import simulate

SCENARIO = "snr-20-shift3"


class Draws:
    """1,000 particles of a scenario."""

    def setup(self) -> None:
        torch.set_num_threads(1)
        self.scenario = adapt_scenario(SCENARIO)
        self.table = draw_micrographs(self.scenario.ctf, 0)
        sources, _ = noise_sources(self.scenario)
        self.noise = sources["noise"]

    def time_poses_shifts_micrographs(self) -> None:
        draw_particles(self.scenario, 0, 0, 1000, self.table)

    def time_native_noise_of_64(self) -> None:
        self.noise.draw(0, "noise", 0, 64)


class Stores:
    """A dataset of 2,048 images at box 32, simulated on one thread, written and read."""

    timeout = 120

    def setup(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.scenario = adapt_scenario(SCENARIO, particles=2048)
        simulate(self.scenario, self.directory / "whole", jobs=1)
        self.count = 0

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    def time_simulate(self) -> None:
        self.count += 1
        simulate(self.scenario, self.directory / str(self.count), jobs=1)

    def time_read_half(self) -> None:
        Observed(open_store(self.directory / "whole" / "observed.zarr", "observed"), 1).read(slice(None))
