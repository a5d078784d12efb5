"""Particle STAR files of RELION -> ``observed.zarr``: images streamed into a store, the noise measured beside the particles."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from cryobench.conventions import HALVES
from cryobench.dataset.store import build_store, finish_store, has_shard, open_unfinished, put, shards
from cryobench.errors import InputError, StoreError
from cryobench.interop.mrc import open_stack
from cryobench.interop.particles import ParticleTable
from cryobench.interop.relion import locate_stacks, read_particles
from cryobench.machine import torch_threads
from cryobench.physics.background import BackgroundSpectrum
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.noise import colour, radial_power
from cryobench.physics.symmetry import symmetry_rotations
from cryobench.scenario.noise import NoiseSource
from cryobench.scenario.streams import generator
from cryobench.types import Images

BACKGROUND_RADIUS: Final = 0.4
"""Default particle radius as a fraction of the image side: 0.8 of half the box."""
SHIFT_HALF_WIDTH: Final = 28.0
"""Default of the shift prior in angstrom: the triangle with the spread of RELION's automatic (Laplacian-of-Gaussian) picks of
EMPIAR-10204, whose origins after 2D classification have a standard deviation of 11.5 Å on either axis (times sqrt(6))."""
IMAGES_PER_BLOCK: Final = 64
SPECTRUM_SAMPLE: Final = 8192
"""Particles of each half that the noise spectrum is measured on, at most; evenly spread over the half."""

Progress = Callable[[str, int, int], None]


def import_relion(
    star: str | Path,
    out: str | Path,
    *,
    symmetry: str = "C1",
    box: int | None = None,
    particle_radius: float | None = None,
    invert: bool = False,
    seed: int = 0,
    noise_patches: int = 512,
    shift_half_width: float | None = None,
    amplitude_contrast: float | None = None,
    stack_directory: str | Path | None = None,
    on_progress: Progress = lambda *_: None,
) -> Path:
    """Import the particles of a RELION STAR file (3.0, 3.1 or later) as ``out/observed.zarr``.

    The images are taken as they are, protein bright unless ``invert`` is asked for. Halves are those of ``rlnRandomSubset``
    where the file has it; else the particles are shuffled by ``seed``, blind to their micrographs, and dealt in turn to 1 and 2.
    The noise of each half is measured on its own particles, outside ``particle_radius``, and its pool of patches is drawn from
    that spectrum. A killed import is completed by the same call.

    Args:
        star: particle STAR file.
        out: directory for the store; created if it is not there.
        symmetry: point group to assume.
        box: Fourier-crop the images to this many pixels.
        particle_radius: angstrom; beyond it is noise. 0.4 of the image side (0.8 of half the box) if not given.
        invert: flip the contrast, for images with protein dark.
        seed: of the split and of the noise patches.
        noise_patches: to draw for each half.
        shift_half_width: of the triangular shift prior to assume, angstrom; 0 for none, 28 Å if not given.
        amplitude_contrast: to take where the file lacks ``rlnAmplitudeContrast``.
        stack_directory: where the image stacks are, if not where the STAR file says.
        on_progress: called with (stage, done, total).

    Returns:
        The path of the store.

    Raises:
        InputError: if the file, a stack or an option is not what is needed.
        StoreError: if the store is there already, whole or begun by another call.
    """
    table = read_particles(star, amplitude_contrast=amplitude_contrast)
    paths = locate_stacks(table, stack_directory)
    symmetry_rotations(symmetry)
    native, pixel_size = open_stack(next(iter(paths.values())))[0].shape[-1], table.common_pixel_size()
    working = native if box is None else box
    if not 8 <= working <= native:
        raise InputError(f"expected a box from 8 to the images' {native} px, got {working}")
    shift_half_width = SHIFT_HALF_WIDTH if shift_half_width is None else shift_half_width
    if noise_patches < 1 or not 0 <= shift_half_width < math.inf:
        raise InputError(
            f"expected at least 1 noise patch and a shift half-width of 0 Å or more, got {noise_patches} and {shift_half_width}"
        )
    radius_in_angstrom = BACKGROUND_RADIUS * native * pixel_size if particle_radius is None else particle_radius
    spectra = {half: BackgroundSpectrum(native, radius_in_angstrom / pixel_size) for half in HALVES}
    half, split_note = _split(table, seed)
    sampled = _sample(half)
    triangular = {"kind": "triangular", "half_width": shift_half_width}
    attributes = {
        "voxel_size": pixel_size * native / working,
        "symmetry": symmetry,
        "assumed_pose": {"kind": "uniform"},
        "assumed_shift": triangular if shift_half_width else {"kind": "none"},
        "contrast": "protein bright",
        "noise_note": (
            f"Generated: {noise_patches} patches for each half, Gaussian, of the radial spectrum measured on that half's own "
            f"particles outside {radius_in_angstrom:.4g} Å (neighbouring particles that reach there count as noise)."
        ),
        "source": {"format": "RELION STAR", "file": table.source.name, "stacks": [p.name for p in paths.values()]},
        "import_options": {"inverted": invert, "seed": seed, "particle_radius": radius_in_angstrom},
        "notes": [*table.notes, split_note],
    }
    store = Path(out) / "observed.zarr"
    group = _open_or_create(store, table, working, 2 * noise_patches, attributes)
    put(group, "half", half)
    put(group, "micrograph", np.unique(table.micrograph.astype(str), return_inverse=True)[1])
    for name, column in table.ctf.items():
        put(group, name, column)
    if table.quaternion is not None:
        put(group, "given_rotation", table.quaternion)
        put(group, "given_shift", np.zeros((len(table), 2)) if table.shift is None else table.shift)
    with torch_threads(1):
        for start, stop in shards(len(table)):
            written = has_shard(store, start)
            shard = np.empty((stop - start, working, working), dtype=np.float32)
            for first, images in _read(table, paths, start, stop, invert):
                rows = slice(first, first + len(images))
                for h, spectrum in spectra.items():
                    spectrum.add(images[torch.as_tensor((half[rows] == h) & sampled[rows])])
                if not written:
                    shard[first - start : first - start + len(images)] = fourier_crop_images(images, working).numpy()
                on_progress("import", first + len(images), len(table))
            if not written:
                put(group, "images", shard, start)
        _fill_noise(group, spectra, working, noise_patches, seed)
    finish_store(group)
    return store


def _split(table: ParticleTable, seed: int) -> tuple[NDArray[np.int8], str]:
    if len(table) < len(HALVES):
        raise InputError(f"{table.source.name}: expected at least two particles, one for each half, got {len(table)}")
    if table.half is not None:
        if len(np.unique(table.half)) < len(HALVES):
            raise InputError(
                f"{table.source.name}: expected particles of both halves in rlnRandomSubset, all are of {table.half[0]}; "
                f"remove the column to have them split"
            )
        return table.half, "halves: those of rlnRandomSubset"
    half = np.empty(len(table), dtype=np.int8)
    order = generator(seed, "split", 0).permutation(len(table))
    for i, name in enumerate(HALVES):
        half[order[i :: len(HALVES)]] = name
    return half, f"halves: shuffled with seed {seed}, blind to micrographs, and dealt in turn"


def _sample(half: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Evenly spread particles of each half, at most :data:`SPECTRUM_SAMPLE` of it."""
    sampled = np.zeros(len(half), dtype=np.bool_)
    for h in HALVES:
        members = np.flatnonzero(half == h)
        sampled[members[:: -(-len(members) // SPECTRUM_SAMPLE)]] = True
    return sampled


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
    if table.quaternion is not None:
        shapes |= {"given_rotation": (n, 4), "given_shift": (n, 2)}
    store.parent.mkdir(parents=True, exist_ok=True)
    with build_store(store, "observed", shapes, attributes):
        pass  # rows are written in place: they may be taken up again where a killed import left them
    return open_unfinished(store, "observed")


def _read(
    table: ParticleTable, paths: dict[str, Path], start: int, stop: int, invert: bool
) -> Iterator[tuple[int, Images]]:
    """Images of particles ``start ... stop`` in blocks, each with the row it begins at; a block is all that is in memory."""
    for first in range(start, stop, IMAGES_PER_BLOCK):
        rows = np.arange(first, min(first + IMAGES_PER_BLOCK, stop))
        parts: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(rows)
        for name in np.unique(table.stack[rows].astype(str)).tolist():
            stack, _ = open_stack(paths[name])
            for i in np.flatnonzero(table.stack[rows] == name):
                parts[i] = np.asarray(stack[table.index[rows[i]]], dtype=np.float32)
        block = np.stack(parts)
        bad = np.flatnonzero(~np.isfinite(block).all((1, 2)))
        if len(bad):
            row = rows[bad[0]]
            raise InputError(
                f"{table.source.name}: particle row {row + 1}: expected finite pixels in image {table.index[row] + 1} of "
                f"{table.stack[row]}, got NaN or infinity; remove the row or extract the image again"
            )
        yield first, torch.from_numpy(-block if invert else block)


def _fill_noise(group: zarr.Group, spectra: dict[int, BackgroundSpectrum], box: int, patches: int, seed: int) -> None:
    """Write each half's pool and its spectrum: drawn at the images' own box and cropped as they were."""
    for i, (half, spectrum) in enumerate(spectra.items()):
        source = NoiseSource(spectrum.box, power=spectrum.power())
        for start in range(0, patches, IMAGES_PER_BLOCK):
            drawn = source.draw(seed, f"pool-{half}", start, min(start + IMAGES_PER_BLOCK, patches))
            put(group, "noise_patches", fourier_crop_images(drawn, box).numpy(), i * patches + start)
        put(group, "patch_half", np.full(patches, half), i * patches)
        put(group, "patch_micrograph", np.full(patches, -1), i * patches)
        impulse = torch.zeros(1, spectrum.box, spectrum.box)
        impulse[0, 0, 0] = (
            spectrum.box
        )  # unit power at every frequency: its response is the spectrum of the pool itself
        response = fourier_crop_images(colour(impulse, spectrum.power()), box)
        put(group, "noise_power", radial_power(response)[None].numpy(), i)
