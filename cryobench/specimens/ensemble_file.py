"""TOML files that list the states of an ensemble."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cryobench.errors import InputError


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    specimen: str
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)


class _Ensemble(BaseModel):
    model_config = ConfigDict(extra="forbid")

    description: str = ""
    symmetry: str = ""
    states: list[_State] = Field(min_length=1)


def read_ensemble_file(path: Path) -> tuple[list[tuple[str, float]], str, str]:
    """States as pairs of a specimen and its weight, then description and symmetry, both perhaps empty.

    The file reads like this; weights are of any scale, 1 where not given; files are looked for beside it first::

        description = "open and closed"
        symmetry = "C1"

        [[states]]
        specimen = "open.cif,centred=no"
        weight = 0.3

        [[states]]
        specimen = "closed.cif,centred=no"
        weight = 0.7

    Raises:
        InputError: no such file, no TOML, or other fields than these.
    """
    if not path.is_file():
        raise InputError(f"expected the states of an ensemble at {path}, found no file there")
    try:
        table = _Ensemble.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}, {where}: {first['msg']}; "
            "expected `description`, `symmetry` and `[[states]]`, each with `specimen` and `weight`"
        ) from error
    except (ValueError, RecursionError) as error:  # TOML's and UTF-8's errors, numbers and brackets without end
        raise InputError(f"{path}: expected TOML, got {error}") from error
    states = []
    for state in table.states:
        beside = path.parent / state.specimen.partition(",")[0]
        states.append((str(path.parent / state.specimen) if beside.is_file() else state.specimen, state.weight))
    return states, table.description, table.symmetry
