"""Write a RELION STAR file for 1,408 real beta-galactosidase particles of EMPIAR-10204.

The particles (`particles_64_a.mrcs`: 64 px, 3.54 Å, 16-bit floats, background-normalised, protein already bright) come with a
table (`particles_64_a.csv`) that holds the right CTF of each particle's micrograph. This joins the two as RELION 3.1 would
have written them, so that

    python datasets/recipes/empiar10204.py --out betagal
    cryobench import relion betagal/particles.star --symmetry D2 --out betagal

makes an `observed.zarr`. The picks are RELION's Laplacian-of-Gaussian picks and were never cleaned: some are ice or carbon.
Microscope: 200 kV, Cs 1.4 mm, amplitude contrast 0.1.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cryobench.errors import InputError
from cryobench.interop.particles import ParticleTable
from cryobench.interop.relion import write_particles

BOX, PIXEL_SIZE = 64, 3.54
VOLTAGE, SPHERICAL_ABERRATION, AMPLITUDE_CONTRAST = 200.0, 1.4, 0.1
NAME = "particles_64_a"


def write_star(data: Path, out: Path) -> Path:
    """Write ``out/particles.star`` for the particles in the directory ``data``; the stack stays where it is.

    Raises:
        InputError: if the table or the stack is not there.
    """
    csv, stack = data / f"{NAME}.csv", data / f"{NAME}.mrcs"
    for path in (csv, stack):
        if not path.is_file():
            raise InputError(
                f"expected {path.name} in {data}, found nothing; say where the EMPIAR-10204 files are (--data)"
            )
    rows = pd.read_csv(csv)
    n = len(rows)
    table = ParticleTable(
        source=csv,
        stack=np.full(n, str(stack.resolve()), dtype=object),
        index=rows["n"].to_numpy(dtype=np.int64),
        ctf={
            "defocus_u": rows["dU_A"].to_numpy(),
            "defocus_v": rows["dV_A"].to_numpy(),
            "defocus_angle": np.deg2rad(rows["dAng_deg"].to_numpy()),
            "voltage": np.full(n, VOLTAGE),
            "spherical_aberration": np.full(n, SPHERICAL_ABERRATION),
            "amplitude_contrast": np.full(n, AMPLITUDE_CONTRAST),
            "phase_shift": np.zeros(n),
            "b_factor": np.zeros(n),
        },
        pixel_size=np.full(n, PIXEL_SIZE),
        box=np.full(n, BOX),
        micrograph=(rows["micrograph"] + ".mrc").to_numpy(dtype=object),
    )
    out.mkdir(parents=True, exist_ok=True)
    write_particles(out / "particles.star", table)
    return out / "particles.star"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the STAR file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.environ.get("CRYOBENCH_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        required=root is None,
        default=None if root is None else Path(root) / "empiar10204",
        help="directory of particles_64_a.csv and .mrcs (default: empiar10204 in the directory CRYOBENCH_DATA names)",
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for particles.star")
    options = parser.parse_args(arguments)
    try:
        print(write_star(options.data, options.out))
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
