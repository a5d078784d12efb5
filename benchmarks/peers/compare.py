"""The same work done by other programs, timed as whole processes on the same cores in one run.

    python benchmarks/peers/compare.py projection --cryojax PYTHON
    python benchmarks/peers/compare.py reconstruction

``projection``: images of one volume with the same poses, CTFs and shifts, written to disk, by ``cryobench simulate``,
``relion_project --ctf`` and cryoJAX (``--cryojax`` names a Python that has it: ``pip install cryojax`` in an environment of its
own). Two sizes give the images per second by the slope, free of start-up; the whole times stand beside it. Every image of ours is
held against RELION's. ``reconstruction``: known poses, ``backproject`` against ``relion_reconstruct --ctf``. Programs take
turns, and of ``--repeats`` rounds the median is told. RELION is the Debian package ``relion``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import numpy as np
import torch
import xarray as xr

from cryobench.conventions import HALVES
from cryobench.dataset.store import open_store
from cryobench.interop.mrc import write_map
from cryobench.interop.particles import CTF_COLUMNS, ParticleTable
from cryobench.interop.relion import write_particles

HERE = Path(__file__).resolve().parent
CRYOBENCH = [sys.executable, "-m", "cryobench.cli"]


def timed(command: list[str | Path], cwd: Path | None = None) -> float:
    """Wall seconds of a whole process."""
    began = time.perf_counter()
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return seconds


def simulate(out: Path, count: int) -> float:
    shutil.rmtree(out, ignore_errors=True)
    scenario = ["--scenario", HERE / "projection.toml", "--particles", count, "--out", out]
    return timed([*CRYOBENCH, "simulate", *scenario])


def make_table(directory: Path, stack: str) -> ParticleTable:
    """What the truth says, as a table of RELION's."""
    truth, observed = (
        open_store(directory / f"{kind}.zarr", kind)
        for kind in ("truth", "observed")  # type: ignore[arg-type]
    )
    n = len(truth["shift"])
    return ParticleTable(
        source=directory,
        stack=np.full(n, stack, dtype=object),
        index=np.arange(n),
        ctf={name: observed[name].values for name in CTF_COLUMNS},
        pixel_size=np.full(n, float(observed.attrs["voxel_size"])),
        box=np.full(n, observed.sizes["x"]),
        micrograph=np.array([f"{m}.mrc" for m in observed["micrograph"].values], dtype=object),
        quaternion=truth["rotation"].values,
        shift=truth["shift"].values,
    )


def prepare(directory: Path, count: int) -> None:
    """A dataset, and the same volume, poses, CTFs and shifts in the files of the others."""
    simulate(directory / "ours", count)
    truth = open_store(directory / "ours" / "truth.zarr", "truth")
    pixel = float(truth.attrs["native_pixel_size"])
    write_map(directory / "map.mrc", truth["volume"].values, pixel)
    table = make_table(directory / "ours", "absent.mrcs")
    write_particles(directory / "particles.star", table)
    optics = {name: float(table.ctf[name][0]) for name in ("voltage", "spherical_aberration", "amplitude_contrast")}
    columns = {name: table.ctf[name] for name in ("defocus_u", "defocus_v", "defocus_angle")}
    poses = {"quaternion": truth["rotation"].values, "shift": truth["shift"].values}
    np.savez(directory / "case.npz", volume=truth["volume"].values, pixel_size=pixel, **poses, **columns, **optics)


def relion_project(directory: Path) -> float:
    pixel = mrcfile.open(directory / "map.mrc", header_only=True).voxel_size.x
    names = ["--i", "map.mrc", "--o", "relion", "--ang", "particles.star"]
    return timed(["relion_project", *names, "--ctf", "--angpix", f"{pixel:.6f}"], directory)


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of every image with its partner, means taken off."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def compare_projection(out: Path, sizes: tuple[int, int], repeats: int, cryojax: str | None) -> None:
    programs = {
        "cryobench simulate": lambda d, n: simulate(d / "ours", n),
        "relion_project --ctf": lambda d, _n: relion_project(d),
    }
    if cryojax is not None:
        for pad in (1, 2):
            script = [cryojax, HERE / "project_cryojax.py", "case.npz", f"cryojax-{pad}.npy", "--pad", str(pad)]
            programs[f"cryoJAX, jit of vmap, padding {pad}"] = lambda d, _n, s=script: timed(s, d)
    for n in sizes:
        (out / str(n)).mkdir(parents=True, exist_ok=True)
        prepare(out / str(n), n)
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for n in sizes:
            for name, program in programs.items():
                seconds.setdefault((name, n), []).append(program(out / str(n), n))
    print(f"| program | {sizes[0]:,} images, s | {sizes[1]:,} images, s | images/s by the slope | of RELION's |")
    print("|---|---|---|---|---|")
    rates = {}
    for name in programs:
        few, many = (statistics.median(seconds[name, n]) for n in sizes)
        rates[name] = (sizes[1] - sizes[0]) / (many - few)
        ratio = rates[name] / rates.get("relion_project --ctf", rates[name])
        if name == "cryobench simulate":
            relion = [statistics.median(seconds["relion_project --ctf", n]) for n in sizes]
            ratio = rates[name] * (relion[1] - relion[0]) / (sizes[1] - sizes[0])
        print(f"| {name} | {few:.2f} | {many:.2f} | {rates[name]:,.0f} | {ratio:.2f} |")
    for n in sizes:
        ours = open_store(out / str(n) / "ours" / "observed.zarr", "observed")["images"].values
        relion = mrcfile.mmap(out / str(n) / "relion.mrcs").data
        found = correlations(ours, relion)
        print(f"correlation with RELION's, {n:,} images: lowest {found.min():.5f}, mean {found.mean():.6f}")
    if cryojax is not None:
        found = np.abs(correlations(ours[:500], np.load(out / str(n) / "cryojax-2.npy", mmap_mode="r")[:500]))
        print(f"correlation with cryoJAX's (sign aside), padding 2: lowest {found.min():.4f}, mean {found.mean():.4f}")


def compare_reconstruction(out: Path, count: int, repeats: int) -> None:
    from cryobench_backproject import Backproject, BackprojectParams

    from cryobench.dataset.view import Observed, Poses

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    prepare(out, count)
    observed_set = open_store(out / "ours" / "observed.zarr", "observed")
    with mrcfile.new(out / "stack.mrcs", observed_set["images"].values, overwrite=True):
        pass
    write_particles(out / "particles.star", make_table(out / "ours", "stack.mrcs"))
    everything = observed_set.assign(half=xr.zeros_like(observed_set["half"]) + HALVES[0])
    truth = open_store(out / "ours" / "truth.zarr", "truth")
    poses = Poses(*(torch.as_tensor(truth[name].values) for name in ("rotation", "shift")))
    observed = Observed(everything, HALVES[0], poses)
    for symmetry in ("C1", "D2"):
        observed.symmetry = symmetry
        theirs, ours, first = [], [], []
        for _ in range(repeats):
            command = [
                "relion_reconstruct",
                "--i",
                "particles.star",
                "--o",
                f"{symmetry}.mrc",
                "--ctf",
                "--sym",
                symmetry,
            ]
            theirs.append(timed(command, out))
            for turn in range(
                4
            ):  # the first loads what was compiled, and touches memory that the system took back meanwhile
                began = time.perf_counter()
                Backproject().reconstruct(observed, BackprojectParams(batch=count), _Run())  # type: ignore[arg-type]
                (ours if turn else first).append(time.perf_counter() - began)
        a, b, c = (statistics.median(seconds) for seconds in (theirs, ours, first))
        print(f"| {symmetry} | {a:.2f} | {b:.2f} | {a / b:.1f} | {c:.2f} |")


class _Run:
    """A run that keeps nothing and never ends."""

    seed = 0
    device = torch.device("cpu")

    def restore(self) -> None:
        return None

    def remaining(self) -> float:
        return float("inf")

    def progress(self, *_: object, **__: object) -> None: ...

    def snapshot(self, *_: object, **__: object) -> None: ...

    def checkpoint(self, *_: object) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("projection", "reconstruction"))
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    parser.add_argument("--sizes", type=int, nargs=2, default=(1000, 10000))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cryojax", help="a Python that has cryoJAX")
    options = parser.parse_args()
    if options.what == "projection":
        compare_projection(options.out / "projection", tuple(options.sizes), options.repeats, options.cryojax)
    else:
        print("| symmetry | relion_reconstruct --ctf, s | backproject, s | times faster | first call, s |")
        print("|---|---|---|---|---|")
        compare_reconstruction(options.out / "reconstruction", options.sizes[0], options.repeats)


if __name__ == "__main__":
    main()
