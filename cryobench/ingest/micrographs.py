"""Micrographs, particle positions and CTFs -> ``observed.zarr``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryobench.errors import InputError
from cryobench.ingest.cutting import CutImages, Cuts, place_cuts
from cryobench.ingest.matching import (
    MicrographOptions,
    find_micrographs,
    match_ctf,
    read_headers,
    side_of_cut,
    some,
)
from cryobench.ingest.options import ImportOptions
from cryobench.ingest.particles import Progress, import_particles
from cryobench.ingest.pools import PatchPool
from cryobench.interop.box_files import read_boxes
from cryobench.interop.boxes import BoxTable, Matched, match_boxes
from cryobench.interop.micrograph_ctf import MicrographCtf, read_micrograph_ctf
from cryobench.interop.particles import ParticleTable
from cryobench.noise.patches import content_digest
from cryobench.physics.background import BackgroundNormalisation


def import_micrographs(
    micrographs: Sequence[str | Path],
    boxes: str | Path,
    ctf: str | Path,
    out: str | Path,
    options: ImportOptions | None = None,
    cutting: MicrographOptions | None = None,
    *,
    noise: str | Path | None = None,
    on_progress: Progress = lambda *_: None,
) -> Path:
    """Cut particles from micrographs, with the CTF of each, into ``out/observed.zarr``.

    A box is cut at the whole pixel nearest to its centre, so that no pixel is resampled; what is left of the centre, half a
    pixel at most, is stored as ``given_shift``. Boxes beyond the edge are left out and counted. Each image loses the plane fitted
    to its background, is Fourier-cropped to the working box and scaled to background mean 0 and standard deviation 1
    (as RELION extracts particles). A killed import is completed by the same call.

    Args:
        micrographs: MRC files, or directories of them.
        boxes: see :func:`cryobench.interop.box_files.read_boxes`; matched to the micrographs by name.
        ctf: see :func:`cryobench.interop.micrograph_ctf.read_micrograph_ctf`; matched likewise.
        out: directory for the store; created if it is not there.
        options: what every import is asked.
        cutting: how particles are cut.
        noise: noise store whose patches become the methods' noise pools; noise of the measured spectrum is made if not given.
        on_progress: called with (stage, done, total).

    Returns:
        The path of the store.

    Raises:
        InputError: if a file or an option is not what is needed, or no particle is left.
        StoreError: if the store is there already, whole or begun by another call, or cannot be written.
    """
    options, cutting = options or ImportOptions(), cutting or MicrographOptions()
    files = find_micrographs(micrographs)
    table = read_boxes(boxes)
    matched = match_boxes(table, files)
    transfers = read_micrograph_ctf(
        ctf,
        {name: getattr(cutting, name) for name in ("voltage", "spherical_aberration", "amplitude_contrast")},
    )
    rows, owner, ctf_notes = match_ctf(files, matched, transfers, cutting)
    extract = side_of_cut(table, options, cutting)
    shapes, pixel_size = read_headers(files, rows, owner, transfers, cutting)
    cuts = place_cuts(table, rows, shapes, extract)
    if len(cuts.row) == 0:
        raise InputError(
            f"{table.source.name}: expected particles on the {len(files)} micrographs, none is left "
            f"({'; '.join([*_box_notes(files, matched, cuts), *ctf_notes]) or 'no box is of any of them'})"
        )
    radius = options.radius(extract, pixel_size) / pixel_size
    normalisation = (
        BackgroundNormalisation(extract, options.working_box(extract), radius, ramp=cutting.remove_ramp)
        if cutting.normalise
        else None
    )
    notes = [*_box_notes(files, matched, cuts), *ctf_notes, _cut_note(cuts, pixel_size)]
    particles = _particles(table, files, cuts, extract, pixel_size, transfers, owner, notes)
    images = CutImages(files, cuts, extract, pixel_size, invert=cutting.protein == "dark", source=table.source)
    pool = None
    if noise is not None:
        if normalisation is None:
            raise InputError("expected particles that are normalised, as noise patches are; leave one of the two away")
        names = np.unique(particles.micrograph.astype(str)).tolist()
        pool = PatchPool(noise, extract, pixel_size, options.noise_patches, normalisation, names)
    attributes = {
        "source": {
            "format": "micrographs",
            "micrographs": len(np.unique(cuts.micrograph)),
            "boxes": table.source.name,
            "ctf": transfers.source.name,
            "positions_sha256": hashlib.sha256(cuts.corner.tobytes()).hexdigest(),
        },
        "import_options": {
            "inverted": cutting.protein == "dark",
            "extract": extract,
            "normalised": cutting.normalise,
            "ramp_removed": cutting.normalise and cutting.remove_ramp,
            "noise_sha256": None if noise is None else content_digest(Path(noise)),
        },
        "left_out": cuts.left_out,
    }
    return import_particles(
        particles, images, out, options, attributes, normalisation=normalisation, pool=pool, on_progress=on_progress
    )


def _box_notes(files: list[Path], matched: Matched, cuts: Cuts) -> list[str]:
    notes = [f"boxes left out {reason}: {count}" for reason, count in cuts.left_out.items()]
    empty = [file.name for file, rows in zip(files, matched.rows, strict=True) if not len(rows)]
    if empty:
        notes.append(f"micrographs without boxes: {len(empty)} ({some(empty)})")
    if matched.unknown:
        notes.append(f"boxes of micrographs that were not given: {len(matched.unknown)} ({some(matched.unknown)})")
    return notes


def _cut_note(cuts: Cuts, pixel_size: float) -> str:
    rms = float(np.sqrt((cuts.remainder**2).mean())) * pixel_size
    return (
        f"boxes were cut at the nearest whole pixel; what is left of their centres ({rms:.3g} Å rms an axis) is in given_shift; "
        f"{cuts.overlapping} of {len(cuts.row)} boxes share pixels with another, and so noise, maybe across the halves"
    )


def _particles(
    table: BoxTable,
    files: list[Path],
    cuts: Cuts,
    box: int,
    pixel_size: float,
    transfers: MicrographCtf,
    owner: list[int],
    notes: list[str],
) -> ParticleTable:
    n, names = len(cuts.row), np.array([file.name for file in files], dtype=object)
    ctf_row = np.array(owner)[cuts.micrograph]
    return ParticleTable(
        source=table.source,
        stack=names[cuts.micrograph],
        index=cuts.row.astype(np.int64),
        ctf={name: column[ctf_row] for name, column in transfers.ctf.items()},
        pixel_size=np.full(n, pixel_size),
        box=np.full(n, box),
        micrograph=names[cuts.micrograph],
        shift=cuts.remainder * pixel_size,
        notes=tuple(notes),
    )
