"""A scenario: everything that decides a simulated dataset but its seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from cryobench.errors import InputError, UnknownName
from cryobench.scenario.ctf_spec import CTFSpec, UniformCTF
from cryobench.scenario.model import Model, Positive
from cryobench.scenario.noise_spec import NoiseSpec
from cryobench.scenario.pose_spec import NoShift, PoseSpec, ShiftSpec, UniformPose


class ImageSpec(Model):
    """Boxes and pixels."""

    native_box: int = Field(
        184, ge=8, le=4096, description="pixels of the native image and voxels of the specimen's volume"
    )
    native_pixel_size: Positive = Field(1.274, description="angstrom; the SNR is defined here")
    box: int = Field(32, ge=8, description="pixels of the stored images: the Fourier crop of the native ones")
    slicing: Literal["image", "padded"] = Field(
        "image",
        description="'image': projections wrap at the box's edge; 'padded': nothing wraps, several times slower",
    )
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="what images are stored as; float16 halves the store and rounds by 1 in 4,800 of the rms"
    )

    @model_validator(mode="after")
    def _fits(self) -> ImageSpec:
        if self.box > self.native_box:
            raise ValueError(f"expected a working box of at most the native {self.native_box} px, got {self.box}")
        return self

    @property
    def voxel_size(self) -> float:
        """Of the stored images and of reconstructions, angstrom."""
        return self.native_box * self.native_pixel_size / self.box


class AssumeSpec(Model):
    """What a method is told, where that is not what generates the data."""

    pose: PoseSpec | None = None
    shift: ShiftSpec | None = None
    symmetry: str | None = None


class Scenario(Model):
    """A dataset to simulate."""

    name: str
    description: str = ""
    specimen: str = Field("phantom", description="name, pdb:ID, emdb:ID or path, options after commas, several with +")
    particles: int = Field(20000, ge=2)
    image: ImageSpec = ImageSpec()
    pose: PoseSpec = UniformPose()
    shift: ShiftSpec = NoShift()
    ctf: CTFSpec = UniformCTF()
    noise: NoiseSpec
    assume: AssumeSpec = AssumeSpec()

    @property
    def field_of_view(self) -> float:
        """Side of every image, angstrom."""
        return self.image.native_box * self.image.native_pixel_size

    def assumed_pose(self) -> dict[str, Any]:
        """Prior that methods are told to assume."""
        return (self.assume.pose or self.pose).prior()

    def assumed_shift(self) -> dict[str, Any]:
        """Prior that methods are told to assume, angstrom."""
        return (self.assume.shift or self.shift).prior(self.field_of_view)


def parse_scenario(table: dict[str, Any], origin: str) -> Scenario:
    """A scenario from its table; ``origin`` names it in errors."""
    try:
        return Scenario.model_validate(table)
    except ValidationError as error:
        raise InputError(f"{origin}: {explain_unknown(error, Scenario, 'a scenario') or explain(error)}") from error


def explain_unknown(error: ValidationError, root: type[BaseModel], what: str) -> str:
    """The first setting that does not exist, and those that do where it was given; empty if the error is another.

    Args:
        error: of validating a table as ``root``.
        root: the model.
        what: to call it.
    """
    for item in error.errors():
        if item["type"] == "extra_forbidden":
            *path, name = item["loc"]
            part = ".".join(str(step)[:80] for step in path) or what
            return str(UnknownName(f"setting of {part}", str(name)[:80], _settings(path, root)))
    return ""


def _settings(path: Sequence[int | str], root: type[BaseModel]) -> list[str]:
    """What the part of ``root`` at ``path`` may have; its steps as pydantic tells them: fields, places in lists, keys, kinds."""
    models: list[type[BaseModel]] = [root]
    for step in path:
        parents = [model for model in models if step in model.model_fields]
        if parents:
            models = [inner for model in parents for inner in _models(model.model_fields[str(step)].annotation)]
        elif isinstance(step, str) and all("kind" in model.model_fields for model in models):
            models = [model for model in models if model.model_fields["kind"].default == step]
    return [name for model in models for name in model.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def explain(error: ValidationError) -> str:
    """A validation error in one line: which field, what was expected, what came."""
    parts = []
    for item in error.errors():
        field = ".".join(str(part)[:80] for part in item["loc"]) or "the whole"
        got = "" if item["type"] == "missing" else f", got {_shown(item['input'])}"
        parts.append(f"{field}: {item['msg'].removeprefix('Value error, ')}{got if 'got' not in item['msg'] else ''}")
    return "; ".join(parts)


def _shown(value: object) -> str:
    """A value as a message shows it; Python does not print integers of thousands of digits."""
    try:
        shown = repr(value)
    except ValueError:
        shown = f"a {type(value).__name__} too long to print"
    return shown if len(shown) <= 200 else f"{shown[:200]}..."
