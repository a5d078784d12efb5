"""Findings as ``result.json`` states them: plain numbers, names and lists."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryobench.evaluate.fsc import resolutions
from cryobench.evaluate.move import Alignment
from cryobench.evaluate.superpose import Superposed
from cryobench.types import Curve, Volume


def describe_resolutions(curve: Curve, box: int, voxel_size: float) -> dict[str, dict[str, Any]]:
    """Resolution at each threshold: ``{"0.143": {value, state}, "0.5": ...}``."""
    return {threshold: asdict(found) for threshold, found in resolutions(curve, box, voxel_size).items()}


def describe_alignments(superposed: Superposed) -> dict[str, Any]:
    """How half 2 was put on half 1, and how each map would be put on the truth; None where there was nothing to do."""
    found: dict[str, Alignment | None] = {"half2_to_half1": superposed.between}
    found |= {f"{name}_to_truth": superposed.to_truth.get(name) for name in ("mean", "half1", "half2")}
    return {name: None if one is None else _describe(one) for name, one in found.items()}


def _describe(alignment: Alignment) -> dict[str, Any]:
    other = alignment.correlation_other_hand
    return {
        "rotation_degrees": math.degrees(alignment.angle),
        "quaternion": list(alignment.rotation),
        "shift": list(alignment.shift),
        "mirrored": alignment.mirrored,
        "hand": alignment.hand,
        "hand_margin": None if other is None else alignment.correlation - other,
        "correlation": alignment.correlation,
        "correlation_other_hand": other,
    }


def describe_file(path: Path) -> dict[str, str]:
    """A file by its name, whatever folder it lies in, and the SHA-256 of its content."""
    with path.open("rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def digest_volume(volume: Volume) -> str:
    """SHA-256 of a volume's values in single precision."""
    return hashlib.sha256(volume.detach().cpu().numpy().astype("<f4").tobytes()).hexdigest()


def rounded(value: Any) -> Any:
    """Floats cut to six significant digits, all the way down; what is not finite becomes None."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
