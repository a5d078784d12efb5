"""The runs that benchmarks/README.md reports: each through the command line, as a user would, then one table row.

    python benchmarks/cases.py demo backproject betagal-64 empiar-10204 --out runs/cases

The last two need CRYOBENCH_DATA. A case whose directory is finished is only read again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cryobench(*arguments: object) -> None:
    """Run one command of the command line."""
    print("$ cryobench", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "cryobench.cli", *map(str, arguments)], check=True)


def run_demo(out: Path) -> None:
    cryobench("run", "-m", "cryogan", "-s", "snr-20", "--budget", "3m", "--out", out)


def run_backproject(out: Path) -> None:
    cryobench("run", "-m", "backproject", "-s", "snr-20", "--out", out)


def run_betagal(out: Path, method: str = "cryogan", *more: str) -> None:
    folder = Path(os.environ["CRYOBENCH_DATA"]) / "cryogan_betagal"
    noise = (
        "--noise",
        folder / "background_384_mic0-2.mrcs",
        "--noise-indices",
        folder / "independent_background_indices.txt",
    )
    table = ("--ctf-table", folder / "ctf-betagal-all-3185.txt")
    scenario = ("-s", "snr-20", "--specimen", "pdb:5A1A", "--box", 64)
    cryobench("run", "-m", method, *scenario, *table, *noise, "--out", out, *more)


def run_betagal_cryogan(out: Path) -> None:
    run_betagal(out, "cryogan", "--budget", "6m")


def run_betagal_backproject(out: Path) -> None:
    run_betagal(out, "backproject")


def run_empiar(out: Path) -> None:
    star = out / "star" / "particles.star"
    if not star.exists():
        recipe = ROOT / "datasets" / "recipes" / "empiar10204.py"
        subprocess.run([sys.executable, str(recipe), "--out", str(star.parent)], check=True)
    if not (out / "observed.zarr").exists():
        cryobench("import", "relion", star, "--symmetry", "D2", "--box", 32, "--out", out)
    cryobench("reconstruct", out, "-m", "cryogan", "--budget", "3m")
    cryobench("evaluate", out, "--truth", "pdb:5A1A")


CASES = {
    "demo": run_demo,
    "backproject": run_backproject,
    "betagal-64": run_betagal_cryogan,
    "betagal-64-backproject": run_betagal_backproject,
    "empiar-10204": run_empiar,
}


def cell(result: dict, kind: str, threshold: str) -> str:
    """A resolution as the tables show it."""
    entry = (result["resolution"].get(kind) or {}).get(threshold)
    if entry is None:
        return "-"
    if entry["state"] == "below_at_first_shell":
        return "not reached"
    return ("<= " if entry["state"] == "above_to_nyquist" else "") + f"{entry['value']:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--out", type=Path, default=Path("runs/cases"))
    options = parser.parse_args()
    rows = []
    for name in options.cases:
        directory = options.out / name
        began = time.monotonic()
        CASES[name](directory)
        seconds = time.monotonic() - began
        result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
        halves = [result["cost"][half] for half in ("half1", "half2")]
        peak = max(half["peak_memory_bytes"] for half in halves) / 2**30
        values = [cell(result, kind, t) for kind in ("half_map", "truth") for t in ("0.143", "0.5")]
        steps = "/".join(str(half["steps"]) for half in halves)
        rows.append(f"| {name} | {' | '.join(values)} | {seconds:.0f} s | {steps} | {peak:.1f} GiB |")
    print(
        "| case | half-map 0.143 | half-map 0.5 | truth 0.143 | truth 0.5 | whole run | steps | peak memory of a half |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
