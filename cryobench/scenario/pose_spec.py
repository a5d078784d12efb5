"""Where particles point and where they lie: the settings of pose and shift priors."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from cryobench.scenario.model import Model, Positive


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
