"""MRC2014 files written whole or not at all: maps, and stacks image by image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import mode_from_dtype
from numpy.typing import ArrayLike, NDArray

from cryobench.errors import InputError
from cryobench.interop.atomic import written_whole

MapType: TypeAlias = Literal["float32", "float16", "int16", "int8"]
StackType: TypeAlias = Literal["float32", "float16"]
HALF_PRECISION_ERROR: Final = 1e-3
"""Largest root mean square error of float16 images, relative to their root mean square; rounding alone gives 2e-4."""


def write_map(path: str | Path, volume: ArrayLike, voxel_size: float, dtype: MapType = "float32") -> None:
    """Write a volume ``(z, y, x)`` with ``voxel_size`` in angstrom, all of it or nothing.

    The same volume gives the same bytes: the file carries no date.

    Raises:
        InputError: not three-dimensional, values that are not finite or that ``dtype`` cannot hold (integers: whole numbers
            only), or a voxel size that is not positive.
        StoreError: if it cannot be written.
    """
    path, given = Path(path), np.asarray(volume)
    if given.ndim != 3 or given.size == 0 or not np.isfinite(given).all() or not 0 < voxel_size < np.inf:
        raise InputError(
            f"expected a finite volume (z, y, x) and a voxel size above 0 to write to {path}, "
            f"got shape {given.shape}, voxel size {voxel_size:g} Å"
        )
    limits = np.iinfo(dtype) if np.dtype(dtype).kind == "i" else np.finfo(dtype)
    whole = np.dtype(dtype).kind == "f" or bool((given == np.rint(given)).all())
    if given.min() < limits.min or given.max() > limits.max or not whole:
        kind = "numbers" if np.dtype(dtype).kind == "f" else "whole numbers"
        raise InputError(
            f"expected {kind} from {limits.min} to {limits.max} to write {path} as {dtype}, got "
            f"{given.min():g} to {given.max():g}{'' if whole else ', not whole'}; scale the map or choose float32"
        )
    with written_whole(path) as partial, mrcfile.new(partial, overwrite=True) as file:
        file.set_data(given.astype(dtype))
        file.voxel_size = voxel_size
        file.header.nlabl = 0
        file.header.label = b""


def write_stack(
    path: Path, blocks: Iterable[NDArray[Any]], count: int, box: int, pixel_size: float, dtype: StackType = "float32"
) -> None:
    """Write ``count`` square images as they come, in ``blocks (n, y, x)``; no more than a block is held.

    Raises:
        InputError: if the images are not of that number and shape, or float16 would change them by more than
            :data:`HALF_PRECISION_ERROR`.
        StoreError: if the file cannot be written.
    """
    written, squares, error, total, low, high = 0, 0.0, 0.0, 0.0, np.inf, -np.inf
    with written_whole(path) as partial, partial.open("wb") as file:
        file.write(bytes(HEADER_DTYPE.itemsize))
        for block in blocks:
            if block.shape[1:] != (box, box) or written + len(block) > count:
                raise InputError(
                    f"expected {count} images of {box} x {box} px for {path.name}, got another {block.shape} after {written}"
                )
            with np.errstate(
                over="ignore", invalid="ignore"
            ):  # what float16 cannot hold becomes infinite, and is told below
                stored = block.astype(np.dtype(dtype).newbyteorder("<"))
                if dtype == "float16":
                    error += float(np.square(stored - block, dtype=np.float64).sum())
                total += float(stored.sum(dtype=np.float64))
            squares += float(np.square(block, dtype=np.float64).sum())
            low, high = min(low, float(stored.min())), max(high, float(stored.max()))
            file.write(np.ascontiguousarray(stored).data)
            written += len(block)
        if written != count:
            raise InputError(f"expected {count} images for {path.name}, got {written}")
        if not error <= HALF_PRECISION_ERROR**2 * squares:
            raise InputError(
                f"expected images that float16 can hold for {path.name}, got values from {low:g} to {high:g} with an error of "
                f"{np.sqrt(error / squares):.2g}; choose float32"
            )
        mean = total / (count * box**2)
        spread = np.sqrt(max(squares / (count * box**2) - mean**2, 0.0))
        file.seek(0)
        file.write(_stack_header(count, box, pixel_size, np.dtype(dtype), (low, high, mean, spread)))


def stack_bytes(count: int, box: int, dtype: StackType) -> int:
    """Size of the file that :func:`write_stack` writes."""
    return HEADER_DTYPE.itemsize + count * box**2 * np.dtype(dtype).itemsize


def _stack_header(
    count: int, box: int, pixel_size: float, dtype: np.dtype[Any], statistics: tuple[float, float, float, float]
) -> bytes:
    """MRC2014 header of an image stack: space group 0, one section to a cell, no labels and so no date."""
    header = np.zeros((), dtype=HEADER_DTYPE.newbyteorder("<"))
    header["nx"] = header["ny"] = header["mx"] = header["my"] = box
    header["nz"], header["mz"], header["mode"] = count, 1, mode_from_dtype(dtype)
    header["cella"] = (box * pixel_size, box * pixel_size, pixel_size)
    header["cellb"] = (90.0, 90.0, 90.0)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = statistics
    header["map"], header["machst"], header["nversion"] = b"MAP ", [0x44, 0x44, 0, 0], 20141
    return header.tobytes()
