"""What is not the particle: the settings of the noise."""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from cryobench.scenario.model import Model, Positive


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
