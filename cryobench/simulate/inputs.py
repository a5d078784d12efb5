"""The files that a scenario names: what they held when its dataset was begun."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from cryobench.errors import InputError, StoreError
from cryobench.noise.model import shipped_spectra
from cryobench.scenario.files import FILE_SETTINGS, flatten
from cryobench.scenario.spec import Scenario
from cryobench.specimens.catalogue import files_of


def input_digests(scenario: Scenario) -> dict[str, str]:
    """SHA-256 of every file that a setting of ``scenario`` names, by the setting.

    Raises:
        InputError: if one is not there.
    """
    return {key: _digest(Path(path), key) for key, path in _named_files(scenario)}


def check_inputs(scenario: Scenario, recorded: Mapping[str, str], directory: Path) -> None:
    """Refuse to complete a dataset whose inputs are not what they were.

    Raises:
        InputError: if a file is gone.
        StoreError: if one has changed.
    """
    for key, path in _named_files(scenario):
        found = _digest(Path(path), key)
        if key in recorded and found != recorded[key]:
            raise StoreError(
                f"{path} ({key} of the scenario) has changed since the dataset in {directory} was begun: its SHA-256 was "
                f"{recorded[key][:12]}... and is {found[:12]}...; bring back the file, or choose another directory with --out"
            )


def _named_files(scenario: Scenario) -> list[tuple[str, str]]:
    shipped = shipped_spectra()
    named = [
        (key, str(shipped.get(value, value)) if key == "noise.spectrum" else value)
        for key, value in flatten(scenario.model_dump(mode="json"))
        if key.rpartition(".")[2] in FILE_SETTINGS and "." in key
    ]
    files = files_of(scenario.specimen)
    return named + [(f"specimen.{number}" if number else "specimen", str(path)) for number, path in enumerate(files)]


def _digest(path: Path, key: str) -> str:
    """Of a file; of a directory such as a zarr store, over the names and contents of the files in it."""
    if path.is_file():
        return _digest_of_file(path)
    if not path.is_dir():
        raise InputError(f"expected a file at {path} ({key} of the scenario), found none")
    sha = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        sha.update(f"{file.relative_to(path).as_posix()}|{_digest_of_file(file)}|".encode())
    return sha.hexdigest()


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
