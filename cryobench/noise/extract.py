"""Particle-free patches cut from real micrographs, one micrograph at a time, into a noise store."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from cryobench.dataset.create import build_store
from cryobench.dataset.store import finish_store, put
from cryobench.errors import InputError, StoreError
from cryobench.interop.box_files import read_boxes
from cryobench.interop.boxes import match_boxes
from cryobench.interop.mrc import open_stack
from cryobench.noise.cutting import PIXEL_TOLERANCE, Wanted, cut_patches
from cryobench.noise.defects import Micrograph
from cryobench.physics.noise import radial_power

Progress = Callable[[str, int, int], None]


def extract_noise(
    micrographs: Sequence[str | Path],
    boxes: str | Path,
    out: str | Path,
    *,
    box: int,
    pixel_size: float | None = None,
    micrograph_pixel_size: float | None = None,
    protein: Literal["dark", "bright"] = "dark",
    particle_diameter: float | None = None,
    distance: float = 20.0,
    edge: float = 50.0,
    per_micrograph: int = 16,
    on_progress: Progress = lambda *_: None,
) -> str:
    """Cut patches that hold no particle from micrographs into a noise store.

    One micrograph is in memory at a time. Its defects are found and mended, it is Fourier-resampled if asked, and patches are
    cut where :func:`cryobench.noise.positions.choose_positions` says: never two that share a pixel. Each patch is stored
    with protein bright, mean zero and standard deviation one, beside what these were.

    Args:
        micrographs: MRC files of one image each.
        boxes: particle positions, in pixels of the micrographs, see :func:`cryobench.interop.box_files.read_boxes`.
        out: noise store to write.
        box: side of a patch, pixels of ``pixel_size``.
        pixel_size: angstrom to resample to; the micrographs' own if not given.
        micrograph_pixel_size: angstrom, in place of what the headers say.
        protein: contrast of the micrographs; dark ones are inverted.
        particle_diameter: side of the square kept free about each box's centre, angstrom; that of the box if not given.
        distance: between a patch and the nearest such square, angstrom.
        edge: between a patch and the micrograph's edge, angstrom.
        per_micrograph: patches of one micrograph, at most.
        on_progress: called with (stage, done, total).

    Returns:
        How many patches of how many micrographs, in a sentence.

    Raises:
        InputError: if a file or option is not what is needed, a micrograph is given twice (also under two names), pixel sizes
            differ, boxes are of no micrograph, or there is no room for a patch anywhere.
        StoreError: if something is at ``out`` already.
    """
    wanted = Wanted(box, pixel_size, particle_diameter, distance, edge, per_micrograph)
    paths, out = [Path(path) for path in micrographs], Path(out)
    if out.exists():
        raise StoreError(f"expected nothing at {out}, found something; choose another place or remove it")
    if not paths or box < 16 or per_micrograph < 1 or min(distance, edge) < 0:
        raise InputError(
            f"expected micrographs, a box of at least 16 px, a patch or more of each, and lengths of 0 Å or more, got "
            f"{len(paths)} micrographs, box {box}, {per_micrograph} patches, distance {distance} Å, edge {edge} Å"
        )
    table = read_boxes(boxes)
    rows = match_boxes(table, paths)
    if not any(len(r) for r in rows.rows):
        raise InputError(
            f"{table.source}: expected boxes of the micrographs given ({paths[0].name} ...), found boxes of others only "
            f"({', '.join(rows.unknown[:3])} ...); names must agree but for directory and ending"
        )
    for name, length in (("pixel size", pixel_size), ("particle diameter", particle_diameter)):
        if length is not None and not 0 < length < math.inf:
            raise InputError(f"expected a {name} above 0 Å, got {length} Å")
    pixel = _common_pixel_size(paths, micrograph_pixel_size)
    final_pixel = pixel if pixel_size is None else pixel_size
    if final_pixel < pixel * (1 - PIXEL_TOLERANCE):
        raise InputError(f"expected a pixel size of at least the micrographs' {pixel:g} Å, got {final_pixel:g} Å")
    capacity = per_micrograph * len(paths)
    attributes: dict[str, Any] = {
        "voxel_size": final_pixel,
        "contrast": "protein bright",
        "micrographs": [path.name for path in paths],
        "sources": [],
        "noise_note": "",
        "options": {
            "boxes": table.source.name, "micrograph_pixel_size": pixel, "protein": protein, "distance": distance, "edge": edge,
            "particle_diameter": particle_diameter, "per_micrograph": per_micrograph, "boxes_of_no_micrograph": len(rows.unknown),
        },
    }  # fmt: skip
    shapes = {
        "patches": (capacity, box, box),
        **dict.fromkeys(("patch_mean", "patch_deviation", "patch_micrograph"), (capacity,)),
        "position": (capacity, 2),
        "radial_power": (box // 2 + 1,),
    }
    seen: dict[str, str] = {}
    sources: list[dict[str, Any]] = []
    count, total = 0, torch.zeros(box // 2 + 1, dtype=torch.float64)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _removed_on_error(out), build_store(out, "noise", shapes, attributes) as group:
        for number, path in enumerate(paths):
            on_progress("extract", number, len(paths))
            image, sha256 = _read(path, seen)
            cut, positions, defects = cut_patches(image, table.take(rows.rows[number]), pixel, wanted, path)
            sources.append({"name": path.name, "sha256": sha256, "patches": len(cut), "defects": defects})
            if len(cut):
                total += len(cut) * _append(group, count, number, cut, positions, protein)
                count += len(cut)
        on_progress("extract", len(paths), len(paths))
        if count == 0:
            raise InputError(
                f"expected room for a patch of {box * final_pixel:.0f} Å, found none on {len(paths)} micrographs: too many "
                f"particles or defects, or none picked; give a smaller --box, --distance, --edge or --particle-diameter"
            )
        for name in sorted(shapes.keys() - {"radial_power"}):
            array = group[name]
            assert isinstance(array, zarr.Array)
            array.resize((count, *array.shape[1:]))
        put(group, "radial_power", (total / count).float().numpy())
        note = (
            f"{count} patches of {box} px of {final_pixel:.4g} Å from {sum(s['patches'] > 0 for s in sources)} of {len(paths)} "
            f"micrographs, no two of which share a pixel, at least {distance:g} Å from every particle."
        )
        unpicked = sum(len(r) == 0 for r in rows.rows)
        if unpicked:
            note += f" {unpicked} micrographs without boxes were left out: whether they hold particles is not known."
        group.attrs.update({"noise_note": note, "sources": sources})
        finish_store(group)
    return note


@contextmanager
def _removed_on_error(out: Path) -> Iterator[None]:
    """Leave nothing of a store that was not finished: it cannot be taken up again."""
    try:
        yield
    except BaseException:
        shutil.rmtree(out.with_suffix(".building"), ignore_errors=True)
        raise


def _common_pixel_size(paths: list[Path], given: float | None) -> float:
    """Of all micrographs, from their headers or as given."""
    if given is not None:
        if not 0 < given < math.inf:
            raise InputError(f"expected a micrograph pixel size above 0 Å, got {given}")
        return given
    stated = {path: open_stack(path)[1] for path in paths}
    first = stated[paths[0]]
    for path, size in stated.items():
        if not size:
            raise InputError(f"{path}: the header states no pixel size; give --micrograph-pixel-size in angstrom")
        if abs(size / first - 1) > PIXEL_TOLERANCE:
            raise InputError(
                f"expected micrographs of one pixel size, got {first:g} Å ({paths[0].name}) and {size:g} Å ({path.name}); "
                f"extract them apart, or give --micrograph-pixel-size where a header is wrong"
            )
    return first


def _read(path: Path, seen: dict[str, str]) -> tuple[Micrograph, str]:
    """A micrograph and its file's digest; what was seen before, by file or by pixels, is refused."""
    stack, _ = open_stack(path)
    if len(stack) != 1:
        raise InputError(f"{path}: expected a micrograph, one image, got a stack of {len(stack)}; sum the frames first")
    image = np.array(stack[0], dtype=np.float32)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    for digest in (sha256, hashlib.sha256(image.tobytes()).hexdigest()):
        if seen.setdefault(digest, path.name) != path.name:
            raise InputError(
                f"expected different micrographs, {path.name} is the same as {seen[digest]}: patches of both would share their "
                "noise; leave one out"
            )
    return image, sha256


def _append(
    group: zarr.Group, start: int, micrograph: int, cut: NDArray[np.float32], positions: NDArray[np.int32], protein: str
) -> torch.Tensor:
    """Write patches of a micrograph from row ``start`` on; their mean radial power."""
    mean, deviation = cut.mean((1, 2), dtype=np.float64), cut.std((1, 2), dtype=np.float64)
    normal = (cut - mean[:, None, None]) / deviation[:, None, None] * (-1 if protein == "dark" else 1)
    patches = normal.astype(np.float32)
    put(group, "patches", patches, start)
    put(group, "patch_mean", mean.astype(np.float32), start)
    put(group, "patch_deviation", deviation.astype(np.float32), start)
    put(group, "patch_micrograph", np.full(len(cut), micrograph, np.int32), start)
    put(group, "position", positions, start)
    return radial_power(torch.as_tensor(patches)).double()
