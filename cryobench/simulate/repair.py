"""Completing what is there: what is missing or damaged is found, and that alone is made anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from cryobench.dataset.check import find_damage
from cryobench.dataset.schema import OBSERVED
from cryobench.dataset.store import digest, open_store, shards, writing
from cryobench.errors import StoreError

PARTICLE_VARIABLES = [name for name, variable in OBSERVED.items() if variable.dims[0] == "particle"]


Todo: TypeAlias = dict[tuple[int, int], frozenset[str]]
"""Variables that are to be written of each shard, by its first and one-past-last particle."""


def restore_truth(directory: Path, write: Callable[[Path], object]) -> None:
    """Make a lost or damaged truth anew, and take it if it is the one that the images beside it were made from.

    Args:
        directory: of the dataset.
        write: writes the truth that the scenario and seed at hand give to a path.

    Raises:
        StoreError: if the images were made from another one, or do not say.
    """
    truth, rebuilt = directory / "truth.zarr", directory / "truth.rebuilt.zarr"
    stated = stated_truth_digest(directory / "observed.zarr")
    if stated is None:
        raise StoreError(
            f"{truth} is missing or damaged, and no observed.zarr beside it tells whether it would be made "
            f"anew the same; remove {directory}, or choose another directory with --out"
        )
    shutil.rmtree(rebuilt, ignore_errors=True)
    write(rebuilt)
    made = open_store(rebuilt, "truth")
    if digest(made, salt=str(made.attrs["salt"])) != stated:
        shutil.rmtree(rebuilt)
        raise StoreError(
            f"{directory / 'observed.zarr'} has no truth beside it that is whole, and it is not this scenario's with this seed "
            "and these versions of cryobench and its libraries; choose another directory with --out"
        )
    _swap(rebuilt, truth)


def stated_truth_digest(observed: Path) -> str | None:
    """The salted digest of the truth that images were made from, from the store's metadata or else from that of its images."""
    for file in (observed / "zarr.json", observed / "images" / "zarr.json"):
        try:
            return str(json.loads(file.read_text(encoding="utf-8"))["attributes"]["truth_digest"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def restore_observed(observed: Path, create: Callable[[Path], None], on_progress: Callable[[int, int], None]) -> Todo:
    """Mend all of ``observed.zarr`` but what belongs to single particles, and tell what of those is missing.

    Args:
        observed: the store, whole, begun or damaged.
        create: writes the same store to a path, without what belongs to single particles.
        on_progress: called with (chunks checked, chunks in all).
    """
    damage = find_damage(observed, "observed", on_progress)
    if any(item.variable not in PARTICLE_VARIABLES or item.rows is None for item in damage):
        rebuilt = observed.with_name("observed.rebuilt.zarr")
        shutil.rmtree(rebuilt, ignore_errors=True)
        create(rebuilt)
        _adopt_chunks(observed, rebuilt, {item.file for item in damage})
        _swap(rebuilt, observed)
        damage = find_damage(observed, "observed", on_progress)
    lost: dict[int, set[str]] = {}
    for item in damage:
        assert item.variable is not None
        assert item.rows is not None
        lost.setdefault(item.rows[0], set()).add(item.variable)
        (observed / item.file).unlink(missing_ok=True)  # zarr would read what it is to write over in part
    return {span: frozenset(lost[span[0]]) for span in shards(particles_of(observed)) if span[0] in lost}


def clear_leftovers(directory: Path) -> None:
    """Remove what a stopped run left half-written; nothing of it was ever in its place."""
    for store in ("truth", "observed"):
        for left in ("building", "rebuilt.zarr", "rebuilt.building", "discarded"):
            shutil.rmtree(directory / f"{store}.{left}", ignore_errors=True)
    for partial in (directory / "observed.zarr").rglob("*.partial"):
        partial.unlink(missing_ok=True)


def particles_of(observed: Path) -> int:
    """Particles of a store, finished or not."""
    return int(json.loads((observed / "images" / "zarr.json").read_text(encoding="utf-8"))["shape"][0])


def _adopt_chunks(old: Path, new: Path, broken: set[str]) -> None:
    """Move every chunk of single particles' variables but the broken ones."""
    with writing(new):
        for name in PARTICLE_VARIABLES:
            for chunk in sorted((old / name / "c").rglob("*")):
                file = chunk.relative_to(old).as_posix()
                if chunk.is_file() and chunk.name.isdigit() and file not in broken and (new / name).is_dir():
                    (new / file).parent.mkdir(parents=True, exist_ok=True)
                    chunk.rename(new / file)


def _swap(made: Path, place: Path) -> None:
    """Put ``made`` in the place of what is there. Stopped halfway, nothing is at ``place``, and it is made anew."""
    discarded = place.with_suffix(".discarded")
    with writing(place):
        shutil.rmtree(discarded, ignore_errors=True)
        if place.exists():
            place.rename(discarded)
        made.rename(place)
        shutil.rmtree(discarded, ignore_errors=True)
