"""What a suite is: validated models, read from TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationError, model_validator

from cryobench.errors import InputError, UnknownName
from cryobench.scenario.files import find_file, read_toml
from cryobench.scenario.model import Model, Positive
from cryobench.scenario.spec import explain, explain_unknown
from cryobench.specimens.catalogue import datasets_root
from cryobench.suite.times import parse_seconds


def _is_time(text: str) -> str:
    try:
        parse_seconds(text)
    except InputError as error:
        raise ValueError(str(error)) from error
    return text


Time: TypeAlias = Annotated[str, AfterValidator(_is_time)]
Figure: TypeAlias = Literal["half_map 0.143", "half_map 0.5", "truth 0.143", "truth 0.5"]
Seed: TypeAlias = Annotated[int, Field(ge=0)]


class SpecimenChoice(Model):
    """What may be imaged; of several, the first that can be had is."""

    name: str = Field(description="as in the catalogue; $CRYOBENCH_DATA stands for the data directory")
    note: str = Field("", description="said in the table where it is this one")


class Recipe(Model):
    """How data that lie in the data directory become a dataset, by themselves."""

    script: str = Field(
        description="of datasets/recipes: given --data and --out, it writes particles.star into the latter"
    )
    files: list[str] = Field(min_length=1, description="of the data directory, all in one folder: the script's --data")
    symmetry: str = "C1"
    shift_half_width: float = Field(28.0, ge=0, description="of the shifts to assume, angstrom")
    invert: bool = Field(False, description="the images have protein dark")


class Data(Model):
    """Real particles: those that the user imports, or those of a recipe."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="for --data NAME=DIR")
    box: int = Field(ge=8, description="of the images, pixels; cropped to the size's box where that is smaller")
    truth: SpecimenChoice | None = Field(None, description="what to compare with")
    commands: list[str] = Field(
        [], description="each of which imports them; {out} stands for a directory, {box} for pixels"
    )
    recipe: Recipe | None = None

    @model_validator(mode="after")
    def _can_be_had(self) -> Data:
        if not self.commands and self.recipe is None:
            raise ValueError(f"expected commands that import {self.name}, or a recipe, got neither")
        return self

    def box_at(self, size: Size) -> int:
        """Pixels of the images at a size of the suite."""
        return self.box if size.box == "native" else min(self.box, size.box)


class Row(Model):
    """One experiment of a suite: a scenario, or real data."""

    label: str = Field(min_length=1)
    scenario: str | None = Field(None, description="shipped, or a file's path; relative to the suite's own file")
    settings: dict[str, Any] = Field({}, description="of the scenario, put in place of its own")
    specimens: list[SpecimenChoice] = Field([], description="in place of the suite's")
    data: Data | None = None
    published: dict[Figure, Positive] = Field({}, description="resolutions in angstrom")
    notes: tuple[str, ...] = ()
    place: tuple[str, str] | None = Field(None, description="row and column in the square that the suite's axes span")

    @model_validator(mode="after")
    def _is_one_thing(self) -> Row:
        if (self.scenario is None) == (self.data is None):
            raise ValueError("expected a scenario or data, got both or neither")
        if self.data is not None and (self.settings or self.specimens):
            raise ValueError("expected settings and specimens with a scenario only, got them with data")
        return self


class MethodEntry(Model):
    """A method as a suite runs it."""

    name: str
    params: dict[str, Any] = Field({}, description="of the method")
    sizes: list[str] | None = Field(None, description="at which it is run; at all if not given")
    rows: list[str] | None = Field(None, description="labels of the rows that it is run on; all if not given")
    budget: Time | None = Field(None, description="for each half, in place of the size's")


class Size(Model):
    """How large everything is."""

    box: int | Literal["native"] = Field(description="of the images, pixels; 'native': that of the scenario's specimen")
    particles: int = Field(ge=2)
    budget: Time | None = Field(None, description="longest time for each half, such as 90s, 10m or 2h")


class Suite(Model):
    """Scenarios, methods and sizes that make a table."""

    name: str
    description: str = Field(min_length=1)
    source: str | None = Field(None, description="of the published values")
    notes: tuple[str, ...] = ()
    axes: tuple[str, str] | None = Field(None, description="what the row and the column of places are")
    seeds: list[Seed] = Field([0], min_length=1, description="of the dataset and of the method, alike")
    specimens: list[SpecimenChoice] = Field([], description="that all rows image; the scenario's own if none is given")
    sizes: dict[str, Size] = Field(min_length=1)
    methods: list[MethodEntry] = Field(min_length=1)
    rows: list[Row] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Suite:
        labels = [row.label for row in self.rows]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"expected every row to have a label of its own, got {', '.join(twice)} twice")
        for method in self.methods:
            for what, named, known in (("size", method.sizes, list(self.sizes)), ("row", method.rows, labels)):
                for name in named or []:
                    if name not in known:
                        raise ValueError(f"method {method.name!r}: {UnknownName(what, name, known)}")
        placed = [row.label for row in self.rows if (row.place is None) != (self.axes is None)]
        if placed:
            raise ValueError(f"expected axes where rows have places, and only there; got otherwise for {placed[0]!r}")
        return self

    def size(self, name: str) -> Size:
        """The size of that name.

        Raises:
            UnknownName: if there is none.
        """
        if name not in self.sizes:
            raise UnknownName(f"size of suite {self.name!r}", name, self.sizes)
        return self.sizes[name]


def suite_files() -> dict[str, Path]:
    """The shipped suites by name."""
    return {path.stem: path for path in sorted((datasets_root() / "suites").glob("*.toml"))}


def load_suite(name: str) -> Suite:
    """A shipped suite by name, or one from a TOML file by path.

    Raises:
        UnknownName: if there is neither.
        InputError: if the file is no valid suite; says which file, which key, what was expected and what came.
    """
    path = find_file("suite", name, suite_files())
    table = read_toml(path)
    for row in table.get("rows", []) if isinstance(table.get("rows"), list) else []:
        scenario = row.get("scenario") if isinstance(row, dict) else None
        if isinstance(scenario, str) and (path.parent / scenario).is_file():
            row["scenario"] = str((path.parent / scenario).resolve())
    try:
        return Suite.model_validate({"name": path.stem, **table})
    except ValidationError as error:
        raise InputError(f"{path}: {explain_unknown(error, Suite, 'a suite') or explain(error)}") from error
