"""Fixtures every test may use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

torch.set_num_threads(1)
# shapes of public tensors are checked at run time wherever a test goes through the physics
install_import_hook("cryobench.physics", "beartype.beartype")
settings.register_profile("cryobench", deadline=None, derandomize=True, max_examples=20, print_blob=True)
settings.load_profile("cryobench")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def require(present: bool, what: str) -> None:
    """Skip with the reason, or fail where oracles are demanded, when ``what`` is missing."""
    if not present:
        if os.environ.get("CRYOBENCH_REQUIRE_ORACLES") == "1":
            pytest.fail(f"CRYOBENCH_REQUIRE_ORACLES=1, and {what} is missing")
        pytest.skip(f"{what} is missing")


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device this machine has."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """The directory of real data that ``CRYOBENCH_DATA`` names."""
    path = Path(os.environ.get("CRYOBENCH_DATA", ""))
    require(bool(os.environ.get("CRYOBENCH_DATA")) and (path / "models").is_dir(), "real data (CRYOBENCH_DATA)")
    return path


@pytest.fixture(scope="session")
def program() -> Callable[[str], Path]:
    """``program("relion_project")``: where an external program is; skips or fails with the reason when it is missing."""

    def find(name: str) -> Path:
        path = shutil.which(name)
        require(path is not None, f"the program {name}")
        return Path(str(path))

    return find
