"""Scenarios as files: the shipped ones, those of one's own, and changes to either."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, get_args

from cryobench.errors import InputError, UnknownName
from cryobench.scenario.ctf_spec import CTFSpec
from cryobench.scenario.noise_spec import NoiseSpec
from cryobench.scenario.pose_spec import PoseSpec, ShiftSpec
from cryobench.scenario.spec import Scenario, parse_scenario
from cryobench.specimens.catalogue import datasets_root

KINDS: Final = {
    section: {str(get_args(option.model_fields["kind"].annotation)[0]): option for option in options}
    for section, options in {
        "pose": get_args(get_args(PoseSpec)[0]),
        "shift": get_args(get_args(ShiftSpec)[0]),
        "ctf": get_args(get_args(CTFSpec)[0]),
        "noise": get_args(get_args(NoiseSpec)[0]),
    }.items()
}
"""The settings that a part of a scenario may have, by its kind."""

ALTERNATIVES: Final = {
    "half_width": ("half_width_percent",),
    "half_width_percent": ("half_width",),
    "sigma": ("sigma_percent",),
    "sigma_percent": ("sigma",),
    "spectrum": ("frequencies", "power"),
    "frequencies": ("spectrum",),
    "power": ("spectrum",),
}
"""Settings of which one takes the place of others."""

FILE_SETTINGS: Final = ("path", "indices", "mtf", "spectrum")
"""Settings that name a file."""


def scenario_files() -> dict[str, Path]:
    """The shipped scenarios by name."""
    return {path.stem: path for path in sorted((datasets_root() / "scenarios").glob("*.toml"))}


def load_scenario(name: str) -> Scenario:
    """A shipped scenario by name, or one from a TOML file by path.

    Raises:
        UnknownName: if there is neither.
        InputError: if the file is no valid scenario.
    """
    path = find_file("scenario", name, scenario_files())
    table = read_toml(path)
    _find_beside(table, path.parent)
    return parse_scenario({"name": path.stem, **table}, str(path))


def find_file(kind: str, name: str, shipped: Mapping[str, Path]) -> Path:
    """A shipped scenario, suite or the like by name, or a TOML file by path.

    Raises:
        UnknownName: if there is neither.
        InputError: if there is no such file.
    """
    path = shipped.get(name, Path(name))
    if not path.is_file():
        if name.endswith(".toml"):
            raise InputError(f"expected a {kind} file at {name}, found none; see `cryobench {kind} list`")
        raise UnknownName(kind, name, shipped)
    return path


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        InputError: if it is none.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # TOML's and UTF-8's errors, numbers and brackets without end
        raise InputError(f"{path}: expected TOML, got {error}") from error


def _find_beside(table: dict[str, Any], directory: Path) -> None:
    """Make the files that a scenario names, and that lie beside it, absolute; others stay relative to where one works."""
    for key, value in table.items():
        if isinstance(value, dict):
            _find_beside(value, directory)
        elif key in FILE_SETTINGS and isinstance(value, str) and (directory / value).is_file():
            table[key] = str((directory / value).resolve())


def adapt_scenario(
    name: str,
    *,
    specimen: str | None = None,
    box: int | None = None,
    particles: int | None = None,
    snr_db: float | None = None,
    ctf_table: Path | None = None,
    noise: Path | None = None,
    noise_indices: Path | None = None,
    dtype: str | None = None,
    settings: Sequence[str] = (),
) -> Scenario:
    """The scenario ``name`` with what is given put in place of its own, validated again.

    Args:
        name: of a shipped scenario, or a TOML file's path.
        specimen: as in the catalogue.
        box: working box, pixels.
        particles: how many.
        snr_db: at the native pixel.
        ctf_table: results of a CTF fit, whose rows replace the CTF distribution; optics stay where the table states none.
        noise: stack of real background patches, in place of the scenario's noise; the SNR stays.
        noise_indices: text file of those patches of the stack to use.
        dtype: what images are stored as, ``"float32"`` or ``"float16"``.
        settings: any other, as ``"shift.half_width_percent=5"``; the value is TOML, JSON or else text. A new ``kind`` keeps those
            settings of its part that it knows.

    Raises:
        UnknownName: if there is no such scenario.
        InputError: if a setting is none, or what comes out is no valid scenario.
    """
    table = load_scenario(name).model_dump()
    if noise_indices is not None and noise is None:
        raise InputError("expected --noise with --noise-indices, got the indices alone; name the stack they are of")
    named: list[tuple[str, Any]] = [
        ("ctf.kind", None if ctf_table is None else "table"),
        ("ctf.path", None if ctf_table is None else str(ctf_table.resolve())),
        ("noise.kind", None if noise is None else "patches"),
        ("noise.path", None if noise is None else str(noise.resolve())),
        ("noise.indices", None if noise_indices is None else str(noise_indices.resolve())),
        ("specimen", specimen),
        ("particles", particles),
        ("image.box", box),
        ("image.dtype", dtype),
        ("noise.snr_db", snr_db),
    ]
    for key, value in [(k, v) for k, v in named if v is not None] + sorted(map(_setting, settings), key=_kinds_first):
        _change(table, key, value)
    return parse_scenario(table, f"scenario {name!r} as changed")


def _setting(text: str) -> tuple[str, Any]:
    """``key=value`` with the value as TOML or JSON has it, or else as text."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", key):
        raise InputError(f"expected --set KEY=VALUE such as --set noise.snr_db=-10, got {text!r}")
    for read in (lambda text: tomllib.loads(f"value = {text}")["value"], json.loads):
        with suppress(ValueError):  # of which the errors of both are kinds
            return key, read(value)
    return key, value


def _kinds_first(setting: tuple[str, Any]) -> bool:
    return not setting[0].endswith(".kind")


def _change(table: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted ``key`` of a nested table; a new kind drops the settings of the old one that it does not know."""
    *path, last = key.split(".")
    for part in path:
        inner = table.setdefault(part, {})
        if inner is None:
            inner = table[part] = {}
        if not isinstance(inner, dict):
            raise InputError(
                f"expected {part} of --set {key} to be a part of a scenario with settings, it is {inner!r}"
            )
        table = inner
    if last == "kind" and value != table.get("kind") and value in (known := KINDS.get(path[-1], {})):
        for name in [name for name in table if name not in known[value].model_fields]:
            del table[name]
    for other in ALTERNATIVES.get(last, ()):
        table.pop(other, None)
    table[last] = value


def scenario_slug(scenario: Scenario) -> str:
    """A short name for directories; tells specimen and box where they are not the scenario's own."""
    own = load_scenario(scenario.name) if scenario.name in scenario_files() else scenario
    parts = [scenario.name]
    if scenario.specimen != own.specimen:
        parts.append(re.sub(r"[^A-Za-z0-9.-]+", "-", Path(scenario.specimen).name).strip("-"))
    if scenario.image.box != own.image.box:
        parts.append(f"box{scenario.image.box}")
    told = {"name", "specimen", "image"}
    changed = scenario.model_dump(mode="json", exclude=told) | scenario.image.model_dump(mode="json", exclude={"box"})
    unchanged = own.model_dump(mode="json", exclude=told) | own.image.model_dump(mode="json", exclude={"box"})
    if changed != unchanged:
        parts.append(hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:6])
    return "-".join(parts)


def scenario_options(table: Mapping[str, Any]) -> list[str]:
    """Command line options that make a shipped scenario into the one of ``table``; none for a scenario of one's own."""
    name = str(table["name"])
    if name not in scenario_files():
        return []
    own = dict(flatten(load_scenario(name).model_dump(mode="json")))
    short = {"specimen": "--specimen", "particles": "--particles", "image.box": "--box", "noise.snr_db": "--snr"}
    options = []
    for key, value in flatten(table):
        if key in own and own[key] == value:
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        options.append(f"{short[key]} {shlex.quote(text)}" if key in short else f"--set {shlex.quote(f'{key}={text}')}")
    return options


def flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as pairs of a dotted name and a value; what is None is left out."""
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{prefix}{key}.")
        elif value is not None:
            pairs.append((f"{prefix}{key}", value))
    return pairs
