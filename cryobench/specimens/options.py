"""What may be asked of a specimen: ``NAME,option=value,...`` and several of them with ``+``, taken apart and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cryobench.errors import InputError, UnknownName

_OPTION = re.compile(r",(?=[a-z_]+=)")
_SHARE = re.compile(r"(?:([0-9.]+(?:e-?[0-9]+)?)\s*\*\s*)?(.+)")


class Options(BaseModel):
    """Of a specimen that has none: a phantom."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PathOptions(Options):
    """Of a phantom that moves."""

    states: int = Field(8, ge=2, le=256, description="states along the path, of equal shares")


class ModelOptions(Options):
    """Of an atomic model."""

    symmetry: str = Field("", description="point group of the assembly; the catalogue's, or C1, where not given")
    resolution: float = Field(
        2.5, ge=0, allow_inf_nan=False, description="Å: a Gaussian of 0.225 x this blurs every atom; 0 for none"
    )
    scattering: Literal["molmap", "electron"] = Field(
        "molmap",
        description="molmap: atomic numbers, in electrons per Å^3; electron: electron scattering factors, in volts",
    )
    b_factors: bool = Field(False, description="yes: each atom's B-factor blurs it besides")
    centred: bool = Field(True, description="no: the file's own origin instead of the centre of mass (C1 only)")
    voxel_size: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Å: sample on such voxels, then average; on any other grid, that resampled",
    )
    average: int = Field(1, ge=1, le=16, description="edge of the cubes of voxels that are averaged")


class MapOptions(Options):
    """Of a density map."""

    symmetry: str = Field(
        "", description="point group, its axes already on the grid's; the catalogue's, or C1, where not given"
    )
    voxel_size: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Å, in place of what the file's header says"
    )


KINDS: dict[str, type[Options]] = {"phantom": Options, "path": PathOptions, "pdb": ModelOptions, "emdb": MapOptions}
"""The options of each source of specimens, by the catalogue's word for it."""

AnyOptions = TypeVar("AnyOptions", bound=Options)


def split_shares(spec: str) -> list[tuple[str, float]]:
    """``"0.3 * A + 0.7 * B"`` as pairs of a specimen and its weight, 1 where none is given; the ``+`` stands between spaces."""
    parts = []
    for part in spec.split(" + "):
        found = _SHARE.fullmatch(part.strip())
        if not found:
            raise InputError(f"expected specimens between the + of {spec!r}, as in '0.3 * A + 0.7 * B', found nothing")
        try:
            parts.append((found[2], float(found[1] or 1)))
        except ValueError as error:
            raise InputError(f"expected a number before the * of {part!r}, got {found[1]!r}") from error
    return parts


def split_options(spec: str) -> tuple[str, dict[str, str]]:
    """``"NAME,option=value,..."`` as the name and its options; an existing file's path is a name whatever is in it."""
    if Path(spec).expanduser().is_file():
        return spec, {}
    name, *pairs = _OPTION.split(spec)
    options: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key in options:
            raise InputError(f"expected each option of specimen {spec!r} once, got {key} twice")
        options[key] = value
    return name, options


def parse_options(kind: type[AnyOptions], spec: str, given: Mapping[str, Any]) -> AnyOptions:
    """Options checked against those that a kind of specimen has.

    Raises:
        UnknownName: it has no such option.
        InputError: a value is not what was asked for.
    """
    for key in given:
        if key not in kind.model_fields:
            raise UnknownName(f"setting of specimen {spec!r}", key, kind.model_fields)
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise InputError(
            f"specimen {spec!r}, option {key}: {first['msg']}, got {first['input']!r} ({kind.model_fields[key].description})"
        ) from error


def describe_options(kind: type[Options]) -> list[tuple[str, str, str]]:
    """Name, default and meaning of every option, for people."""
    return [(name, _shown(field.default), field.description or "") for name, field in kind.model_fields.items()]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
