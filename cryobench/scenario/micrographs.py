"""The micrographs of a dataset: the CTF of each, and the detector that recorded them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from cryobench.errors import InputError
from cryobench.interop.ctf_tables import OPTICS, CtfRows, read_ctf_rows
from cryobench.interop.mtf import read_mtf
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.detector import DetectorTransfer
from cryobench.scenario.ctf_spec import CTFSpec, FixedCTF, NoCTF, TableCTF, UniformCTF
from cryobench.scenario.streams import generator

Column: TypeAlias = NDArray[np.float64]


def draw_micrographs(spec: CTFSpec, seed: int) -> ContrastTransfer:
    """The CTF of every micrograph of a dataset; a single one of no effect where the scenario has no CTF."""
    match spec:
        case NoCTF():
            # with amplitude contrast 1 and no aberration the function is sin(pi / 2) = 1
            return _transfer(spec, {"defocus_u": np.zeros(1), "defocus_v": np.zeros(1), "defocus_angle": np.zeros(1)})
        case FixedCTF():
            return _transfer(spec, _defocus(np.array([spec.defocus]), spec, np.deg2rad([spec.astigmatism_angle])))
        case UniformCTF():
            defocus, angle = np.empty(spec.micrographs), np.empty(spec.micrographs)
            for index in range(spec.micrographs):
                source = generator(seed, "defocus", index)
                defocus[index] = source.uniform(spec.defocus_min, spec.defocus_max)
                angle[index] = source.uniform(0, np.pi)
            return _transfer(spec, _defocus(defocus, spec, angle))
        case TableCTF():
            rows, kept, _ = _chosen_rows(spec)
            left_out = OPTICS if spec.optics == "scenario" else ()
            columns = {name: values[kept] for name, values in rows.columns.items() if name not in left_out}
            columns["phase_shift"] = columns["phase_shift"] + np.deg2rad(spec.phase_shift_degrees)
            return _transfer(spec, columns)


def _defocus(mean: Column, spec: FixedCTF | UniformCTF, angle: Column) -> dict[str, Column]:
    half = spec.astigmatism / 2
    return {"defocus_u": mean + half, "defocus_v": mean - half, "defocus_angle": angle}


def _transfer(spec: CTFSpec, columns: dict[str, Column]) -> ContrastTransfer:
    """The parameters that ``columns`` lack are the scenario's, the same for all."""
    flat = isinstance(spec, NoCTF)
    shared = {
        "voltage": spec.voltage,
        "spherical_aberration": 0.0 if flat else spec.spherical_aberration,
        "amplitude_contrast": 1.0 if flat else spec.amplitude_contrast,
        "phase_shift": 0.0 if flat else np.deg2rad(spec.phase_shift_degrees),
        "b_factor": spec.b_factor,
    }
    everywhere = {name: np.full_like(columns["defocus_u"], value) for name, value in shared.items()}
    return ContrastTransfer.stack({name: torch.as_tensor(values) for name, values in (everywhere | columns).items()})


def _chosen_rows(spec: TableCTF) -> tuple[CtfRows, NDArray[np.intp], dict[str, int]]:
    """The distinct rows of the table, which of them keep every rule, and how many were dropped by each (the first broken).

    Raises:
        InputError: if no row is left.
    """
    rows = read_ctf_rows(spec.path)
    u, v = rows.columns["defocus_u"], rows.columns["defocus_v"]
    mean = (u + v) / 2
    reached = np.zeros(len(rows)) if rows.fit_resolution is None else rows.fit_resolution
    rules = {
        f"fitted no better than {spec.max_fit_resolution:g} Å": reached > spec.max_fit_resolution,
        f"defocus not from {spec.min_defocus:g} to {spec.max_defocus:g} Å": ~(
            (mean >= spec.min_defocus) & (mean <= spec.max_defocus)
        ),
        f"astigmatism above {spec.max_astigmatism:g} of the defocus": np.abs(u - v)
        > spec.max_astigmatism * np.abs(mean),
    }
    kept, dropped = np.ones(len(rows), dtype=bool), {}
    for rule, broken in rules.items():
        dropped[rule] = int((kept & broken).sum())
        kept &= ~broken
    if not kept.any():
        told = "; ".join(f"{count} {rule}" for rule, count in dropped.items() if count)
        best = "" if rows.fit_resolution is None else f"; the best fit reaches {rows.fit_resolution.min():.3g} Å"
        raise InputError(
            f"{rows.source.name}: expected CTFs that keep the scenario's rules, all {len(rows)} break one ({told}{best}); "
            "fit again, or relax the rule, such as --set ctf.max_fit_resolution=20"
        )
    return rows, np.flatnonzero(kept), dropped


def table_micrographs(spec: TableCTF) -> dict[str, int]:
    """Micrographs that the table names, and the row that each has among those that :func:`draw_micrographs` takes."""
    rows, kept, _ = _chosen_rows(spec)
    number = {int(row): i for i, row in enumerate(kept)}
    return {name: number[row] for name, row in rows.micrographs.items() if row in number}


def describe_micrographs(spec: CTFSpec) -> str:
    """Where the CTFs come from, and of a table's rows how many were taken and how many dropped by which rule: a sentence."""
    match spec:
        case NoCTF():
            return "No CTF."
        case FixedCTF():
            return f"One CTF for all images, defocus {spec.defocus:g} Å."
        case UniformCTF():
            return f"Defocus uniform from {spec.defocus_min:g} to {spec.defocus_max:g} Å over {spec.micrographs} micrographs."
        case TableCTF():
            rows, kept, dropped = _chosen_rows(spec)
            lost = ", ".join(f"{count} {rule}" for rule, count in dropped.items() if count)
            unknown = "" if rows.fit_resolution is not None else " The file does not say what a fit reached."
            own = [name for name in OPTICS if name in rows.columns and spec.optics == "table"]
            optics = (
                f"Optics of the table: {', '.join(own).replace('_', ' ')}." if own else "Optics are the scenario's."
            )
            return (
                f"CTFs of {rows.source.name}: {rows.listed} rows, {len(rows)} distinct, {len(kept)} taken; "
                f"dropped: {lost or 'none'}.{unknown} {optics}"
            )


def detector_of(spec: CTFSpec, native_pixel_size: float) -> DetectorTransfer | None:
    """The detector's MTF over frequencies in 1/angstrom, where the scenario names one.

    Args:
        spec: whose ``mtf`` it is.
        native_pixel_size: angstrom; of the detector's pixel, where the scenario states no other.
    """
    if spec.mtf is None:
        return None
    frequencies, values = read_mtf(spec.mtf)
    return DetectorTransfer(
        torch.as_tensor(frequencies / (spec.mtf_pixel_size or native_pixel_size)), torch.as_tensor(values)
    )
