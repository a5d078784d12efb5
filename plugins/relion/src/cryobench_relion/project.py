"""A half-set as a RELION project: image stack, particle STAR and, where the detector has one, its MTF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from cryobench.interop.mrc_write import write_stack
from cryobench.interop.mtf import write_mtf
from cryobench.interop.particles import CTF_COLUMNS, ParticleTable
from cryobench.interop.relion import write_particles
from cryobench.physics.detector import DetectorTransfer
from cryobench.reconstruct.contract import Observed

STACK: Final = "images.mrcs"
STAR: Final = "particles.star"
BLOCK: Final = 500
"""Images read and written together."""
MTF_SAMPLES: Final = 1001


def write_project(directory: Path, observed: Observed) -> float:
    """Write the half-set into ``directory`` as RELION expects it: background of mean 0 and standard deviation 1.

    One scale for all images, that of the half's own noise, so that their brightness relative to each other is kept. Poses are
    not written, nor anything else but images and CTFs.

    Returns:
        Standard deviation of the noise, by which the images were divided.
    """
    scale = noise_deviation(observed)
    count, box = len(observed), observed.box
    blocks = _blocks(observed, scale)
    write_stack(directory / STACK, blocks, count, box, observed.voxel_size)
    table = ParticleTable(
        source=Path(STAR),
        stack=np.full(count, STACK, dtype=object),
        index=np.arange(count),
        ctf={name: getattr(observed.ctf, name).double().numpy() for name in CTF_COLUMNS},
        pixel_size=np.full(count, observed.voxel_size),
        box=np.full(count, box),
        micrograph=np.full(count, "micrograph.mrc", dtype=object),
    )
    mtf = None if observed.detector is None else _write_mtf(directory, observed.detector, observed.voxel_size)
    write_particles(directory / STAR, table, mtf=mtf)
    return scale


def noise_deviation(observed: Observed) -> float:
    """Standard deviation of the noise in a pixel; that of the images themselves where the dataset has no noise."""
    noise = float(observed.noise_patches.double().square().mean().sqrt()) if len(observed.noise_patches) else 0.0
    if noise > 0:
        return noise
    images = observed.read(slice(0, BLOCK)).images
    return float(images.double().std()) or 1.0


def _blocks(observed: Observed, scale: float) -> Iterator[NDArray[Any]]:
    """Images, each with the mean of its background (outside the inscribed circle) taken away, over ``scale``."""
    outside = torch.as_tensor(_outside_circle(observed.box))
    for start in range(0, len(observed), BLOCK):
        images = observed.read(slice(start, start + BLOCK)).images
        background = images[:, outside].mean(-1)
        yield ((images - background[:, None, None]) / scale).numpy()


def _outside_circle(box: int) -> NDArray[np.bool_]:
    axis = np.arange(box) - box // 2
    outside: NDArray[np.bool_] = axis[:, None] ** 2 + axis**2 > (box // 2) ** 2
    return outside


def _write_mtf(directory: Path, detector: DetectorTransfer, pixel_size: float) -> str:
    name, cycles = "mtf.star", torch.linspace(0, 0.5, MTF_SAMPLES, dtype=torch.float64)
    write_mtf(directory / name, cycles.numpy(), detector.at(cycles / pixel_size).numpy())
    return name
