"""What this machine has, what is missing, and what that limits."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

LIBRARIES: Final = ("torch", "numpy", "scipy", "xarray", "zarr", "gemmi", "mrcfile", "starfile", "plotly")


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis: ``limits`` says what its absence means, and is empty where nothing is amiss."""

    what: str
    found: str
    limits: str = ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("GPU", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    return Finding("GPU", "none that torch can use", "methods run on the CPU; boxes above 64 will be slow")


def _astra() -> Finding:
    found = _version("astra-toolbox")
    if found is None:
        return Finding("ASTRA", "not installed", "no ASTRA projector: pip install 'cryobench[astra]'")
    # astra is asked in a process of its own: without a GPU some of its calls do not raise but kill
    code = "import astra; print(astra.use_cuda())"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if asked.stdout.strip() == "True":
        return Finding("ASTRA", f"{found}, CUDA usable")
    return Finding("ASTRA", f"{found}, CPU only", "no ASTRA projection in three dimensions, which needs CUDA")


def _relion() -> Finding:
    path = shutil.which("relion_project")
    if path is None:
        return Finding("RELION", "not on the search path", "no check against RELION: install the package 'relion'")
    return Finding("RELION", path)


def _data() -> Finding:
    named = os.environ.get("CRYOBENCH_DATA")
    if not named:
        return Finding(
            "data directory", "CRYOBENCH_DATA is not set", "atomic models and maps are downloaded when asked for"
        )
    if not Path(named).is_dir():
        return Finding(
            "data directory", f"{named} is not a directory", "set CRYOBENCH_DATA to the directory that holds models/"
        )
    return Finding("data directory", named)


def _methods() -> Finding:
    from cryobench.reconstruct.registry import methods

    names = ", ".join(methods())
    return Finding(
        "methods", names or "none", "" if names else "nothing can be reconstructed: pip install cryobench-cryogan"
    )


def examine() -> list[Finding]:
    """Look at everything cryobench can use."""
    import psutil

    from cryobench import __version__
    from cryobench.machine import processor

    memory = psutil.virtual_memory()
    findings = [
        Finding("cryobench", __version__),
        Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("CPU", f"{processor()}, {os.cpu_count()} cores"),
        Finding("memory", f"{memory.total / 2**30:.0f} GiB, {memory.available / 2**30:.0f} GiB of it free"),
        _gpu(),
        _astra(),
        _relion(),
        _data(),
        _methods(),
    ]
    for package in LIBRARIES:
        found = _version(package)
        findings.append(
            Finding(package, found or "not installed", "" if found else f"cryobench needs it: pip install {package}")
        )
    return findings
