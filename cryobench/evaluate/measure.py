"""Every number and curve of superposed maps, as ``result.json`` carries them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import torch

from cryobench.conventions import THRESHOLDS
from cryobench.evaluate.describe import describe_alignments, describe_resolutions
from cryobench.evaluate.directional import DIRECTIONS, correlate_cones, measure_anisotropy, spread_directions
from cryobench.evaluate.filters import filter_volume
from cryobench.evaluate.fsc import correlate, frequency, half_map_ssnr, resolution, spatial_frequencies, truth_ssnr
from cryobench.evaluate.hallucination import measure_gap
from cryobench.evaluate.masked import choose_mask, measure_masked
from cryobench.evaluate.options import Options
from cryobench.evaluate.superpose import Superposed
from cryobench.evaluate.uncertainty import measure_intervals
from cryobench.types import Curve, Volume

TRUTH_CURVES: Final = {"mean": "truth", "half1": "truth_half1", "half2": "truth_half2"}
Pairs = dict[str, tuple[Volume, Volume]]


def measure(superposed: Superposed, voxel_size: float, symmetry: str, options: Options) -> dict[str, Any]:
    """Curves, resolutions and what else says how good the maps are; not rounded."""
    box = superposed.maps["mean"].shape[-1]
    mask, mask_said = choose_mask(superposed, voxel_size, options)

    def prepare(volume: Volume) -> Volume:
        return filter_volume(volume, options.gaussian_filter) if options.gaussian_filter else volume

    pairs: Pairs = {}
    if "half1" in superposed.maps:
        pairs["half_map"] = (prepare(superposed.maps["half1"]), prepare(superposed.maps["half2"]))
    originals = {**superposed.maps, "half2": superposed.unmoved_half2}
    for name, moved in superposed.truths.items():
        volume = originals[name]
        assert volume is not None
        pairs[TRUTH_CURVES[name]] = (prepare(volume), prepare(moved))
    curves: dict[str, Curve | None] = dict.fromkeys(("half_map", *TRUTH_CURVES.values()))
    curves |= {name: correlate(*pair) for name, pair in pairs.items()}
    chief: Pairs = {name: pairs[name] for name in ("half_map", "truth") if name in pairs}
    return {
        "voxel_size": voxel_size,
        "box": box,
        "resolution": {n: None if c is None else describe_resolutions(c, box, voxel_size) for n, c in curves.items()},
        "fsc": {
            "shell": list(range(box // 2 + 1)),
            "spatial_frequency": spatial_frequencies(box, voxel_size).tolist(),
            **{name: None if curve is None else curve.tolist() for name, curve in curves.items()},
        },
        "masked": {
            "mask": mask_said,
            **dict.fromkeys(("half_map", "truth")),
            **{name: measure_masked(pair, mask, voxel_size) for name, pair in chief.items()},
        },
        "correlation": _correlations(chief, mask),
        "ssnr": {
            "half_map": _listed(curves["half_map"], half_map_ssnr),
            "truth": _listed(curves["truth"], truth_ssnr),
        },
        "hallucination": _describe_gap(curves["half_map"], curves["truth"]),
        "intervals": measure_intervals(chief, curves, voxel_size, symmetry, options.bootstrap_draws),
        "directional": {name: _measure_directions(pair, voxel_size) for name, pair in chief.items()},
        "gaussian_filter": options.gaussian_filter,
        "alignment": describe_alignments(superposed),
    }


def _correlations(pairs: Pairs, mask: Volume) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in ("half_map", "truth"):
        pair = pairs.get(name)
        found[name] = None if pair is None else correlation(*pair)
        found[f"{name}_masked"] = None if pair is None else correlation(*pair, mask)
    return found


def correlation(a: Volume, b: Volume, mask: Volume | None = None) -> float:
    """Pearson's correlation coefficient of the voxels, weighted by the mask where there is one; 0 if either is constant."""
    weight = torch.ones_like(a) if mask is None else mask
    total = weight.sum()
    a, b = (v - (weight * v).sum() / total for v in (a, b))
    power = (weight * a * a).sum() * (weight * b * b).sum()
    return float((weight * a * b).sum() / power.sqrt()) if power > 0 else 0.0


def _listed(curve: Curve | None, function: Callable[[Curve], Curve]) -> list[float] | None:
    return None if curve is None else function(curve).tolist()


def _describe_gap(half_map: Curve | None, truth: Curve | None) -> dict[str, Any] | None:
    if half_map is None or truth is None:
        return None
    gap = measure_gap(half_map, truth)
    return {
        "expected": gap.expected.tolist(),
        "gap": gap.by_shell.tolist(),
        "mean_gap": gap.mean,
        "last_shell": gap.last_shell,
    }


def _measure_directions(pair: tuple[Volume, Volume], voxel_size: float) -> dict[str, Any] | None:
    if not (pair[0].any() and pair[1].any()):
        return None
    directions = spread_directions(DIRECTIONS)
    curves, box = correlate_cones(*pair, directions), pair[0].shape[-1]
    found: dict[str, Any] = {}
    for threshold in THRESHOLDS:
        spread = asdict(measure_anisotropy(curves, directions, threshold, voxel_size, box))
        found[f"{threshold:g}"] = {**spread, "worst_direction": list(spread["worst_direction"])}
    reached = [frequency(resolution(curve, THRESHOLDS[0], box, voxel_size)) for curve in curves]
    order = sorted(range(len(reached)), key=reached.__getitem__)
    chosen = {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}
    return found | {"curves": {name: curves[cone].tolist() for name, cone in chosen.items()}}
