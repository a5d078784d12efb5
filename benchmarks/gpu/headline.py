"""The headline cell on one GPU: 5A1A at -20 dB, native box, 41,000 images, both halves, in calls of under nine minutes each.

    until python benchmarks/gpu/headline.py --out runs/headline; do [ $? -eq 75 ] || break; done

A call ends with status 75 where there is more to do; the same command then goes on: a begun dataset from its whole parts, a
half from its last checkpoint. The last call evaluates and writes result.json and report.html, and prints the figures beside the
published ones. The dataset is simulated on the device; no network is needed where CRYOBENCH_DATA holds the atomic model.
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

from cryobench import pipeline
from cryobench.pipeline import Method
from cryobench.report.reading import find_objection
from cryobench.report.table import format_found
from cryobench.scenario.spec import Scenario
from cryobench.simulate import simulate
from cryobench.suite.resolve import scenario_of
from cryobench.suite.spec import Row, Size, load_suite

SUITE, ROW = "betagal-imaging", "-20 dB, no shifts"
MORE_TO_DO = 75
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


def run(options: argparse.Namespace, call: Call) -> None:
    """All stages; what is done already is not done again."""
    scenario, row = choose_cell(options.tiny)
    directory: Path = options.out
    directory.mkdir(parents=True, exist_ok=True)
    params: dict[str, Any] = {"preset": options.preset, **json.loads(options.params)}
    method = Method("cryogan", params, options.device, 60 * options.minutes, workers=1)
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
    print(tell(result, row))


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
    parser.add_argument("--minutes", type=float, default=10.0, help="training time of each half, over all calls")
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
