"""Real small runs that tables and pages are made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryobench.evaluate.options import Options
from cryobench.evaluate.run import evaluate
from cryobench.pipeline import Method, prepare, solve
from cryobench.scenario.files import adapt_scenario

QUICK = {"steps": 20, "batch": 16, "snapshots": 2}


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of three evaluated runs on ``tiny``: ``cryogan-0``, ``cryogan-1``, and ``backproject-0`` with the true poses."""
    directory = tmp_path_factory.mktemp("small") / "runs"
    for name, params, seed in (("cryogan", QUICK, 0), ("cryogan", QUICK, 1), ("backproject", {}, 0)):
        run = directory / f"{name}-{seed}"
        prepare(adapt_scenario("tiny"), run, seed=seed, oracle=(name, seed) == ("cryogan", 0), workers=1)
        solve(run, Method(name, params, device="cpu", workers=1), seed=seed)
        evaluate(run, options=Options(bootstrap_draws=40))
    return directory
