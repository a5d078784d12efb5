"""Every check that needs a GPU, in one call: tests, rates, memory, agreement with the CPU. Prints and keeps what it finds.

    python benchmarks/gpu/check.py --out runs/gpu                       # about nine minutes
    python benchmarks/gpu/check.py --out runs/gpu --only operator tests
    python benchmarks/gpu/check.py --device cpu --tiny --out /tmp/check # that it runs at all

Each section is written to check.json and check.md in the output directory as soon as it ends: a killed call loses the section
that it was at, and the next call goes on after the last one that was whole. Failures are rows, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from counting import count
from cryobench_cryogan.memory import estimate
from cryobench_cryogan.method import Params
from cryobench_cryogan.train import has_fast_bfloat16
from torch import Tensor

from cryobench.conventions import HALVES
from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.evaluate.align import align
from cryobench.evaluate.move import Alignment, apply
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.noise import colour
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.physics.symmetry import symmetrise
from cryobench.reconstruct.run import reconstruct
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate
from cryobench.specimens.catalogue import find

ROOT = Path(__file__).resolve().parents[2]
SIDE = 234.4
"""Field of view in angstrom, that of the study's images."""
STUDY = 68.0
"""Real images per second of the study's training, if its 400 minutes covered both halves."""
Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Settings:
    """How much to do."""

    device: torch.device
    out: Path
    tiny: bool

    @property
    def boxes(self) -> tuple[int, ...]:
        return (16, 24) if self.tiny else (64, 128, 184, 256)

    @property
    def native(self) -> int:
        return 24 if self.tiny else 184

    @property
    def batch(self) -> int:
        return 4 if self.tiny else 64

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def scenario(self, box: int, particles: int) -> Any:
        native = [f"image.native_box={self.native}", f"image.native_pixel_size={SIDE / self.native}"]
        return adapt_scenario("snr-20", particles=particles, box=box, settings=[*native, "noise.pool=64"])


def seconds(settings: Settings, work: Callable[[], object]) -> float:
    """Of one call of ``work``, the best of three spells; the first call is not counted."""
    work()
    settings.synchronise()
    rounds = 1
    found: list[float] = []
    while len(found) < 3:
        began = time.perf_counter()
        for _ in range(rounds):
            work()
        settings.synchronise()
        spell = time.perf_counter() - began
        if spell < (0.001 if settings.tiny else 0.5):
            rounds *= 2
        else:
            found.append(spell / rounds)
    return min(found)


def make_operator(box: int, batch: int, device: torch.device) -> ImagingOperator:
    """Random poses, shifts and CTFs, the same on every device."""
    draw = torch.Generator().manual_seed(box)
    rotations = quaternion_to_matrix(uniform_quaternions(batch, draw)).to(device)
    ones, defocus = torch.ones(batch, device=device), torch.linspace(5e3, 2e4, batch, device=device)
    ctf = ContrastTransfer(defocus, defocus - 500, 0.3 * ones, 300 * ones, 2.7 * ones, 0.1 * ones, 0 * ones, 0 * ones)
    return ImagingOperator(box, SIDE / box, rotations, 5 * torch.randn(batch, 2, generator=draw).to(device), ctf)


def random_volume(box: int) -> Tensor:
    return torch.rand(box, box, box, generator=torch.Generator().manual_seed(box))


def check_machine(settings: Settings) -> Rows:
    """What this is, and how fast its memory really is (a copy: bytes read and written)."""
    cuda = settings.device.type == "cuda"
    numbers = torch.ones(2**18 if settings.tiny else 2**28, device=settings.device)
    target = torch.empty_like(numbers)
    moved = 2 * numbers.numel() * numbers.element_size()
    yield {
        "device": torch.cuda.get_device_name(settings.device) if cuda else "cpu",
        "memory GiB": torch.cuda.get_device_properties(settings.device).total_memory / 2**30 if cuda else None,
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "bandwidth GB/s": moved / seconds(settings, lambda: target.copy_(numbers)) / 1e9,
    }


def check_tests(settings: Settings) -> Rows:
    """The tests that need a device; skipped ones are counted, since they prove nothing."""
    runs = (
        ["tests", "-m", "gpu"],
        ["plugins/cryogan/tests", "-m", "gpu"],
        ["tests/physics", "-k", "cuda or astra"],
    )
    for words in runs[:0] if settings.tiny else runs:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        lines = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        yield {
            "tests": " ".join(words),
            "exit": done.returncode,
            "outcome": lines[-1],
            "seconds": time.perf_counter() - began,
            "failed": "; ".join(failed[:10]),
        }


def operator_works(box: int, batch: int, device: torch.device) -> dict[str, tuple[int, Callable[[], object]]]:
    """A transform, images and the adjoint, each made so that it can be repeated; and of how many things."""
    operator, volume = make_operator(box, batch, device), random_volume(box).to(device)
    spectrum = operator.transform(volume)
    images = torch.zeros(batch, box, box, device=device)
    operator.T(images)  # what is kept from call to call is made now
    return {
        "transform": (1, lambda: operator.transform(volume)),
        "images": (batch, lambda: operator.image(spectrum)),
        "adjoint": (batch, lambda: operator.T(images)),
    }


def check_operator(settings: Settings) -> Rows:
    """Rates of projection and adjoint, and the memory traffic that they reach: of all operations, counted without a device."""
    for box in settings.boxes:
        counted = operator_works(box, settings.batch, torch.device("meta"))
        for name, (number, work) in operator_works(box, settings.batch, settings.device).items():
            spent, cost = seconds(settings, work), count(counted[name][1], [])
            yield {
                "box": box,
                "work": name,
                "of": number,
                "ms": 1e3 * spent,
                "per second": number / spent,
                "launches": cost.launches,
                "traffic GB/s": cost.traffic / spent / 1e9,
            }


def check_agreement(settings: Settings) -> Rows:
    """Numbers of the device against the CPU's in double precision, by plain PyTorch: norm of the difference over the norm."""
    box = settings.boxes[0]
    volume, white = random_volume(box), torch.randn(8, box, box, generator=torch.Generator().manual_seed(0))
    power = torch.linspace(1, 0.1, box // 2 + 1)

    def compute(device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        operator = make_operator(box, settings.batch, device)
        moved = volume.to(device, dtype)
        images = operator(moved)
        return {
            "images": images,
            "adjoint": operator.T(images),
            "spectra": torch.view_as_real(operator.spectra(operator.transform(moved))),
            "D2": symmetrise(moved, "D2"),
            "C3": symmetrise(moved, "C3"),
            "coloured noise": colour(white.to(device, dtype), power),
        }

    expected = compute(torch.device("cpu"), torch.float64)
    found = compute(settings.device, torch.float32)
    for name, values in expected.items():
        difference = float((found[name].cpu() - values).norm() / values.norm())
        yield {"what": name, "box": box, "relative difference": difference, "as expected": difference < 1e-4}


def check_simulation(settings: Settings) -> Rows:
    """Whole datasets with noise, written to disk; images per second, of the CPU's threads and with the device."""
    particles = 64 if settings.tiny else 8192
    for box in (settings.boxes[0], settings.native):
        for device in dict.fromkeys(("cpu", str(settings.device))):
            directory = settings.out / "simulated" / f"{box}-{device.replace(':', '-')}"
            began = time.perf_counter()
            simulate(settings.scenario(box, particles), directory, device=device)
            spent = time.perf_counter() - began
            yield {"box": box, "device": device, "images": particles, "seconds": spent, "images/s": particles / spent}


def check_alignment(settings: Settings) -> Rows:
    """A turned, shifted and mirrored copy superposed on its original, where they are."""
    box = 16 if settings.tiny else 64
    voxel_size = SIDE / box
    volume = find("phantom").density(box, voxel_size).to(settings.device)
    pose = Alignment((0.1, 0.2, 0.3, 0.9273618), (voxel_size, -voxel_size, 0.0), True, 1.0, None, voxel_size)
    moved = apply(pose, volume)
    began = time.perf_counter()
    found = align(moved, volume, voxel_size)
    settings.synchronise()
    yield {
        "box": box,
        "seconds": time.perf_counter() - began,
        "correlation": found.correlation,
        "hand": found.hand,
        "as expected": found.correlation > 0.99,
    }


def formula(directory: Path, params: dict[str, Any], device: torch.device) -> int:
    """Bytes that the plugin's own formula gives."""
    observed, chosen = Observed(open_store(directory / "observed.zarr", "observed"), 1), Params(**params)
    half = has_fast_bfloat16(device) if chosen.bfloat16 is None else chosen.bfloat16
    return estimate(observed, chosen, half, device).on(device, resident=True)


def train(settings: Settings, preset: str, changes: dict[str, Any], halves: tuple[int, ...], budget: float) -> Rows:
    """Training at the native box alone until the budget ends it: real images per second once under way, and peak memory."""
    directory = settings.out / "training"
    simulate(settings.scenario(settings.native, 64 if settings.tiny else 4096), directory, device=str(settings.device))
    params = {"preset": preset, "coarsest": None, "steps": 10**6, "snapshots": 0, **changes}
    if settings.tiny:
        params |= {"batch": 2, "templates": 2, "channels": 2}
        budget = 0.7
    expected = formula(directory, params, settings.device)
    began, device = time.perf_counter(), str(settings.device)
    reconstruct(directory, "cryogan", params, device=device, budget=budget, overwrite=True, workers=1, halves=halves)
    wall = time.perf_counter() - began
    for half in halves:
        group: Any = zarr.open_group(directory / "predicted.zarr" / f"half{half}", mode="r")
        clock, seen = (np.asarray(group[f"history_{name}"][:]) for name in ("seconds", "images_seen"))
        # by the first report all is compiled; a third of what follows is for warming up
        start = int(np.searchsorted(clock, clock[0] + (clock[-1] - clock[0]) / 3, side="right")) - 1
        spent = float(clock[-1] - clock[start])
        rate = float(seen[-1] - seen[start]) / spent if spent else None
        yield {
            "preset": preset,
            "with": ", ".join(f"{name}={value}" for name, value in changes.items()),
            "box": settings.native,
            "half": half,
            "steps": group.attrs["steps"],
            "to the first report, s": float(clock[0]),
            "real images/s": rate,
            "of the study's 68": rate and rate / STUDY,
            "peak GiB": float(group.attrs["peak_memory_bytes"]) / 2**30,
            "formula GiB": expected / 2**30,
            "wall s": wall,
            "notes": " ".join(group.attrs["notes"]),
        }


def check_cryogan(settings: Settings) -> Rows:
    """Training with our discriminator and the study's, and with convolutions in either width (float32's are PyTorch's TF32)."""
    for preset in ("fast", "paper"):
        yield from train(settings, preset, {}, HALVES, 20.0)
    for bfloat16 in (True, False):
        yield from train(settings, "convolutions", {"bfloat16": bfloat16}, (1,), 20.0)


def check_compiled(settings: Settings) -> Rows:
    """Training with the discriminator compiled, beside the same as it is."""
    yield from train(settings, "fast", {}, (1,), 20.0)
    yield from train(settings, "fast", {"compile": True}, (1,), 90.0)  # compiling is on the same clock


SECTIONS: dict[str, Callable[[Settings], Rows]] = {
    "machine": check_machine,
    "agreement": check_agreement,
    "tests": check_tests,
    "operator": check_operator,
    "cryogan": check_cryogan,
    "compile": check_compiled,
    "simulation": check_simulation,
    "alignment": check_alignment,
}


class Report:
    """What was found so far, on disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / "check.json"
        self.sections: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def is_whole(self, name: str) -> bool:
        return bool(self.sections.get(name, {}).get("whole"))

    def put(self, name: str, rows: list[dict[str, Any]], spent: float, error: str | None, whole: bool) -> None:
        self.sections[name] = {"rows": rows, "seconds": spent, "error": error, "whole": whole}
        self._write(self._file, json.dumps(self.sections, indent=1))
        self._write(self.directory / "check.md", "\n".join(self._lines()))

    @staticmethod
    def _write(path: Path, text: str) -> None:
        partial = path.with_suffix(".partial")
        partial.write_text(text + "\n")
        partial.replace(path)

    def _lines(self) -> Iterator[str]:
        for name, section in self.sections.items():
            yield f"## {name} ({section['seconds']:.0f} s{'' if section['whole'] else ', unfinished'})\n"
            if section["rows"]:
                heads = list(dict.fromkeys(key for row in section["rows"] for key in row))
                yield f"| {' | '.join(heads)} |"
                yield "|---" * len(heads) + "|"
                for row in section["rows"]:
                    yield f"| {' | '.join(shown(row.get(head)) for head in heads)} |"
            if section["error"]:
                yield f"\nFailed: `{section['error'].splitlines()[-1]}`"
            yield ""


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value).replace("|", "\\|")


def run_section(name: str, settings: Settings, report: Report) -> None:
    """Run one section and keep each row as it comes."""
    rows: list[dict[str, Any]] = []
    began, error = time.perf_counter(), None
    try:
        for row in SECTIONS[name](settings):
            rows.append(row)
            print(f"{name}: " + ", ".join(f"{key} {shown(value)}" for key, value in row.items()), flush=True)
            report.put(name, rows, time.perf_counter() - began, None, False)
    except Exception as raised:  # whatever it is, the other sections are worth their time
        traceback.print_exc()
        error = f"{type(raised).__name__}: {raised}"
    report.put(name, rows, time.perf_counter() - began, error, error is None)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="these sections, also where they were done before")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that everything runs")
    options = parser.parse_args(words)
    settings = Settings(torch.device(options.device), options.out, options.tiny)
    report = Report(options.out)
    for name in options.only or [name for name in SECTIONS if not report.is_whole(name)]:
        run_section(name, settings, report)
    failed = [name for name, section in report.sections.items() if section["error"]]
    print(f"{options.out / 'check.md'}: {', '.join(failed)} failed" if failed else options.out / "check.md")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
