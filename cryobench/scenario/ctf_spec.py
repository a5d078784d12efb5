"""The microscope: the settings of its CTFs, and of its detector."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from cryobench.scenario.model import Fraction, Model, Positive


class Optics(Model):
    """What all images share."""

    voltage: Positive = Field(300.0, description="kV")
    spherical_aberration: float = Field(2.7, ge=0, description="mm")
    amplitude_contrast: Fraction = 0.1
    phase_shift_degrees: float = Field(0.0, description="of a phase plate")
    b_factor: float = Field(0.0, ge=0, description="envelope exp(-B s^2 / 4), angstrom squared")
    mtf: str | None = Field(None, description="the detector's MTF, a file such as RELION's mtf_k2_300kV.star")
    mtf_pixel_size: Positive | None = Field(
        None,
        description="angstrom of the detector pixel that the MTF's frequencies are of; the native pixel if not given",
    )


class NoCTF(Optics):
    """Projections as they are."""

    kind: Literal["none"] = "none"


class FixedCTF(Optics):
    """One CTF for every image."""

    kind: Literal["fixed"] = "fixed"
    defocus: float = Field(description="mean of U and V, angstrom, underfocus positive")
    astigmatism: float = Field(0.0, ge=0, description="defocus U - V, angstrom")
    astigmatism_angle: float = Field(0.0, description="of the U axis from x towards y, degrees")


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
    """Rows of a real table, one a micrograph: CTFFIND4's text, a STAR file of RELION, a ``.cs`` file of cryoSPARC, an npz.

    A row that breaks one of the rules is left out. Phase shifts of the table and ``phase_shift_degrees`` add up; the envelope
    is the scenario's.
    """

    kind: Literal["table"] = "table"
    path: str
    optics: Literal["table", "scenario"] = Field(
        "table",
        description="whose voltage, Cs and amplitude contrast: the table's where it states them, or always the scenario's",
    )
    max_fit_resolution: Positive = Field(4.0, description="angstrom; where the table states what a fit reached")
    min_defocus: float = Field(0.0, description="angstrom; of the mean of U and V")
    max_defocus: Positive = Field(100_000.0, description="angstrom; of the mean of U and V")
    max_astigmatism: Positive = Field(0.5, description="|U - V| over the mean of U and V")


CTFSpec: TypeAlias = Annotated[NoCTF | FixedCTF | UniformCTF | TableCTF, Field(discriminator="kind")]
