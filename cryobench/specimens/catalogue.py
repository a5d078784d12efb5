"""Names of specimens: the catalogue's own, archive accessions, and files. Imports nothing heavy until a specimen is asked for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cryobench
from cryobench.errors import InputError, UnknownName
from cryobench.specimens.fetch import EMDB, PDB, locate

if TYPE_CHECKING:
    from cryobench.specimens.base import Specimen

_ARCHIVES = {archive.prefix: archive for archive in (PDB, EMDB)}
_SOURCES = {"phantom": "embedded", "path": "embedded", "pdb": "PDB {0}", "emdb": "EMD-{0}"}
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


def list_specimens() -> list[tuple[str, str, str, str]]:
    """Name, symmetry, source and description of the catalogue's specimens, for people."""
    return [
        (name, entry.symmetry, _SOURCES[entry.source].format(entry.accession), entry.description)
        for name, entry in read_catalogue().items()
    ]


def describe_options(spec: str) -> list[tuple[str, str, str]]:
    """Name, default and meaning of the options that the specimen ``spec`` has; none for an ensemble of several."""
    from cryobench.specimens import options

    if _form(spec) != "one":
        return []
    entry, _ = _look_up(options.split_options(spec)[0])
    return options.describe_options(options.KINDS[entry.source])


def find(spec: str, **options: str | float | bool) -> Specimen:
    """The specimen that ``spec`` names.

    Args:
        spec: a name of the catalogue, ``pdb:ID``, ``emdb:ID``, or the path of a .pdb, .cif, .mrc or .map file (or .gz of it), any
            of them with options after commas, ``pdb:5A1A,scattering=electron,b_factors=yes``; several of them as an ensemble,
            ``0.3 * A + 0.7 * B``; or the path of a .toml file that lists the states of one.
        options: as in ``spec``, in place of its own; see :mod:`cryobench.specimens.options`. None for an ensemble.

    Raises:
        UnknownName: no such name, or an option that means nothing for this specimen.
        InputError: no such file or entry, or an option's value is not what was asked for.
    """
    form = _form(spec)
    if form == "one":
        return _find_one(spec, options)
    if options:
        raise InputError(
            f"expected no options for the ensemble {spec!r}, got {', '.join(options)}; give them to its states"
        )
    from cryobench.specimens.ensemble import mix

    if form == "sum":
        from cryobench.specimens.options import split_shares

        return mix(spec, [(find(part), weight) for part, weight in split_shares(spec)])
    from cryobench.specimens.ensemble_file import read_ensemble_file

    states, description, symmetry = read_ensemble_file(Path(spec).expanduser())
    return mix(Path(spec).name, [(_find_one(state, {}), weight) for state, weight in states], description, symmetry)


def files_of(spec: str) -> list[Path]:
    """Files that ``spec`` names by their path, those that it lists in a file included; not those of archives."""
    form = _form(spec)
    if form == "sum":
        from cryobench.specimens.options import split_shares

        return [path for part, _ in split_shares(spec) for path in files_of(part)]
    if form == "file":
        from cryobench.specimens.ensemble_file import read_ensemble_file

        listed = Path(spec).expanduser()
        return [listed, *(path for state, _ in read_ensemble_file(listed)[0] for path in files_of(state))]
    from cryobench.specimens.options import split_options

    entry, _ = _look_up(split_options(spec)[0])
    return [Path(entry.file)] if entry.accession is None and entry.file else []


def _form(spec: str) -> Literal["one", "sum", "file"]:
    """Whether ``spec`` is one specimen, a sum of several, or a file that lists several."""
    is_file = Path(spec).expanduser().is_file()
    if " + " in spec and not is_file:
        return "sum"
    return "file" if Path(spec).suffix == ".toml" else "one"


def _find_one(spec: str, given: Mapping[str, str | float | bool]) -> Specimen:
    """One specimen, its options checked."""
    from cryobench.specimens.options import KINDS, ModelOptions, parse_options, split_options

    spec_name, stated = split_options(spec)
    entry, name = _look_up(spec_name)
    options = parse_options(KINDS[entry.source], spec, {**stated, **given})
    if stated:
        name = ",".join([name, *(f"{key}={value}" for key, value in stated.items())])
    if entry.source in ("phantom", "path"):
        from cryobench.specimens.phantom import make_phantom

        return make_phantom(spec_name, entry.description, **options.model_dump())
    from cryobench.physics.symmetry import symmetry_rotations

    settings = options.model_dump()
    settings["symmetry"] = settings["symmetry"] or entry.symmetry
    symmetry_rotations(settings["symmetry"])  # refuses what is no point group
    path = (
        Path(entry.file or "")
        if entry.accession is None
        else locate(_ARCHIVES[entry.source], entry.accession, entry.file)
    )
    if isinstance(options, ModelOptions):
        from cryobench.specimens.atoms import AtomicModel

        return AtomicModel(name=name, path=path, description=entry.description, **settings)
    from cryobench.specimens.maps import DensityMap

    return DensityMap(name=name, path=path, description=entry.description, **settings)


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
