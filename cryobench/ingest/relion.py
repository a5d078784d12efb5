"""Particle STAR files of RELION -> ``observed.zarr``."""

from __future__ import annotations

from pathlib import Path

from cryobench.ingest.formats import check_program
from cryobench.ingest.options import ImportOptions
from cryobench.ingest.particles import Progress
from cryobench.ingest.stacks import import_stacks
from cryobench.interop.relion import read_particles


def import_relion(
    star: str | Path,
    out: str | Path,
    options: ImportOptions | None = None,
    *,
    invert: bool = False,
    amplitude_contrast: float | None = None,
    stack_directory: str | Path | None = None,
    on_progress: Progress = lambda *_: None,
) -> Path:
    """Import the particles of a RELION STAR file (3.0, 3.1 or later) as ``out/observed.zarr``.

    The images are taken as they are, protein bright unless ``invert`` is asked for; halves are those of ``rlnRandomSubset``
    where the file has both. A killed import is completed by the same call.

    Args:
        star: particle STAR file.
        out: directory for the store; created if it is not there.
        options: what every import is asked.
        invert: flip the contrast, for images with protein dark.
        amplitude_contrast: to take where the file lacks ``rlnAmplitudeContrast``.
        stack_directory: where the image stacks are, if not where the STAR file says.
        on_progress: called with (stage, done, total).

    Returns:
        The path of the store.

    Raises:
        InputError: if the file, a stack or an option is not what is needed.
        StoreError: if the store is there already, whole or begun by another call.
    """
    check_program(star, "relion")
    table = read_particles(star, amplitude_contrast=amplitude_contrast)
    return import_stacks(table, out, options, "RELION STAR", invert, stack_directory, on_progress)
