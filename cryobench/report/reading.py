"""Reading results: what a ``result.json`` states, which of its figures count, and what the yardsticks beside them score."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from cryobench.errors import InputError

Found: TypeAlias = Mapping[str, Any]
"""A resolution as ``result.json`` states it: ``value`` in angstrom or None, and ``state``."""

ELLIPSOID, NOISE_HALVES, ORACLE_POSES = "ellipsoid", "two pure-noise halves", "oracle poses"
"""What the yardsticks are called."""
IMPORTED_POSES: Final = "imported poses"
YARDSTICKS: Final = {"ellipsoid": ELLIPSOID, "noise_halves": NOISE_HALVES, "oracle_poses": ORACLE_POSES}
_SCHEMA = 1
_KEYS = (
    "method", "params", "scenario", "specimen", "seed", "dataset", "budget_seconds", "voxel_size", "box", "symmetry",
    "oracle_poses", "particles", "resolution", "fsc", "alignment", "over_time", "snr", "noise", "cost", "provenance",
)  # fmt: skip


def read_result(path: Path) -> dict[str, Any]:
    """The contents of a ``result.json`` of this version's schema.

    Raises:
        InputError: if it is missing, no JSON, of another schema, or lacks keys.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"expected a result at {path}, found nothing; evaluate the run first") from None
    except ValueError as error:
        raise InputError(f"expected JSON in {path}, could not read it: {error}; evaluate the run again") from None
    schema = result.get("schema") if isinstance(result, dict) else None
    if schema != _SCHEMA:
        raise InputError(f"expected schema {_SCHEMA} in {path}, got {schema!r}; evaluate the run with this version")
    lacking = [key for key in _KEYS if key not in result]
    if lacking:
        raise InputError(f"expected the keys {lacking} in {path}, found none of them; evaluate the run again")
    return result


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings with the keys that lead to it, as words and in order: ``("versions torch", "2.13")``."""
    for key, value in sorted(tree.items()):
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}".replace("_", " "), value


def spatial_frequency(found: Found) -> float:
    """The resolution as a spatial frequency in 1/angstrom, which orders as resolutions do not; 0 where it was not reached."""
    return 0.0 if found["value"] is None else 1 / found["value"]


def nyquist_of(result: Mapping[str, Any]) -> float:
    """The finest resolution that the box of a result can show, angstrom."""
    return 2 * float(result["voxel_size"])


def told_poses(result: Mapping[str, Any]) -> str | None:
    """Whose poses the method was told, as a label: ``"oracle poses"``, ``"imported poses"``, or None where it was told none."""
    if result["oracle_poses"]:
        return ORACLE_POSES
    return IMPORTED_POSES if result.get("given_poses") == "imported" else None


def find_objection(result: Mapping[str, Any]) -> str | None:
    """Why the half-map figures of a result do not count; None where they do.

    Half-maps may agree on what is not there. They count where the mean map reaches 0.5 against the truth, and does so at a finer
    resolution than the best ellipsoid: two equal blobs agree with each other at every resolution.
    """
    truth = result["resolution"].get("truth")
    if truth is None:
        return "no truth to hold them against"
    if truth["0.5"]["value"] is None:
        return "truth 0.5 not reached"
    blob = ((result.get("yardsticks") or {}).get("ellipsoid") or {}).get("resolution")
    if blob is not None and spatial_frequency(truth["0.5"]) <= spatial_frequency(blob["truth"]["0.5"]):
        return "truth 0.5 reached no better than by an ellipsoid"
    return None


def read_yardsticks(result: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Found]]]:
    """Name, comparison (``"half_map"`` or ``"truth"``) and resolutions of every yardstick that was measured.

    Args:
        result: contents of ``result.json``.
    """
    yardsticks = result.get("yardsticks") or {}
    for key, name in YARDSTICKS.items():
        resolutions = (yardsticks.get(key) or {}).get("resolution") or {}
        for comparison in ("half_map", "truth"):
            if (found := resolutions.get(comparison)) is not None:
                yield name, comparison, found
