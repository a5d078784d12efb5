"""Where the time of a training step goes, at one box: `python -m cryobench_cryogan.profile --box 64 -p batch=32`."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.machine import keep_freed_memory
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate
from cryobench_cryogan.__main__ import assignment
from cryobench_cryogan.launch import FollowerRun
from cryobench_cryogan.method import Params
from cryobench_cryogan.step import PHASES
from cryobench_cryogan.train import Trainer

PARTICLES = 512


def profile_steps(trainer: Trainer, steps: int) -> tuple[float, dict[str, float]]:
    """Seconds of a step undisturbed, and the fraction of a profiled step that each of :data:`PHASES` takes (``other``: the rest).

    On a GPU the fractions are of its own time, on the CPU of the process's.
    """
    device = trainer.run.device
    for _ in range(4):  # penalties come every few steps, compiled kernels at the first
        trainer.take_step()
    started = time.perf_counter()
    for step in range(steps):
        trainer.take_step(measure=step == steps - 1)
    seconds = (time.perf_counter() - started) / steps
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        started = time.perf_counter()
        for step in range(steps):
            trainer.take_step(measure=step == steps - 1)
        total = time.perf_counter() - started
    on_gpu = device.type == "cuda"
    spent = dict.fromkeys(PHASES, 0.0)
    for event in profiler.key_averages():
        if event.key in spent:
            spent[event.key] += 1e-6 * (event.device_time_total if on_gpu else event.cpu_time_total)
    fractions = {name: value / total for name, value in spent.items()}
    return seconds, {**fractions, "other": max(0.0, 1 - sum(fractions.values()))}


def main(arguments: list[str] | None = None) -> None:
    """Simulate a few hundred images, take some steps and print the table."""
    parser = argparse.ArgumentParser("cryobench_cryogan.profile", description=__doc__)
    parser.add_argument("--box", type=int, default=32, help="pixels of the images")
    parser.add_argument("--steps", type=int, default=20, help="to measure")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on the CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("-p", "--param", action="append", default=[], help="NAME=VALUE")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    params = Params.model_validate({"coarsest": None, **dict(map(assignment, given.param))})
    with tempfile.TemporaryDirectory() as directory:
        simulate(adapt_scenario("snr-20", particles=PARTICLES, box=given.box), Path(directory), jobs=1)
        observed = Observed(open_store(Path(directory) / "observed.zarr", "observed"), 1)
        trainer = Trainer(observed, params, FollowerRun(seed=0, device=torch.device(given.device)))
        seconds, fractions = profile_steps(trainer, given.steps)
    images = trainer.schedule.images_per_step / seconds
    print(f"{observed}, {given.device}: {1e3 * seconds:.1f} ms a step, {images:.0f} real images a second")
    for name, fraction in fractions.items():
        print(f"  {name:14} {100 * fraction:5.1f} %")


if __name__ == "__main__":
    main()
