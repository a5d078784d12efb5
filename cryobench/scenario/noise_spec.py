"""What is not the particle: the settings of the noise."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from cryobench.noise.model import DEFAULT_SPECTRUM, ModelKind
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
    """Gaussian noise with a radial power spectrum: a measured one by name, or one of one's own."""

    kind: Literal["coloured"] = "coloured"
    spectrum: str | None = Field(
        None,
        description=f"a shipped spectrum such as {DEFAULT_SPECTRUM!r}, or a file that `noise fit --model radial` wrote",
    )
    frequencies: Annotated[list[float], Field(min_length=2)] | None = Field(
        None, description="in place of a spectrum: ascending spatial frequencies, 1/angstrom"
    )
    power: Annotated[list[Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=2)] | None = Field(
        None, description="relative power at each; linear between, constant beyond; the scale is the SNR's"
    )

    @model_validator(mode="after")
    def _matched(self) -> ColouredNoise:
        f, p = self.frequencies, self.power
        if (self.spectrum is None) == (f is None and p is None):
            raise ValueError("expected either a spectrum, or frequencies and power; got both or neither")
        if self.spectrum is None and (
            f is None or p is None or len(f) != len(p) or not _ascending(f) or f[-1] <= 0 or not any(p)
        ):
            sizes = f"{len(f or [])} and {len(p or [])}"
            raise ValueError(f"expected ascending frequencies with one power each, not all zero, got {sizes} values")
        return self


def _ascending(values: list[float]) -> bool:
    return all(0 <= a < b < math.inf for a, b in pairwise(values))


class FittedNoise(NoiseModel):
    """Drawn from a model that `cryobench noise fit` wrote."""

    kind: Literal["fitted"] = "fitted"
    path: str = Field(description="of the model: a radial spectrum, a two-dimensional one, or a covariance by lag")


class PatchNoise(NoiseModel):
    """Cut from real particle-free patches."""

    kind: Literal["patches"] = "patches"
    path: str = Field(description="noise store that `noise extract` wrote, or MRC stack of background patches")
    indices: str | None = Field(None, description="text file of the patches to use, from 0; all if not given")
    pair: bool = Field(
        False,
        description="a particle gets the CTF of the micrograph that its noise comes from; needs a noise store and CTFs of kind "
        "'table' that name its micrographs",
    )
    generator: ModelKind = Field("radial", description="fitted to a pool of too few patches, to fill it")
    pixel_size: Positive | None = Field(None, description="angstrom, where the stack's header does not say")
    whiten: bool = Field(False, description="divide the patches by the square root of their radial spectrum")
    protein: Literal["dark", "bright"] = Field("dark", description="contrast of an MRC stack; dark ones are inverted")

    @model_validator(mode="after")
    def _unwhitened_pairs(self) -> PatchNoise:
        if self.pair and self.whiten:
            raise ValueError("expected pair or whiten, got both: whitening takes the CTF's rings out of the noise")
        return self


def _default_kind(table: Any) -> Any:
    """Noise of which no kind is said has the shipped spectrum of real micrographs."""
    if isinstance(table, dict) and "kind" not in table:
        own = {"frequencies", "power", "spectrum"} & set(table)
        return {"kind": "coloured", **({} if own else {"spectrum": DEFAULT_SPECTRUM}), **table}
    return table


NoiseSpec: TypeAlias = Annotated[
    WhiteNoise | ColouredNoise | FittedNoise | PatchNoise,
    Field(discriminator="kind"),
    BeforeValidator(_default_kind),
]
