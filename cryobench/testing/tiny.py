"""A dataset that is simulated in a second, for tests."""

from __future__ import annotations

from pathlib import Path

from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate


def tiny_run(
    directory: Path,
    seed: int = 0,
    *,
    particles: int | None = None,
    snr_db: float | None = None,
    box: int | None = None,
) -> Path:
    """Simulate the shipped scenario ``tiny`` (192 images of 16 px, D2, at 0 dB) into ``directory``, made if need be.

    Args:
        directory: gets ``observed.zarr`` and ``truth.zarr``.
        seed: of the dataset.
        particles: in both halves together, where not the scenario's own number.
        snr_db: at the native pixel, where not the scenario's own.
        box: of the images in pixels, at most 24, where not the scenario's own.

    Returns:
        The directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    scenario = adapt_scenario("tiny", particles=particles, snr_db=snr_db, box=box)
    simulate(scenario, directory, seed=seed, jobs=1)
    return directory
