"""Real particles -> ``observed.zarr``: images streamed into a store, the noise measured beside the particles.

What every importer shares: :mod:`cryobench.ingest.relion` and :mod:`cryobench.ingest.cryosparc` bring image stacks,
:mod:`cryobench.ingest.micrographs` cuts its images itself.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from cryobench.conventions import HALVES
from cryobench.dataset.create import build_store
from cryobench.dataset.store import finish_store, has_shard, open_unfinished, put, shards, writing
from cryobench.errors import InputError, StoreError
from cryobench.ingest.options import ImportOptions
from cryobench.ingest.pools import GeneratedPool, NoisePool
from cryobench.interop.particles import ParticleTable
from cryobench.machine import torch_threads
from cryobench.physics.background import BackgroundNormalisation, BackgroundSpectrum
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.noise import colour, radial_power
from cryobench.scenario.streams import blocks, generator
from cryobench.types import Images

SPECTRUM_SAMPLE: Final = 8192
"""Particles of each half that the noise spectrum is measured on, at most; evenly spread over the half."""

Progress = Callable[[str, int, int], None]


class ParticleImages(ABC):
    """Where the images of a particle table come from.

    Attributes:
        box: side of the images in pixels.
        pixel_size: of the images, angstrom.
    """

    box: int
    pixel_size: float

    @abstractmethod
    def read(self, start: int, stop: int) -> Images:
        """Images ``(stop - start, box, box)`` of rows ``start ... stop - 1`` of the table, protein bright, all finite."""


def import_particles(
    table: ParticleTable,
    images: ParticleImages,
    out: str | Path,
    options: ImportOptions,
    attributes: Mapping[str, Any],
    *,
    normalisation: BackgroundNormalisation | None = None,
    pool: NoisePool | None = None,
    on_progress: Progress = lambda *_: None,
) -> Path:
    """Write the particles of a table as ``out/observed.zarr``; a killed import is completed by the same call.

    Halves are the table's own where it has both; else the particles are shuffled by the seed, blind to their micrographs, and
    dealt in turn to 1 and 2. The noise of each half is measured on its own particles, outside the particle radius.

    Args:
        table: the particles; their CTFs, micrographs, halves and poses are stored.
        images: of the table's rows.
        out: directory for the store; created if it is not there.
        options: what every import is asked.
        attributes: ``source``, ``import_options`` and whatever else the importer states in the store.
        normalisation: of every image before anything else, or None to take them as they are.
        pool: of noise patches; drawn from the measured spectrum if not given.
        on_progress: called with (stage, done, total).

    Returns:
        The path of the store.

    Raises:
        InputError: if an option or an image is not what is needed.
        StoreError: if the store is there already, whole or begun by another call, or cannot be written.
    """
    working, radius = options.working_box(images.box), options.radius(images.box, images.pixel_size)
    spectra = {half: BackgroundSpectrum(images.box, radius / images.pixel_size) for half in HALVES}
    pool = pool or GeneratedPool(images.box, options.noise_patches, options.seed, radius)
    half, split_note = _split(table, options.seed)
    sampled = _sample(half)
    names, micrograph = np.unique(table.micrograph.astype(str), return_inverse=True)
    attributes = {
        "voxel_size": images.pixel_size * images.box / working,
        "symmetry": options.symmetry,
        "assumed_pose": {"kind": "uniform"},
        "assumed_shift": options.assumed_shift(),
        "contrast": "protein bright",
        "noise_note": pool.note,
        "micrograph_names": [Path(name).name for name in names.tolist()],
        **attributes,
        "import_options": {"seed": options.seed, "particle_radius": radius, **attributes["import_options"]},
        "notes": [*table.notes, split_note],
    }
    store = Path(out) / "observed.zarr"
    group = _open_or_create(store, table, working, len(HALVES) * pool.patches, attributes)
    put(group, "half", half)
    put(group, "micrograph", micrograph)
    for name, column in table.ctf.items():
        put(group, name, column)
    if table.quaternion is not None:
        put(group, "given_rotation", table.quaternion)
    if (shift := _given_shift(table)) is not None:
        put(group, "given_shift", shift)
    with torch_threads(1):
        for start, stop in shards(len(table)):
            written = has_shard(store, start)
            shard = np.empty((stop - start, working, working), dtype=np.float32)
            for first, last in blocks(start, stop):
                if not written or sampled[first:last].any():
                    block = images.read(first, last)
                    if normalisation is not None:
                        block = _normalised(normalisation, block, table, first)
                    for h, spectrum in spectra.items():
                        spectrum.add(block[torch.as_tensor((half[first:last] == h) & sampled[first:last])])
                    if not written:
                        shard[first - start : last - start] = fourier_crop_images(block, working).numpy()
                on_progress("import", last, len(table))
            if not written:
                put(group, "images", shard, start)
        _fill_noise(group, pool, spectra, working)
    finish_store(group)
    return store


def _fill_noise(group: zarr.Group, pool: NoisePool, spectra: dict[int, BackgroundSpectrum], box: int) -> None:
    """Write each half's pool, cropped as the images were, and the spectrum measured beside its particles."""
    for i, (half, spectrum) in enumerate(spectra.items()):
        power = spectrum.power()
        put(group, "patch_half", np.full(pool.patches, half), i * pool.patches)
        for start, stop in blocks(0, pool.patches):
            drawn, micrographs = pool.draw(half, power, start, stop)
            put(group, "noise_patches", fourier_crop_images(drawn, box).numpy(), i * pool.patches + start)
            put(group, "patch_micrograph", micrographs, i * pool.patches + start)
        impulse = torch.zeros(1, spectrum.box, spectrum.box)
        impulse[0, 0, 0] = (
            spectrum.box
        )  # unit power at every frequency: its response is the noise spectrum after the crop
        response = fourier_crop_images(colour(impulse, power), box)
        put(group, "noise_power", radial_power(response)[None].numpy(), i)


def _split(table: ParticleTable, seed: int) -> tuple[NDArray[np.int8], str]:
    if len(table) < len(HALVES):
        raise InputError(f"{table.source.name}: expected at least two particles, one for each half, got {len(table)}")
    note = f"halves: shuffled with seed {seed}, blind to micrographs, and dealt in turn"
    if table.half is not None:
        if len(np.unique(table.half)) == len(HALVES):
            return table.half, "halves: those of the file"
        note += f"; in the file all particles are of half {table.half[0]}, and its poses, if any, were refined together"
    half = np.empty(len(table), dtype=np.int8)
    order = generator(seed, "split", 0).permutation(len(table))
    for i, name in enumerate(HALVES):
        half[order[i :: len(HALVES)]] = name
    return half, note


def _sample(half: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Evenly spread particles of each half, at most :data:`SPECTRUM_SAMPLE` of it."""
    sampled = np.zeros(len(half), dtype=np.bool_)
    for h in HALVES:
        members = np.flatnonzero(half == h)
        sampled[members[:: -(-len(members) // SPECTRUM_SAMPLE)]] = True
    return sampled


def _given_shift(table: ParticleTable) -> NDArray[np.float64] | None:
    """The shifts that the table states; zero where it states poses alone."""
    return np.zeros((len(table), 2)) if table.shift is None and table.quaternion is not None else table.shift


def _normalised(normalisation: BackgroundNormalisation, block: Images, table: ParticleTable, first: int) -> Images:
    images, deviation = normalisation(block)
    flat = torch.nonzero(deviation <= 0).flatten().tolist()
    if flat:
        row = first + flat[0]
        raise InputError(
            f"{table.source.name}: particle {table.index[row] + 1} of {table.stack[row]}: expected noise around the particle, "
            f"got one grey value everywhere; leave it out or cut from the micrograph as it was recorded"
        )
    return images


def _open_or_create(
    store: Path, table: ParticleTable, box: int, patches: int, attributes: dict[str, Any]
) -> zarr.Group:
    """A new store, or the one that the same import left unfinished."""
    sha = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode())
    for array in (*table.ctf.values(), table.index, table.quaternion, table.shift, table.half):
        sha.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    attributes = {**attributes, "import_digest": sha.hexdigest()}
    if store.exists():
        group = open_unfinished(store, "observed")
        if group.attrs["complete"]:
            raise StoreError(f"expected nothing at {store}, found a whole store; choose another directory or remove it")
        if group.attrs["import_digest"] != attributes["import_digest"]:
            raise StoreError(f"{store} was begun by another import; choose another directory or remove it")
        return group
    n = len(table)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys((*ContrastTransfer.names(), "half", "micrograph"), (n,))
    shapes |= {
        "images": (n, box, box),
        "noise_patches": (patches, box, box),
        "noise_power": (len(HALVES), box // 2 + 1),
    }
    shapes |= dict.fromkeys(("patch_half", "patch_micrograph"), (patches,))
    shapes |= {} if table.quaternion is None else {"given_rotation": (n, 4)}
    shapes |= {} if _given_shift(table) is None else {"given_shift": (n, 2)}
    with writing(store):
        store.parent.mkdir(parents=True, exist_ok=True)
    with build_store(store, "observed", shapes, attributes):
        pass  # rows are written in place: they may be taken up again where a killed import left them
    return open_unfinished(store, "observed")
