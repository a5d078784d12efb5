"""How cost grows: images per second of projection, its adjoint and whole simulations, over box and number of images.

    python benchmarks/growth.py operator --boxes 32 64 128 256 --threads 1 2
    python benchmarks/growth.py simulate --boxes 32 64 128 --counts 1000 10000

Prints the tables of README.md. Threads are worker threads of one torch thread each, as in a simulation.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions

SIDE = 234.4
"""Field of view in angstrom, that of the study's images."""
BLOCK = 64


def make_operator(box: int) -> ImagingOperator:
    draw = torch.Generator().manual_seed(box)
    rotations = quaternion_to_matrix(uniform_quaternions(BLOCK, draw))
    ones = torch.ones(BLOCK)
    defocus = torch.linspace(5e3, 2e4, BLOCK)
    ctf = ContrastTransfer(defocus, defocus - 500, 0.3 * ones, 300 * ones, 2.7 * ones, 0.1 * ones, 0 * ones, 0 * ones)
    return ImagingOperator(box, SIDE / box, rotations, 5 * torch.randn(BLOCK, 2, generator=draw), ctf)


def rate(work: Callable[[], object], threads: int, seconds: float = 2.0) -> float:
    """Images per second of ``work`` on 64 images, in so many threads; the best of three spells, as the machine is shared."""
    work()  # compiles, allocates
    began = time.perf_counter()
    work()
    rounds = max(1, int(seconds / (time.perf_counter() - began)))

    def spell() -> float:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            start = time.perf_counter()
            for done in [pool.submit(work) for _ in range(rounds * threads)]:
                done.result()
            return rounds * threads * BLOCK / (time.perf_counter() - start)

    return max(spell() for _ in range(3))


def grow_operator(boxes: list[int], threads: list[int]) -> None:
    torch.set_num_threads(1)
    heads = [f"{what}, {n} thread{'s' * (n > 1)}" for what in ("images", "adjoint") for n in threads]
    print(f"| box | transform of the volume, ms | {' | '.join(f'{head}, 1/s' for head in heads)} |")
    print("|---" * (2 + len(heads)) + "|")
    for box in boxes:
        operator = make_operator(box)
        volume = torch.rand(box, box, box, generator=torch.Generator().manual_seed(0))
        spectrum = operator.transform(volume)
        images = operator.image(spectrum)
        spells = []
        for _ in range(3):
            began = time.perf_counter()
            operator.transform(volume)
            spells.append(1e3 * (time.perf_counter() - began))
        forward = [rate(lambda o=operator, s=spectrum: o.image(s), n) for n in threads]
        adjoint = [rate(lambda o=operator, y=images: o.T(y), n) for n in threads]
        cells = " | ".join(f"{value:,.0f}" for value in forward + adjoint)
        print(f"| {box} | {statistics.median(spells):.0f} | {cells} |", flush=True)


def grow_simulate(boxes: list[int], counts: list[int], scenario: str, out: Path) -> None:
    print("| box | images | whole process, s | images/s | peak memory, MiB |")
    print("|---|---|---|---|---|")
    for box in boxes:
        for count in counts:
            shutil.rmtree(out, ignore_errors=True)
            native = [
                "--set",
                f"image.native_box={max(box, 128)}",
                "--set",
                f"image.native_pixel_size={SIDE / max(box, 128)}",
            ]
            words = ["simulate", "-s", scenario, "--box", box, "-n", count, *native, "--out", out]
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "cryobench.cli", *map(str, words)], stdout=subprocess.DEVNULL
            )
            _, status, usage = _wait(process)
            seconds = time.perf_counter() - began
            if status:
                sys.exit(f"simulate ended with {status}")
            print(
                f"| {box} | {count:,} | {seconds:.1f} | {count / seconds:,.0f} | {usage.ru_maxrss / 1024:,.0f} |",
                flush=True,
            )
    shutil.rmtree(out, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, int, resource.struct_rusage]:
    import os

    return os.wait4(process.pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("operator", "simulate"))
    parser.add_argument("--boxes", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--scenario", default="snr-20-shift3")
    parser.add_argument("--out", type=Path, default=Path("runs/growth"))
    options = parser.parse_args()
    if options.what == "operator":
        grow_operator(options.boxes, options.threads)
    else:
        grow_simulate(options.boxes, options.counts, options.scenario, options.out)


if __name__ == "__main__":
    main()
