"""``observed.zarr`` -> particle files of RELION and cryoSPARC: images streamed into MRC stacks, one for each shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from cryobench.conventions import CONVENTIONS
from cryobench.dataset.priors import detector_from
from cryobench.dataset.schema import PARTICLES_PER_CHUNK
from cryobench.dataset.store import digest, has_shard, open_store, reading, shards
from cryobench.errors import InputError, StoreError
from cryobench.interop import cryosparc_write, relion_write
from cryobench.interop.atomic import PARTIAL, written_whole
from cryobench.interop.mrc_write import StackType, stack_bytes, write_stack
from cryobench.interop.mtf import write_mtf
from cryobench.interop.particles import CTF_COLUMNS, ParticleTable
from cryobench.physics.detector import DetectorTransfer

RECORD: Final = "export.json"
"""Says what an export is of; written first, so that a killed one is completed by the same call and by no other."""
STACKS: Final = "stacks"
MTF_SAMPLES: Final = 1001

Progress = Callable[[str, int, int], None]


def export_relion(
    dataset: str | Path,
    out: str | Path,
    *,
    with_truth: bool = False,
    dtype: StackType = "float32",
    on_progress: Progress = lambda *_: None,
) -> Path:
    """Export a dataset as ``out/particles.star`` of RELION 3.1 (which 4 and 5 read) beside ``out/stacks/*.mrcs``.

    ``out`` is the RELION project: image names are relative to it. Images keep their values and contrast (protein bright); halves
    become ``rlnRandomSubset``, and poses ``rlnAngle*`` and ``rlnOrigin*Angst``. A detector's transfer function is written as
    ``mtf.star`` and named in the optics table. A killed export has no ``particles.star`` and is completed by the same call.

    Args:
        dataset: run directory that holds ``observed.zarr``, or the store itself.
        out: directory; created if it is not there.
        with_truth: write the poses of ``truth.zarr`` beside the store, else those that an import was given, if any.
        dtype: of the images in the stacks, ``"float32"`` or ``"float16"`` (MRC mode 12).
        on_progress: called with (stage, done, total).

    Returns:
        The path of the STAR file.

    Raises:
        InputError: if float16 cannot hold the images.
        StoreError: if a store is not whole, ``out`` holds something else, or the disc is full.
    """

    def write(path: Path, table: ParticleTable, detector: DetectorTransfer | None) -> None:
        mtf = None
        if detector is not None:  # RELION looks it up by cycles per pixel of the optics table's pixel size
            mtf, cycles = "mtf.star", torch.linspace(0, 0.5, MTF_SAMPLES, dtype=torch.float64)
            values = detector.at(cycles / table.common_pixel_size())
            write_mtf(path.parent / mtf, cycles.numpy(), values.numpy())
        relion_write.write_particles(path, table, mtf=mtf)

    return _export(dataset, out, "particles.star", with_truth, dtype, write, on_progress)


def export_cryosparc(
    dataset: str | Path,
    out: str | Path,
    *,
    with_truth: bool = False,
    dtype: StackType = "float32",
    on_progress: Progress = lambda *_: None,
) -> Path:
    """Export a dataset as ``out/particles.cs`` of cryoSPARC beside ``out/stacks/*.mrcs``; else as :func:`export_relion`.

    cryoSPARC keeps half-sets with the alignments, so they are written with poses only; it has no place for a detector's transfer
    function.

    Returns:
        The path of the ``.cs`` file.
    """

    def write(path: Path, table: ParticleTable, _detector: DetectorTransfer | None) -> None:
        cryosparc_write.write_particles(path, table)

    return _export(dataset, out, "particles.cs", with_truth, dtype, write, on_progress)


def _export(
    dataset: str | Path,
    out: str | Path,
    name: str,
    with_truth: bool,
    dtype: StackType,
    write: Callable[[Path, ParticleTable, DetectorTransfer | None], None],
    on_progress: Progress,
) -> Path:
    store = _observed_path(Path(dataset))
    observed = open_store(store, "observed")
    table = _table(store, observed, *_poses(store, observed, with_truth))
    path, stacks = Path(out) / name, Path(out) / STACKS
    _begin(Path(out), _record(name, observed, table, dtype))
    stacks.mkdir(exist_ok=True)
    for leftover in Path(out).rglob(f".*{PARTIAL}"):  # of a killed export
        leftover.unlink()
    box, pixel_size = int(observed.sizes["x"]), float(observed.attrs["voxel_size"])
    for start, stop in shards(len(table)):
        stack = Path(out) / str(table.stack[start])
        if not stack.is_file() or stack.stat().st_size != stack_bytes(stop - start, box, dtype):
            path.unlink(missing_ok=True)
            blocks = _blocks(store, observed["images"], start, stop, on_progress)
            write_stack(stack, blocks, stop - start, box, pixel_size, dtype)
    write(path, table, detector_from(observed))
    return path


def _observed_path(dataset: Path) -> Path:
    return dataset / "observed.zarr" if (dataset / "observed.zarr").exists() else dataset


def _poses(
    store: Path, observed: xr.Dataset, with_truth: bool
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Quaternions and shifts of all particles: the true ones, those an import was given, or none."""
    if with_truth:
        path = store.parent / "truth.zarr"
        truth = open_store(path, "truth")
        if digest(truth, salt=str(truth.attrs["salt"])) != observed.attrs.get("truth_digest"):
            raise StoreError(f"expected the truth of {store} at {path}, found that of another dataset")
        return truth["rotation"].values, truth["shift"].values
    rotation, shift = (
        observed[name].values if name in observed else None for name in ("given_rotation", "given_shift")
    )
    return rotation, shift


def _table(
    store: Path, observed: xr.Dataset, quaternion: NDArray[np.float64] | None, shift: NDArray[np.float64] | None
) -> ParticleTable:
    n = int(observed.sizes["particle"])
    stack, index = np.empty(n, dtype=object), np.empty(n, dtype=np.int64)
    for number, (start, stop) in enumerate(shards(n), 1):
        stack[start:stop] = f"{STACKS}/particles_{number:06d}.mrcs"
        index[start:stop] = np.arange(stop - start)
    return ParticleTable(
        source=store,
        stack=stack,
        index=index,
        ctf={name: observed[name].values for name in CTF_COLUMNS},
        pixel_size=np.full(n, float(observed.attrs["voxel_size"])),
        box=np.full(n, observed.sizes["x"]),
        micrograph=_micrograph_names(observed),
        quaternion=quaternion,
        shift=shift,
        half=observed["half"].values,
    )


def _micrograph_names(observed: xr.Dataset) -> NDArray[np.object_]:
    """The name of each particle's micrograph: what an import kept, without white space, or a number."""
    index = observed["micrograph"].values
    known = ["_".join(str(name).split()) for name in observed.attrs.get("micrograph_names", [])]
    if len(set(known)) != len(known) or int(index.max()) >= len(known):
        known = [f"{number:06d}.mrc" for number in range(int(index.max()) + 1)]
    return np.array([f"micrographs/{name}" for name in known], dtype=object)[index]


def _record(name: str, observed: xr.Dataset, table: ParticleTable, dtype: StackType) -> dict[str, Any]:
    """What the export is of; everything but the pixels, which the store's own attributes stand for."""
    attributes = {str(key): value for key, value in observed.attrs.items()}
    sha = hashlib.sha256(json.dumps(attributes, sort_keys=True, default=str).encode())
    for column in (*table.ctf.values(), table.micrograph.astype(str), table.half, table.quaternion, table.shift):
        sha.update(b"" if column is None else np.ascontiguousarray(column).tobytes())
    return {
        "file": name,
        "images": dtype,
        "particles": len(table),
        "poses": table.quaternion is not None,
        "conventions": CONVENTIONS,
        "notes": list(attributes.get("notes", [])),
        "fingerprint": sha.hexdigest(),
    }


def _begin(out: Path, record: dict[str, Any]) -> None:
    """Claim the directory for this export, or find that it began it."""
    path = out / RECORD
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"expected a directory to write to, cannot make {out}: {error.strerror}") from error
    if path.is_file():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            there = None
        if there != record:
            raise StoreError(f"{out} holds another export; choose another directory with --out, or remove it")
        return
    if any(not there.name.endswith(PARTIAL) for there in out.iterdir()):
        raise StoreError(f"expected an empty directory at {out}, found files that no export made; choose another one")
    with written_whole(path) as partial:
        partial.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _blocks(
    store: Path, images: xr.DataArray, start: int, stop: int, on_progress: Progress
) -> Iterator[NDArray[np.float32]]:
    if not has_shard(store, start):  # zarr would give zeros
        raise StoreError(
            f"the store at {store} lacks the images from {start} on; `cryobench dataset check` says what is lost"
        )
    for first in range(start, stop, PARTICLES_PER_CHUNK):
        last = min(first + PARTICLES_PER_CHUNK, stop)
        with reading(store):
            block = images[first:last].values.astype(np.float32, copy=False)
        yield block
        on_progress("export", last, len(images))
