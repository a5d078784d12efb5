"""The microscope: the settings of its CTFs."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from cryobench.scenario.model import Fraction, Model, Positive


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
