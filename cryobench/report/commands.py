"""The commands that make a result again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from cryobench.scenario.files import scenario_options


def reproduce(result: Mapping[str, Any], run: str) -> str:
    """The command that makes this result again; for imported particles, the commands after the import into ``run``."""
    # what is none may have a value in the preset
    named = {k: v for k, v in result["params"].items() if v is not None or "preset" in result["params"]}
    given = {k: v if isinstance(v, str) else json.dumps(v) for k, v in named.items()}
    params = [f"-p {shlex.quote(f'{key}={value}')}" for key, value in sorted(given.items())]
    method = [f"--method {shlex.quote(result['method'])}"]
    seed = [f"--seed {result['seed']}"]
    budget = [f"--budget {result['budget_seconds']:g}s"] if result["budget_seconds"] else []
    if result["scenario"] is None:
        return " \\\n  ".join([f"cryobench reconstruct {shlex.quote(run)}", *method, *seed, *budget, *params]) + (
            f"\ncryobench evaluate {shlex.quote(run)}"
        )
    dataset = result["dataset"]
    scenario = [f"--scenario {shlex.quote(result['scenario'])}", *scenario_options(dataset["scenario"])]
    if dataset["seed"] == result["seed"]:
        return " \\\n  ".join(["cryobench run", *method, *scenario, *seed, *budget, *params])
    simulate = ["cryobench simulate", *scenario, f"--seed {dataset['seed']}", f"--out {shlex.quote(run)}"]
    solve = [f"cryobench reconstruct {shlex.quote(run)}", *method, *seed, *budget, *params]
    return "\n".join([" \\\n  ".join(simulate), " \\\n  ".join(solve), f"cryobench evaluate {shlex.quote(run)}"])
