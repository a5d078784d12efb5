"""The mask that an evaluation uses, and what the maps score under it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryobench.errors import InputError
from cryobench.evaluate.correction import correct_for_mask
from cryobench.evaluate.describe import describe_resolutions
from cryobench.evaluate.masks import find_flaws, make_specimen_mask, make_sphere_mask
from cryobench.evaluate.move import apply
from cryobench.evaluate.options import Options
from cryobench.evaluate.stores import read_map_at
from cryobench.evaluate.superpose import Superposed
from cryobench.types import Volume


def choose_mask(superposed: Superposed, voxel_size: float, options: Options) -> tuple[Volume, dict[str, Any]]:
    """A mask in the frame of the mean map, and what it is."""
    box, truth = superposed.maps["mean"].shape[-1], superposed.truths.get("mean")
    kind = options.mask
    if kind == "auto":
        kind = "sphere" if truth is None or not truth.any() else "specimen"
    if kind == "sphere":
        mask, origin = make_sphere_mask(box, voxel_size, options.mask_radius), "sphere"
    elif truth is None:
        raise InputError(
            f"expected a truth, in whose frame a mask of {str(kind)!r} lies, found none; use mask 'sphere'"
        )
    elif kind == "specimen":
        mask, origin = make_specimen_mask(truth, voxel_size), "specimen"
    else:
        mask, resampled = read_map_at(Path(kind), box, voxel_size, options.resample, "mask")
        if resampled is not None:
            mask = mask.clamp(0, 1)  # the ripples of a sharp edge go beyond
        flaws = [*([resampled] if resampled else []), *find_flaws(mask)]
        mask = apply(superposed.to_truth["mean"].inverse(), mask).clamp(0, 1)
        return mask, _mask_said(Path(kind).name, mask, truth, flaws)
    return mask, _mask_said(origin, mask, truth, [])


def _mask_said(kind: str, mask: Volume, truth: Volume | None, flaws: list[str]) -> dict[str, Any]:
    flaws = list(dict.fromkeys([*flaws, *find_flaws(mask, truth if truth is not None and truth.any() else None)]))
    return {"kind": kind, "volume_fraction": float(mask.mean()), "flaws": flaws}


def measure_masked(pair: tuple[Volume, Volume], mask: Volume, voxel_size: float) -> dict[str, Any]:
    """Masked, randomised and corrected curves of two maps and the resolutions of the first and the last."""
    found, box = correct_for_mask(*pair, mask), mask.shape[-1]
    kept = {"masked": found.masked, "randomised": found.randomised, "corrected": found.corrected}
    return {
        **{name: curve.tolist() for name, curve in kept.items()},
        "randomised_from": found.randomised_from,
        "resolution": {name: describe_resolutions(kept[name], box, voxel_size) for name in ("masked", "corrected")},
    }
