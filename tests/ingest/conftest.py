"""Simulated micrographs that several tests import."""

from __future__ import annotations

import pytest

from cryobench.specimens.catalogue import find
from cryobench.testing.micrographs import SimulatedMicrographs, simulate_micrographs
from cryobench.types import Volume

BOX, PIXEL = 40, 7.0


@pytest.fixture(scope="session")
def specimen() -> Volume:
    return find("phantom").density(BOX, PIXEL)


@pytest.fixture(scope="session")
def micrographs(specimen: Volume, tmp_path_factory: pytest.TempPathFactory) -> SimulatedMicrographs:
    """Two dark micrographs in a directory whose name holds a space."""
    return simulate_micrographs(tmp_path_factory.mktemp("a session") / "Micro graphs", specimen, PIXEL)
