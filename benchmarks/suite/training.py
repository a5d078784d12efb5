"""One training step of CryoGAN on the demo's images."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from cryobench_cryogan.method import Params
from cryobench_cryogan.train import Trainer

from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate


class _Run:
    """A run without a deadline, as much of it as a step touches."""

    seed = 0
    device = torch.device("cpu")

    def remaining(self) -> float:
        return math.inf


STEPS = {
    "templates": {},
    "convolutions": {"preset": "convolutions"},
    "Wasserstein": {"preset": "convolutions", "loss": "wasserstein"},
}


class TrainingStep:
    """Discriminator and volume moved once, at the default batch and the data's box."""

    params = list(STEPS)
    param_names = ("kind",)
    timeout = 120

    def setup_cache(self) -> str:
        directory = tempfile.mkdtemp()
        simulate(adapt_scenario("snr-20", particles=512), Path(directory), jobs=1)
        return directory

    def setup(self, directory: str, kind: str) -> None:
        torch.set_num_threads(1)
        observed = Observed(open_store(Path(directory) / "observed.zarr", "observed"), 1)
        params = Params.model_validate({"coarsest": None, **STEPS[kind]})
        self.trainer = Trainer(observed, params, _Run())
        self.trainer.take_step()

    def time_step(self, directory: str, kind: str) -> None:
        self.trainer.take_step()
