"""A scenario: everything that decides a simulated dataset but its seed. Validated models, read from and written to TOML."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cryobench.errors import InputError, UnknownName
from cryobench.specimens.catalogue import datasets_root

Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class Model(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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

    @model_validator(mode="after")
    def _fits(self) -> ImageSpec:
        if self.box > self.native_box:
            raise ValueError(f"expected a working box of at most the native {self.native_box} px, got {self.box}")
        return self

    @property
    def voxel_size(self) -> float:
        """Of the stored images and of reconstructions, angstrom."""
        return self.native_box * self.native_pixel_size / self.box


class PoseSpec(Model):
    """Distribution of orientations."""

    kind: Literal["uniform"] = "uniform"

    def prior(self) -> dict[str, Any]:
        """As stores carry it."""
        return {"kind": self.kind}


class NoShift(Model):
    """Every particle at the centre."""

    kind: Literal["none"] = "none"

    def prior(self, field_of_view: float) -> dict[str, Any]:  # noqa: ARG002
        """As stores carry it."""
        return {"kind": "none"}


class TriangularShift(Model):
    """Per axis triangular on ``[-w, w]``, ``w`` in percent of the image's side (CryoGAN, section IV-A)."""

    kind: Literal["triangular"] = "triangular"
    half_width_percent: Positive

    def prior(self, field_of_view: float) -> dict[str, Any]:
        """As stores carry it: the half-width in angstrom."""
        return {"kind": "triangular", "half_width": self.half_width_percent / 100 * field_of_view}


ShiftSpec: TypeAlias = Annotated[NoShift | TriangularShift, Field(discriminator="kind")]


class Optics(Model):
    """What all images share."""

    voltage: Positive = Field(300.0, description="kV")
    spherical_aberration: float = Field(2.7, ge=0, description="mm")
    amplitude_contrast: Fraction = 0.1
    phase_shift_degrees: float = 0.0
    b_factor: float = Field(0.0, ge=0, description="envelope exp(-B s^2 / 4), angstrom squared")


class NoCTF(Optics):
    """Projections as they are."""

    kind: Literal["none"] = "none"


class UniformCTF(Optics):
    """Defocus uniform over a range, one value a micrograph."""

    kind: Literal["uniform"] = "uniform"
    defocus_min: float = Field(5000.0, description="angstrom, underfocus positive")
    defocus_max: float = Field(20000.0, description="angstrom, underfocus positive")
    astigmatism: float = Field(0.0, ge=0, description="defocus U - V, angstrom, at a random angle")
    micrographs: int = Field(1000, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> UniformCTF:
        if not self.defocus_min <= self.defocus_max:
            raise ValueError(f"expected defocus_min <= defocus_max, got {self.defocus_min} and {self.defocus_max}")
        return self


class TableCTF(Optics):
    """Rows of a real CTFFIND4 table, one a micrograph."""

    kind: Literal["table"] = "table"
    path: str
    max_fit_resolution: Positive = Field(4.0, description="angstrom; rows fitted no better than this are left out")


CTFSpec: TypeAlias = Annotated[NoCTF | UniformCTF | TableCTF, Field(discriminator="kind")]


class NoiseModel(Model):
    """What every noise has."""

    snr_db: float = Field(description="10 log10(var(signal) / var(noise)) at the native pixel; inf for no noise")
    pool: int = Field(512, ge=16, description="noise patches that each half of a method's data is given")

    @model_validator(mode="after")
    def _is_a_number(self) -> NoiseModel:
        if math.isnan(self.snr_db) or self.snr_db == -math.inf:
            raise ValueError(f"expected an SNR in dB, or inf for no noise, got {self.snr_db}")
        return self


class WhiteNoise(NoiseModel):
    """Independent Gaussian pixels."""

    kind: Literal["white"] = "white"


class ColouredNoise(NoiseModel):
    """Gaussian noise with a radial power spectrum."""

    kind: Literal["coloured"] = "coloured"
    frequencies: list[float] = Field(min_length=2, description="ascending spatial frequencies, 1/angstrom")
    power: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        min_length=2, description="relative power at each; linear between, constant beyond; the scale is the SNR's"
    )

    @model_validator(mode="after")
    def _matched(self) -> ColouredNoise:
        if (
            len(self.frequencies) != len(self.power)
            or sorted(self.frequencies) != self.frequencies
            or not any(self.power)
        ):
            sizes = f"{len(self.frequencies)} and {len(self.power)}"
            raise ValueError(f"expected ascending frequencies with one power each, not all zero, got {sizes} values")
        return self


class PatchNoise(NoiseModel):
    """Cut from a stack of real particle-free patches."""

    kind: Literal["patches"] = "patches"
    path: str = Field(description="MRC stack of background patches")
    indices: str | None = Field(None, description="text file of the patches to use, from 0; all if not given")
    pixel_size: Positive | None = Field(None, description="angstrom, where the stack's header does not say")
    whiten: bool = Field(False, description="divide the patches by the square root of their radial spectrum")
    protein: Literal["dark", "bright"] = Field(
        "dark", description="contrast of the micrographs; dark ones are inverted"
    )


NoiseSpec: TypeAlias = Annotated[WhiteNoise | ColouredNoise | PatchNoise, Field(discriminator="kind")]


class AssumeSpec(Model):
    """What a method is told, where that is not what generates the data."""

    pose: PoseSpec | None = None
    shift: ShiftSpec | None = None
    symmetry: str | None = None


class Scenario(Model):
    """A dataset to simulate."""

    name: str
    description: str = ""
    specimen: str = Field("phantom", description="a name of the catalogue, pdb:ID, emdb:ID or a path")
    particles: int = Field(20000, ge=2)
    image: ImageSpec = ImageSpec()
    pose: PoseSpec = PoseSpec()
    shift: ShiftSpec = NoShift()
    ctf: CTFSpec = UniformCTF()
    noise: NoiseSpec
    assume: AssumeSpec = AssumeSpec()

    @property
    def slug(self) -> str:
        """A short name for directories; tells specimen and box where they are not the scenario's own."""
        own = load_scenario(self.name) if self.name in scenario_files() else self
        parts = [self.name]
        if self.specimen != own.specimen:
            parts.append(re.sub(r"[^A-Za-z0-9.-]+", "-", Path(self.specimen).name).strip("-"))
        if self.image.box != own.image.box:
            parts.append(f"box{self.image.box}")
        if (self.particles, self.ctf, self.noise) != (own.particles, own.ctf, own.noise):
            changed = [self.particles, self.ctf.model_dump(mode="json"), self.noise.model_dump(mode="json")]
            parts.append(hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:6])
        return "-".join(parts)

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
        raise InputError(f"{origin}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """A validation error in one line: which field, what was expected, what came."""
    parts = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"]) or "the whole"
        got = "" if item["type"] == "missing" else f", got {item['input']!r}"
        parts.append(f"{field}: {item['msg'].removeprefix('Value error, ')}{got if 'got' not in item['msg'] else ''}")
    return "; ".join(parts)


def scenario_files() -> dict[str, Path]:
    """The shipped scenarios by name."""
    return {path.stem: path for path in sorted((datasets_root() / "scenarios").glob("*.toml"))}


def load_scenario(name: str) -> Scenario:
    """A shipped scenario by name, or one from a TOML file by path.

    Raises:
        UnknownName: if there is neither.
        InputError: if the file is no valid scenario.
    """
    known = scenario_files()
    path = known.get(name, Path(name))
    if not path.is_file():
        if name.endswith(".toml"):
            raise InputError(f"expected a scenario file at {name}, found none; see `cryobench scenario list`")
        raise UnknownName("scenario", name, known)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected TOML, got {error}") from error
    return parse_scenario({"name": path.stem, **table}, str(path))


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
) -> Scenario:
    """The scenario ``name`` with what is given put in place of its own, validated again.

    Args:
        name: of a shipped scenario, or a TOML file's path.
        specimen: as in the catalogue.
        box: working box, pixels.
        particles: how many.
        snr_db: at the native pixel.
        ctf_table: CTFFIND4 results, whose rows replace the CTF distribution; optics stay.
        noise: stack of real background patches, in place of the scenario's noise; the SNR stays.
        noise_indices: text file of those patches of the stack to use.
    """
    table = load_scenario(name).model_dump()
    for key, value in (("specimen", specimen), ("particles", particles)):
        if value is not None:
            table[key] = value
    if box is not None:
        table["image"]["box"] = box
    if snr_db is not None:
        table["noise"]["snr_db"] = snr_db
    if ctf_table is not None:
        optics = {key: table["ctf"][key] for key in Optics.model_fields}
        table["ctf"] = {"kind": "table", "path": str(ctf_table.resolve()), **optics}
    if noise_indices is not None and noise is None:
        raise InputError("expected --noise with --noise-indices, got the indices alone; name the stack they are of")
    if noise is not None:
        common = {key: table["noise"][key] for key in NoiseModel.model_fields}
        indices = None if noise_indices is None else str(noise_indices.resolve())
        table["noise"] = {"kind": "patches", "path": str(noise.resolve()), "indices": indices, **common}
    return parse_scenario(table, f"scenario {name!r} as changed")


def scenario_options(table: Mapping[str, Any]) -> list[str]:
    """Command line options that make a shipped scenario into the one of ``table``; none for a scenario of one's own."""
    name = str(table["name"])
    if name not in scenario_files():
        return []
    own = load_scenario(name).model_dump(mode="json")
    options = []
    for key, option in (("specimen", "--specimen"), ("particles", "--particles")):
        if table[key] != own[key]:
            options.append(f"{option} {shlex.quote(str(table[key]))}")
    if table["image"]["box"] != own["image"]["box"]:
        options.append(f"--box {table['image']['box']}")
    if table["noise"]["snr_db"] != own["noise"]["snr_db"]:
        options.append(f"--snr {table['noise']['snr_db']}")
    paths = [("--ctf-table", table["ctf"].get("path")), ("--noise", table["noise"].get("path"))]
    paths.append(("--noise-indices", table["noise"].get("indices")))
    return options + [f"{option} {shlex.quote(path)}" for option, path in paths if path]
