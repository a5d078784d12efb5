"""Where particles point and where they lie: the settings of pose and shift priors."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from cryobench.scenario.model import Model, Positive
from cryobench.scenario.pose_tables import read_quaternions

Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class UniformPose(Model):
    """Every orientation alike (Haar measure on SO(3))."""

    kind: Literal["uniform"] = "uniform"

    def prior(self) -> dict[str, Any]:
        """As stores carry it."""
        return {"kind": "uniform"}


class EulerGaussianPose(Model):
    """ZYZ angles rot, tilt, psi in radians from a zero-mean Gaussian with diagonal ``(sigma, 2, 1)``.

    With sigma 2 and 3 these are the non-uniform priors of the CryoGAN study.
    """

    kind: Literal["euler-gaussian"] = "euler-gaussian"
    sigma: Positive
    reading: Literal["covariance", "standard-deviation"] = Field(
        "covariance", description="what the diagonal (sigma, 2, 1) holds: variances or standard deviations"
    )

    def prior(self) -> dict[str, Any]:
        """As stores carry it: standard deviations in radians."""
        diagonal = (self.sigma, 2.0, 1.0)
        read = math.sqrt if self.reading == "covariance" else float
        return {"kind": "euler-gaussian", "deviations": [read(d) for d in diagonal]}


class ViewComponent(Model):
    """A part of a mixture; its in-plane angle is uniform."""

    weight: Positive = 1.0


class UniformViews(ViewComponent):
    """Every orientation alike."""

    kind: Literal["uniform"] = "uniform"

    def component(self) -> dict[str, Any]:
        """As stores carry it, without its weight."""
        return {"kind": "uniform"}


class VonMisesFisherViews(ViewComponent):
    """Views around one direction of the specimen, of density ``exp(kappa cos(angle))``."""

    kind: Literal["von-mises-fisher"] = "von-mises-fisher"
    direction: tuple[Number, Number, Number] | None = Field(None, description="x, y, z in the specimen; any length")
    rot: Number | None = Field(None, description="degrees; with tilt, in place of direction")
    tilt: Number | None = Field(None, description="degrees")
    kappa: float = Field(
        gt=1e-6, le=1e6, description="concentration: 10 is about 18 degrees, 100 about 6, 1000 about 2"
    )

    @model_validator(mode="after")
    def _has_one_direction(self) -> VonMisesFisherViews:
        angles = (self.rot is not None) + (self.tilt is not None)
        if angles != (2 if self.direction is None else 0):
            raise ValueError(f"expected direction, or rot and tilt, got {self.direction}, {self.rot} and {self.tilt}")
        _check_length(self.direction)
        return self

    def component(self) -> dict[str, Any]:
        """As stores carry it, without its weight."""
        if self.rot is None or self.tilt is None:
            direction = list(self.direction or ())
        else:
            rot, tilt = math.radians(self.rot), math.radians(self.tilt)
            direction = [math.sin(tilt) * math.cos(rot), math.sin(tilt) * math.sin(rot), math.cos(tilt)]
        return {"kind": self.kind, "direction": direction, "kappa": self.kappa}


class BeltViews(ViewComponent):
    """Views perpendicular to one axis of the specimen: uniform over a band around the great circle."""

    kind: Literal["belt"] = "belt"
    axis: tuple[Number, Number, Number] = Field((0.0, 0.0, 1.0), description="x, y, z in the specimen; any length")
    width: float = Field(gt=0, le=180, description="full width of the band, degrees")

    @model_validator(mode="after")
    def _has_an_axis(self) -> BeltViews:
        _check_length(self.axis)
        return self

    def component(self) -> dict[str, Any]:
        """As stores carry it, without its weight: the width in radians."""
        return {"kind": self.kind, "axis": list(self.axis), "width": math.radians(self.width)}


ComponentSpec: TypeAlias = Annotated[UniformViews | VonMisesFisherViews | BeltViews, Field(discriminator="kind")]


class MixturePose(Model):
    """Preferred orientations: a mixture of view distributions."""

    kind: Literal["mixture"] = "mixture"
    components: list[ComponentSpec] = Field(min_length=1, max_length=1000)

    def prior(self) -> dict[str, Any]:
        """As stores carry it: the weights sum to 1."""
        total = sum(c.weight for c in self.components)
        return {
            "kind": "mixture",
            "components": [{**c.component(), "weight": c.weight / total} for c in self.components],
        }


class EmpiricalPose(Model):
    """Poses of real particles, as RELION or cryoSPARC found them."""

    kind: Literal["empirical"] = "empirical"
    path: str = Field(description="particle STAR file of RELION, or a .cs file of cryoSPARC with alignments3D")
    jitter: float = Field(
        0.0, ge=0, le=180, description="degrees; every pose is turned by a rotation of this deviation"
    )

    def prior(self) -> dict[str, Any]:
        """As stores carry it, the table in memory; the jitter in radians."""
        return {
            "kind": "empirical",
            "jitter": math.radians(self.jitter),
            "quaternions": read_quaternions(self.path),
        }


PoseSpec: TypeAlias = Annotated[
    UniformPose | EulerGaussianPose | MixturePose | EmpiricalPose, Field(discriminator="kind")
]


class NoShift(Model):
    """Every particle at the centre."""

    kind: Literal["none"] = "none"

    def prior(self, field_of_view: float) -> dict[str, Any]:  # noqa: ARG002
        """As stores carry it."""
        return {"kind": "none"}


class TriangularShift(Model):
    """Per axis triangular on ``[-w, w]`` (CryoGAN, section IV-A)."""

    kind: Literal["triangular"] = "triangular"
    half_width: Positive | None = Field(None, description="w in angstrom")
    half_width_percent: Positive | None = Field(None, description="w in percent of the image's side")

    @model_validator(mode="after")
    def _has_one_width(self) -> TriangularShift:
        _check_one(half_width=self.half_width, half_width_percent=self.half_width_percent)
        return self

    def prior(self, field_of_view: float) -> dict[str, Any]:
        """As stores carry it: the half-width in angstrom."""
        return {"kind": "triangular", "half_width": _length(self.half_width, self.half_width_percent, field_of_view)}


class GaussianShift(Model):
    """Per axis Gaussian around the centre."""

    kind: Literal["gaussian"] = "gaussian"
    sigma: Positive | None = Field(None, description="standard deviation in angstrom")
    sigma_percent: Positive | None = Field(None, description="standard deviation in percent of the image's side")

    @model_validator(mode="after")
    def _has_one_width(self) -> GaussianShift:
        _check_one(sigma=self.sigma, sigma_percent=self.sigma_percent)
        return self

    def prior(self, field_of_view: float) -> dict[str, Any]:
        """As stores carry it: the standard deviation in angstrom."""
        return {"kind": "gaussian", "sigma": _length(self.sigma, self.sigma_percent, field_of_view)}


ShiftSpec: TypeAlias = Annotated[NoShift | TriangularShift | GaussianShift, Field(discriminator="kind")]


def _check_one(**widths: float | None) -> None:
    if sum(width is not None for width in widths.values()) != 1:
        got = ", ".join(f"{name} = {width}" for name, width in widths.items() if width is not None)
        raise ValueError(f"expected one of {' (angstrom) and '.join(widths)}, got {got or 'neither'}")


def _check_length(vector: tuple[float, float, float] | None) -> None:
    if vector is not None and not math.hypot(*vector) > 0:
        raise ValueError(f"expected a vector that is not zero, got {list(vector)}")


def _length(angstroms: float | None, percent: float | None, field_of_view: float) -> float:
    return angstroms if angstroms is not None else (percent or 0.0) / 100 * field_of_view
