"""Micrographs that are simulated in a second, with all that is beside them on a disc: boxes, coordinates and CTF tables.

A micrograph is built as the microscope builds it: projections of the specimen are laid on an empty field at known positions,
whole pixels and fractions; the CTF acts on the whole field, so that a particle's fringes run over its neighbours; then noise of a
stated spectrum, the unevenness of the ice and the detector's grey values come on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import mrcfile
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryobench.interop.box_files import write_boxes
from cryobench.interop.boxes import BoxTable
from cryobench.interop.star import loop_lines
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.noise import colour
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.types import Volume

OPTICS = {"voltage": 300.0, "spherical_aberration": 2.7, "amplitude_contrast": 0.1}
GREY, GREY_PER_DEVIATION = 2000.0, 60.0
"""Mean grey value of a micrograph, and how many grey values the noise's standard deviation spans."""
RAMP = 1.5
"""Unevenness of the ice from side to side, in standard deviations of the noise."""


@final
@dataclass(frozen=True)
class SimulatedMicrographs:
    """Paths of what was written, and the truth of it.

    Attributes:
        micrographs: MRC files.
        boxes: directory of one EMAN ``.box`` file (whole pixels) for each micrograph.
        coordinates: STAR file of all particles, with the fractions of pixels.
        ctf_text: CTFFIND4 lines of all micrographs, joined.
        ctf_star: ``micrographs_ctf.star``.
        pixel_size: angstrom.
        centres: ``(particle, 2)`` in (x, y), pixels.
        micrograph: ``(particle,)`` number of the micrograph.
        quaternions: ``(particle, 4)`` poses.
        ctf: of every micrograph.
        signal: ``(micrograph, y, x)`` without noise, protein bright, in units of the noise's standard deviation.
    """

    micrographs: list[Path]
    boxes: Path
    coordinates: Path
    ctf_text: Path
    ctf_star: Path
    pixel_size: float
    centres: NDArray[np.float64]
    micrograph: NDArray[np.int64]
    quaternions: Tensor
    ctf: ContrastTransfer
    signal: Tensor


def simulate_micrographs(
    directory: Path,
    volume: Volume,
    pixel_size: float,
    *,
    count: int = 2,
    shape: tuple[int, int] = (400, 440),
    particles: int = 20,
    snr: float = 1.0,
    protein: Literal["dark", "bright"] = "dark",
    dtype: Literal["float32", "int16"] = "float32",
    seed: int = 0,
) -> SimulatedMicrographs:
    """Simulate ``count`` micrographs of a specimen into ``directory``, made if need be.

    Args:
        directory: gets the micrographs and all that is beside them.
        volume: the specimen, ``(z, y, x)``; its side is the particles' box.
        pixel_size: of volume and micrographs, angstrom.
        count: of micrographs.
        shape: of each, (y, x) in pixels.
        particles: on each, at most; no two nearer than the box, some nearer than half of it to the edge.
        snr: variance of the signal over that of the noise, within the particles' boxes.
        protein: contrast of the files.
        dtype: of the files.
        seed: of everything.
    """
    directory.mkdir(parents=True, exist_ok=True)
    numbers, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    box, names = len(volume), [f"mic_{i:03d}" for i in range(count)]
    centres = [_scatter(numbers, shape, particles, box) for _ in names]
    quaternions = [uniform_quaternions(len(c), generator).double() for c in centres]
    ctf = _microscope(numbers, count)
    signal = torch.stack(
        [_field(volume, pixel_size, shape, *part) for part in zip(centres, quaternions, _each(ctf), strict=True)]
    )
    signal = signal * (snr / float(_within_boxes(signal, centres, box).var())) ** 0.5
    paths = [directory / f"{name}.mrc" for name in names]
    for path, field in zip(paths, signal, strict=True):
        grey = _expose(field, generator)
        _write(path, grey if protein == "bright" else 2 * GREY - grey, pixel_size, dtype)
    boxes = directory / "boxes"
    boxes.mkdir(exist_ok=True)
    for name, part in zip(names, centres, strict=True):
        write_boxes(boxes / f"{name}.box", BoxTable(directory, None, part.round(), np.full(len(part), box)))
    micrograph = np.repeat(np.arange(count), [len(c) for c in centres])
    files = np.array([path.name for path in paths], dtype=object)
    table = BoxTable(directory, files[micrograph], np.concatenate(centres), np.zeros(len(micrograph), dtype=np.int64))
    write_boxes(directory / "coordinates.star", table)
    ctf_text, ctf_star = directory / "ctf.txt", directory / "micrographs_ctf.star"
    _write_ctf(ctf_text, ctf_star, files, ctf, pixel_size)
    return SimulatedMicrographs(
        paths,
        boxes,
        directory / "coordinates.star",
        ctf_text,
        ctf_star,
        pixel_size,
        table.centres,
        micrograph,
        torch.cat(quaternions),
        ctf,
        signal,
    )


def _scatter(numbers: np.random.Generator, shape: tuple[int, int], particles: int, box: int) -> NDArray[np.float64]:
    """Positions (x, y) at random, each at least ``box`` from those before it."""
    kept = np.empty((0, 2))
    for _ in range(200 * particles):
        candidate = numbers.uniform((0, 0), (shape[1], shape[0]))
        if len(kept) < particles and (np.linalg.norm(kept - candidate, axis=-1) >= box).all():
            kept = np.vstack([kept, candidate])
    return kept


def _microscope(numbers: np.random.Generator, count: int) -> ContrastTransfer:
    defocus = numbers.uniform(8e3, 2e4, count)
    columns = {
        "defocus_u": defocus + 150,
        "defocus_v": defocus - 150,
        "defocus_angle": numbers.uniform(0, np.pi, count),
        **{name: np.full(count, value) for name, value in OPTICS.items()},
        "phase_shift": np.zeros(count),
        "b_factor": np.zeros(count),
    }
    return ContrastTransfer.stack({name: torch.as_tensor(column) for name, column in columns.items()})


def _each(ctf: ContrastTransfer) -> list[ContrastTransfer]:
    return [ctf[slice(i, i + 1)] for i in range(len(ctf))]


def _field(
    volume: Volume,
    pixel_size: float,
    shape: tuple[int, int],
    centres: NDArray[np.float64],
    quaternions: Tensor,
    ctf: ContrastTransfer,
) -> Tensor:
    """The signal of one micrograph: computed on a square with room for what the CTF spreads past the edges."""
    box = len(volume)
    side = max(shape) + 4 * box
    canvas, whole = torch.zeros(side, side), np.rint(centres).astype(np.int64)
    shifts = torch.as_tensor((centres - whole) * pixel_size).float()
    operator = ImagingOperator(box, pixel_size, quaternion_to_matrix(quaternions).float(), shifts, slicing="padded")
    for image, (x, y) in zip(operator(volume.float()), whole + 2 * box - box // 2, strict=True):
        canvas[y : y + box, x : x + box] += image
    spectrum = torch.fft.rfft2(canvas) * ctf.evaluate(side, pixel_size)[0].float()
    field = torch.fft.irfft2(spectrum, s=(side, side))
    return field[2 * box : 2 * box + shape[0], 2 * box : 2 * box + shape[1]]


def _within_boxes(signal: Tensor, centres: list[NDArray[np.float64]], box: int) -> Tensor:
    """All pixels of the boxes that lie whole on their micrograph."""
    parts = []
    for field, positions in zip(signal, centres, strict=True):
        for x, y in np.rint(positions).astype(np.int64) - box // 2:
            if 0 <= x <= field.shape[1] - box and 0 <= y <= field.shape[0] - box:
                parts.append(field[y : y + box, x : x + box].flatten())
    return torch.cat(parts)


def _expose(field: Tensor, generator: torch.Generator) -> Tensor:
    """Grey values: the signal with coloured noise of unit variance, uneven ice and the detector's scale."""
    side = max(field.shape)
    shells = torch.arange(side // 2 + 1) / side  # frequencies, 1/px
    power = 0.4 + 1.5 / (1 + (shells / 0.08) ** 2)
    noise = colour(torch.randn(1, side, side, generator=generator), power)[0]
    noise = (noise / noise.std())[: field.shape[0], : field.shape[1]]
    y, x = (torch.linspace(-0.5, 0.5, n) for n in field.shape)
    return GREY + GREY_PER_DEVIATION * (field + noise + RAMP * (0.8 * x[None, :] - 0.6 * y[:, None]))


def _write(path: Path, grey: Tensor, pixel_size: float, dtype: str) -> None:
    values = grey.numpy() if dtype == "float32" else grey.round().numpy()
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(values.astype(dtype))
        file.voxel_size = pixel_size


def _write_ctf(text: Path, star: Path, files: NDArray[np.object_], ctf: ContrastTransfer, pixel_size: float) -> None:
    u, v = ctf.defocus_u.numpy(), ctf.defocus_v.numpy()
    angle = np.rad2deg(ctf.defocus_angle.numpy())
    lines = [f"{f} 1.0 {a:.6f} {b:.6f} {c:.6f} 0.0 0.1 3.5\n" for f, a, b, c in zip(files, u, v, angle, strict=True)]
    text.write_text("".join(lines), encoding="utf-8")
    optics = {
        "rlnOpticsGroup": np.array([1]),
        "rlnOpticsGroupName": np.array(["opticsGroup1"], dtype=object),
        "rlnMicrographPixelSize": np.array([pixel_size]),
        "rlnVoltage": np.array([OPTICS["voltage"]]),
        "rlnSphericalAberration": np.array([OPTICS["spherical_aberration"]]),
        "rlnAmplitudeContrast": np.array([OPTICS["amplitude_contrast"]]),
    }
    rows = {
        "rlnMicrographName": files,
        "rlnOpticsGroup": np.ones(len(files), dtype=np.int64),
        "rlnDefocusU": u,
        "rlnDefocusV": v,
        "rlnDefocusAngle": angle,
        "rlnCtfMaxResolution": np.full(len(files), 3.5),
    }
    star.write_text("".join([*loop_lines("optics", optics), *loop_lines("micrographs", rows)]), encoding="utf-8")
