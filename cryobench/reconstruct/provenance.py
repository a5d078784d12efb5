"""What a result was computed with: versions, machine, device, git state."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import torch

import cryobench
from cryobench.dataset.store import versions
from cryobench.machine import available_cores, processor
from cryobench.reconstruct.halves import threads_per_half
from cryobench.reconstruct.registry import methods


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that holds ``folder`` and whether it is modified; None outside a checkout."""
    command = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        status = subprocess.run(
            [*command, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "modified": bool(status.stdout.strip())}


def method_version(method: str) -> str | None:
    """Version of the package that registered ``method``; None where no package did."""
    point = methods().get(method)
    return point.dist.version if point and point.dist else None


def describe(method: str, device: torch.device) -> dict[str, Any]:
    """Provenance of a run of ``method`` on ``device``."""
    point = methods()[method]
    # the libraries' own folder is a checkout of cryobench only where it is installed from one
    in_checkout = not _installed_from_wheel()
    return {
        "versions": versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": available_cores(),
        "threads_per_half": threads_per_half(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "method_package": point.dist.name if point.dist else None,
        "method_version": method_version(method),
        "git": git_state(Path(cryobench.__file__).parent) if in_checkout else None,
    }


def _installed_from_wheel() -> bool:
    direct = distribution("cryobench").read_text("direct_url.json")
    return direct is None or '"editable": true' not in direct
