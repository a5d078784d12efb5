"""The headline cell on one GPU: 5A1A at -20 dB, native box, 41,000 images, both halves, in calls of under nine minutes each.

    until python benchmarks/gpu/headline.py --out runs/headline; do [ $? -eq 75 ] || break; done

A call ends with status 75 where there is more to do; the same command then goes on: a begun dataset from its whole parts, a
half from its last checkpoint. The last call evaluates and writes result.json and report.html, and prints the figures beside the
published ones. The dataset is simulated on the device; no network is needed where CRYOBENCH_DATA holds the atomic model.

`fast` and `convolutions` fill `--minutes`, which their boxes and learning rates follow. The study's presets go by epochs, not
by the clock: they take all their steps unless `--minutes` is given, and what that cut short is said beside the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from cryobench_cryogan.method import Params
from cryobench_cryogan.schedule import Schedule

from cryobench import pipeline
from cryobench.conventions import HALVES
from cryobench.pipeline import Method
from cryobench.report.reading import find_objection
from cryobench.report.table import format_found
from cryobench.scenario.spec import Scenario
from cryobench.simulate import simulate
from cryobench.suite.resolve import scenario_of
from cryobench.suite.spec import Row, Size, load_suite

SUITE, ROW = "betagal-imaging", "-20 dB, no shifts"
MORE_TO_DO = 75
MINUTES = 10.0
"""Of each half, where training goes by the clock."""
STEPS_A_SECOND = 1000
"""More than eager PyTorch can launch, so that never the steps end a training that goes by the clock."""
EVALUATION = 240.0
"""Seconds that a call must have left to begin evaluating."""


class CallOverError(BaseException):
    """The time of this call is over. No error of the method's, which may not swallow it."""


@dataclass
class Call:
    """The clock of one call."""

    budget: float
    began: float
    shown: float = -math.inf

    def left(self) -> float:
        return self.budget - (time.monotonic() - self.began)

    def listen(self, stage: str, step: int, total: int, scalars: Any) -> None:
        """Show where the work is, now and then, and end the call in time."""
        if self.left() <= 0:
            raise CallOverError(f"{stage}, {step:,} of {total:,}")
        now = time.monotonic()
        if now - self.shown > 10:
            self.shown = now
            told = ", ".join(f"{name} {value:.3g}" for name, value in scalars.items())
            print(f"{now - self.began:5.0f} s  {stage}: {step:,} of {total:,}  {told}", flush=True)


def choose_cell(tiny: bool) -> tuple[Scenario, Row]:
    """The scenario of the suite's cell at its paper size."""
    suite = load_suite(SUITE)
    row = next(row for row in suite.rows if row.label == ROW)
    if not tiny:
        return scenario_of(row, suite.size("paper"), suite.specimens[0].name), row
    settings = {"image.native_box": 32, "image.native_pixel_size": 7.3, "noise.pool": 16}
    small = row.model_copy(update={"settings": settings})
    return scenario_of(small, Size(box=32, particles=64), "phantom"), row


def choose_training(preset: str, given: dict[str, Any], minutes: float | None) -> tuple[dict[str, Any], float]:
    """Parameters of the method and the budget of each half in seconds: infinite where training goes by epochs."""
    params = {"preset": preset, **given}
    if Params.model_validate(params).epoch_decay is not None:
        return params, math.inf if minutes is None else 60 * minutes
    budget = 60 * (MINUTES if minutes is None else minutes)
    by_the_clock = {} if given.keys() & {"steps", "epochs"} else {"steps": max(1, round(STEPS_A_SECOND * budget))}
    return {**params, **by_the_clock}, budget


def run(options: argparse.Namespace, call: Call) -> None:
    """All stages; what is done already is not done again."""
    scenario, row = choose_cell(options.tiny)
    directory: Path = options.out
    directory.mkdir(parents=True, exist_ok=True)
    params, budget = choose_training(options.preset, json.loads(options.params), options.minutes)
    schedule = Schedule(Params.model_validate(params), scenario.particles // 2, scenario.image.box)
    until = "however long they take" if math.isinf(budget) else f"or {budget / 60:g} min"
    print(f"Each half: {schedule.steps:,} steps, {until}.", flush=True)
    method = Method("cryogan", params, options.device, budget, workers=1)
    simulate(
        scenario,
        directory,
        seed=options.seed,
        device=options.device,
        on_progress=lambda stage, done, total: call.listen(stage, done, total, {}),
    )
    pipeline.solve(directory, method, seed=options.seed, listener=call.listen)
    if call.left() < min(EVALUATION, call.budget / 2):
        raise CallOverError("evaluation")
    # with the true poses, too: the yardstick beside the result
    pipeline.prepare(scenario, directory, seed=options.seed, workers=1, listener=call.listen)
    result = pipeline.judge(directory)
    for half in HALVES:
        group: Any = zarr.open_group(directory / "predicted.zarr" / f"half{half}", mode="r")
        print(tell_steps(half, int(group.attrs["steps"]), schedule))
    print(tell(result, row))


def tell_steps(half: int, taken: int, schedule: Schedule) -> str:
    """How many steps a half took; and, where its learning rates did not follow the budget, that it did not end by itself."""
    short = schedule.params.epoch_decay is not None and taken < schedule.steps
    left = f"; cut short, with learning rates at {schedule.rate(taken, 1.0):.2g} of the first" if short else ""
    return f"Half {half}: {taken:,} steps{left}."


def tell(result: dict[str, Any], row: Row) -> str:
    """Our figures beside the published ones; half-map figures that do not count in parentheses."""
    minutes = sum(result["cost"][half]["wall_seconds"] for half in ("half1", "half2")) / 60
    objection = find_objection(result)
    lines = [f"Training of both halves: {minutes:.1f} min.", "| | published, Å | ours |", "|---|---|---|"]
    for name, published in row.published.items():
        kind, threshold = name.split()
        found = result["resolution"][kind][threshold]
        told = format_found(found)
        lines.append(f"| {name} | {published:g} | {f'({told})' if objection and kind == 'half_map' else told} |")
    if objection:
        lines.append(f"Half-map figures do not count: {objection}.")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/headline"))
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--params", default="{}", help='more parameters, as JSON: {"symmetrise": false} for C1')
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"training time of each half, over all calls; {MINUTES:g} unless the preset goes by epochs, which then has no limit",
    )
    parser.add_argument("--budget-per-call", type=float, default=8.5, help="minutes after which a call ends")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that everything runs")
    options = parser.parse_args(words)
    call = Call(60 * options.budget_per_call, time.monotonic())
    try:
        run(options, call)
    except CallOverError as reached:
        print(f"This call is over, at {reached}; give the same command again.", flush=True)
        return MORE_TO_DO
    return 0


if __name__ == "__main__":
    sys.exit(main())
