"""What a dataset holds, in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr

from cryobench.dataset.snr import describe_snr
from cryobench.dataset.store import digest, open_store


def describe_dataset(path: Path, with_digest: bool = False) -> list[tuple[str, str]]:
    """What a dataset holds, in words; of a run directory, also what its truth says of SNR and specimen.

    Args:
        path: of a run directory, an observed store or a noise store.
        with_digest: also tell the digest of all arrays, which are read for it.
    """
    if _is_noise(path):
        return _describe_noise(open_store(path, "noise"), with_digest)
    observed_path = path / "observed.zarr" if (path / "observed.zarr").exists() else path
    observed = open_store(observed_path, "observed")
    halves, box = observed["half"].values, observed.sizes["x"]
    voxel = observed.attrs["voxel_size"]
    defocus = (observed["defocus_u"].values + observed["defocus_v"].values) / 2
    rows = [
        ("particles", f"{len(halves)} ({(halves == 1).sum()} in half 1, {(halves == 2).sum()} in half 2)"),
        ("box", f"{box} px of {voxel:.4g} Å, {box * voxel:.1f} Å across; Nyquist {2 * voxel:.4g} Å"),
        ("micrographs", str(len(np.unique(observed["micrograph"].values)))),
        ("defocus", f"{defocus.min():.0f} to {defocus.max():.0f} Å, mean {defocus.mean():.0f} Å"),
        ("optics", f"{observed['voltage'].values[0]:g} kV, Cs {observed['spherical_aberration'].values[0]:g} mm"),
        ("symmetry", str(observed.attrs["symmetry"])),
        *([("CTF", str(observed.attrs["ctf_note"]))] if "ctf_note" in observed.attrs else []),
        ("assumed poses", str(observed.attrs["assumed_pose"])),
        ("assumed shifts", str(observed.attrs["assumed_shift"])),
        ("poses given", "yes" if "given_rotation" in observed else "no"),
        ("noise", str(observed.attrs["noise_note"])),
        ("noise patches", str(observed.sizes["patch"])),
        ("SNR estimate", describe_snr(observed)),
        ("stored as", _storage(observed["images"])),
    ]
    truth_path = observed_path.parent / "truth.zarr"
    if truth_path.exists():
        truth = open_store(truth_path, "truth")
        attrs = truth.attrs
        native = (
            "no noise" if attrs["snr_db"] is None else f"{attrs['snr_db']:.2f} dB at {attrs['native_pixel_size']} Å"
        )
        working = "" if attrs.get("working_snr_db") is None else f", {attrs['working_snr_db']:.2f} dB at {voxel:.4g} Å"
        sample, uncertain = attrs.get("snr_sample"), attrs.get("snr_standard_error_db")
        measured = f", measured on {'all ' if sample == len(halves) else ''}{sample} images" if sample else ""
        error = f" (standard error {uncertain:.2g} dB)" if uncertain else ""
        rows += [
            ("specimen", str(attrs["specimen"])),
            ("SNR", native + working + ("" if attrs["snr_db"] is None else measured + error)),
            ("scenario", str(attrs["scenario"]["name"])),
        ]
        if "state" in truth:
            shares = np.bincount(truth["state"].values) / len(halves)
            rows.append(("states", ", ".join(f"{number}: {share:.1%}" for number, share in enumerate(shares))))
    if with_digest:
        rows.append(("digest", digest(observed)))
    return rows


def _is_noise(path: Path) -> bool:
    try:
        root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        return bool(root["attributes"]["cryobench_store"] == "noise")
    except (OSError, ValueError, KeyError, TypeError):
        return False  # whatever it is, opening it as a dataset says what is wrong


def _describe_noise(noise: xr.Dataset, with_digest: bool) -> list[tuple[str, str]]:
    voxel, power = noise.attrs["voxel_size"], noise["radial_power"].values
    shells = np.unique(np.linspace(1, len(power) - 1, 5).round().astype(int))
    length = noise.sizes["x"] * voxel
    counts = np.array([source["patches"] for source in noise.attrs["sources"]])
    mean = power[1:].mean()
    return [
        ("noise", str(noise.attrs["noise_note"])),
        ("contrast", str(noise.attrs["contrast"])),
        ("spectrum", ", ".join(f"{power[k] / mean:.3g} at {length / k:.3g} Å" for k in shells) + " (of its mean)"),
        ("of each micrograph", f"{counts.min()} to {counts.max()} patches"),
        *([("digest", digest(noise))] if with_digest else []),
    ]


def _storage(images: xr.DataArray) -> str:
    error = images.attrs.get("rounding_error")
    if error is None:
        return str(images.encoding["dtype"])
    unit = images.encoding["scale_factor"]
    return f"{images.encoding['dtype']} in units of {unit:g}; rms of the rounding error {error:.1e} of the images' rms"
