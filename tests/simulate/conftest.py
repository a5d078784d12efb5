"""Datasets of several shards that cost next to nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.spec import Scenario
from cryobench.simulate import simulate

PARTICLES = 2100
"""Two shards, the second one short."""


@pytest.fixture(scope="session")
def two_shards() -> Scenario:
    return adapt_scenario("tiny", particles=PARTICLES, settings=["noise.pool=16"])


@pytest.fixture(scope="session")
def whole(two_shards: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of that scenario's dataset; to be copied by those who would change it."""
    directory = tmp_path_factory.mktemp("whole")
    simulate(two_shards, directory, seed=1)
    return directory
