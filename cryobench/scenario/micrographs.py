"""The micrographs of a dataset: the CTF of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cryobench.interop.ctffind import read_ctf_table
from cryobench.physics.ctf import ContrastTransfer
from cryobench.scenario.ctf_spec import CTFSpec, NoCTF, TableCTF, UniformCTF
from cryobench.scenario.streams import generator


def draw_micrographs(spec: CTFSpec, seed: int) -> ContrastTransfer:
    """The CTF of every micrograph of a dataset; a single one of no effect where the scenario has no CTF."""
    match spec:
        case NoCTF():
            # with amplitude contrast 1 and no aberration the function is sin(pi / 2) = 1
            return _transfer(spec, *(np.zeros(1) for _ in range(3)))
        case UniformCTF():
            defocus, angle = np.empty(spec.micrographs), np.empty(spec.micrographs)
            for index in range(spec.micrographs):
                source = generator(seed, "defocus", index)
                defocus[index] = source.uniform(spec.defocus_min, spec.defocus_max)
                angle[index] = source.uniform(0, np.pi)
            return _transfer(spec, defocus + spec.astigmatism / 2, defocus - spec.astigmatism / 2, angle)
        case TableCTF():
            table = read_ctf_table(Path(spec.path), max_resolution=spec.max_fit_resolution)
            return _transfer(spec, table.defocus_u, table.defocus_v, table.defocus_angle, table.phase_shift)


def _transfer(
    spec: CTFSpec,
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    angle: NDArray[np.float64],
    phase: NDArray[np.float64] | float = 0,
) -> ContrastTransfer:
    ones = np.ones_like(u)
    flat = isinstance(spec, NoCTF)
    columns = {
        "defocus_u": u,
        "defocus_v": v,
        "defocus_angle": angle,
        "voltage": spec.voltage * ones,
        "spherical_aberration": (0 if flat else spec.spherical_aberration) * ones,
        "amplitude_contrast": (1.0 if flat else spec.amplitude_contrast) * ones,
        "phase_shift": (np.deg2rad(0 if flat else spec.phase_shift_degrees) + phase) * ones,
        "b_factor": spec.b_factor * ones,
    }
    return ContrastTransfer.stack({name: torch.as_tensor(column) for name, column in columns.items()})
