"""Particle files of cryoSPARC -> ``observed.zarr``."""

from __future__ import annotations

from pathlib import Path

from cryobench.ingest.formats import check_program
from cryobench.ingest.options import ImportOptions
from cryobench.ingest.particles import Progress
from cryobench.ingest.stacks import import_stacks
from cryobench.interop.cryosparc import read_particles


def import_cryosparc(
    file: str | Path,
    out: str | Path,
    options: ImportOptions | None = None,
    *,
    invert: bool = False,
    stack_directory: str | Path | None = None,
    on_progress: Progress = lambda *_: None,
) -> Path:
    """Import the particles of a cryoSPARC ``.cs`` file as ``out/observed.zarr``.

    The image stacks are looked for beside the file and in every directory above it (one of them is the project). The images
    are taken as they are, protein bright unless ``invert`` is asked for; halves are those of ``alignments3D/split`` where the
    file has both. A killed import is completed by the same call.

    Args:
        file: particle file with the fields ``blob`` and ``ctf`` (passthrough fields joined).
        out: directory for the store; created if it is not there.
        options: what every import is asked.
        invert: flip the contrast, for images with protein dark.
        stack_directory: where the image stacks are, if not where the file says.
        on_progress: called with (stage, done, total).

    Returns:
        The path of the store.

    Raises:
        InputError: if the file, a stack or an option is not what is needed.
        StoreError: if the store is there already, whole or begun by another call.
    """
    check_program(file, "cryosparc")
    return import_stacks(read_particles(file), out, options, "cryoSPARC", invert, stack_directory, on_progress)
