"""Names of specimens: the catalogue's own, archive accessions, and files. Imports nothing heavy until a specimen is asked for."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cryobench
from cryobench.errors import InputError, UnknownName
from cryobench.specimens.fetch import EMDB, PDB, locate

if TYPE_CHECKING:
    from cryobench.specimens.base import Specimen

_ARCHIVES = {archive.prefix: archive for archive in (PDB, EMDB)}
_MODEL_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
_MAP_SUFFIXES = (".mrc", ".map", ".ccp4")


@dataclass(frozen=True)
class Entry:
    """A line of the catalogue; the fields are described in ``catalogue.toml`` itself."""

    description: str
    source: str
    symmetry: str
    accession: str | None = None
    file: str | None = None


def datasets_root() -> Path:
    """Directory of the scenarios and the catalogue: inside an installed package, at the top of a checkout."""
    package = Path(cryobench.__file__).parent
    installed = package / "_datasets"
    return installed if installed.is_dir() else package.parent / "datasets"


def read_catalogue() -> dict[str, Entry]:
    """Every specimen of the shipped catalogue by name."""
    table = tomllib.loads((datasets_root() / "catalogue.toml").read_text(encoding="utf-8"))
    return {name: Entry(**fields) for name, fields in table.items()}


def names() -> dict[str, str]:
    """Names of the catalogue's specimens and what they are."""
    return {name: entry.description for name, entry in read_catalogue().items()}


def find(
    spec: str, *, symmetry: str | None = None, resolution: float | None = None, voxel_size: float | None = None
) -> Specimen:
    """The specimen that ``spec`` names.

    Args:
        spec: a name of the catalogue, ``pdb:ID``, ``emdb:ID``, or the path of a .pdb, .cif, .mrc or .map file (or .gz of it).
        symmetry: point group; the catalogue's, or C1, where not given.
        resolution: of the density of an atomic model, angstrom; 2.5 where not given.
        voxel_size: of a map, angstrom; its header's where not given.

    Raises:
        UnknownName: no such name.
        InputError: no such file or entry, or an option that means nothing for this specimen.
    """
    entry, name = _look_up(spec)
    chosen_symmetry = symmetry or entry.symmetry
    given = {"resolution": resolution, "voxel_size": voxel_size}
    meaningful = {"pdb": {"resolution"}, "emdb": {"voxel_size"}}.get(entry.source, set())
    for option, value in given.items():
        if value is not None and option not in meaningful:
            raise InputError(f"expected no {option} for specimen {spec!r}, got {value:g}; leave it out")

    if entry.source == "phantom":
        from cryobench.specimens.phantom import Phantom

        if chosen_symmetry != entry.symmetry:
            raise InputError(
                f"expected symmetry {entry.symmetry} for the phantom, got {chosen_symmetry!r}; leave it out"
            )
        return Phantom(name=name, description=entry.description)
    from cryobench.physics.symmetry import symmetry_rotations

    symmetry_rotations(chosen_symmetry)  # refuses what is no point group
    path = (
        Path(entry.file or "")
        if entry.accession is None
        else locate(_ARCHIVES[entry.source], entry.accession, entry.file)
    )
    if entry.source == "pdb":
        from cryobench.specimens.atoms import DEFAULT_RESOLUTION, AtomicModel

        chosen = DEFAULT_RESOLUTION if resolution is None else resolution
        return AtomicModel(name, path, chosen_symmetry, chosen, entry.description)
    from cryobench.specimens.maps import DensityMap

    return DensityMap(name, path, chosen_symmetry, voxel_size, entry.description)


def _look_up(spec: str) -> tuple[Entry, str]:
    """The entry of a catalogue name, accession or file, and the name to show."""
    catalogue = read_catalogue()
    if spec in catalogue:
        return catalogue[spec], spec
    prefix, colon, accession = spec.partition(":")
    if colon and prefix.lower() in _ARCHIVES:
        source, accession = prefix.lower(), accession.upper()
        for entry in catalogue.values():
            if (entry.source, entry.accession) == (source, accession):
                return entry, f"{source}:{accession}"
        description = {"pdb": "atomic model from the PDB", "emdb": "map from the EMDB"}[source]
        return Entry(description, source, "C1", accession), f"{source}:{accession}"
    path = Path(spec).expanduser()
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in (*_MODEL_SUFFIXES, *_MAP_SUFFIXES):
        if not path.is_file():
            raise InputError(f"expected a specimen file at {path}, found no file there")
        is_model = suffix in _MODEL_SUFFIXES
        description = f"atomic model {path.name}" if is_model else f"density map {path.name}"
        return Entry(description, "pdb" if is_model else "emdb", "C1", file=str(path)), path.name
    raise UnknownName("specimen", spec, [*catalogue, "pdb:ID", "emdb:ID", "FILE.pdb|.cif|.mrc|.map"])
