"""The priors of a scenario, held against what the CryoGAN paper's Theorem 1 asks of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cryobench.physics.pose_distance import prior_distance
from cryobench.scenario.finding import Finding
from cryobench.scenario.spec import Scenario
from cryobench.specimens.base import Specimen


def shift_reach(prior: Mapping[str, Any]) -> float:
    """How far a shift goes along an axis, angstrom; three standard deviations of a Gaussian."""
    match prior["kind"]:
        case "triangular":
            return float(prior["half_width"])
        case "gaussian":
            return 3 * float(prior["sigma"])
        case _:
            return 0.0


def check_assumed(scenario: Scenario, specimen: Specimen | None) -> Finding:
    """Whether the method is told the priors and the symmetry that are true; how far its pose prior is off where it is not."""
    what = "the method assumes what generates"
    own = None if specimen is None else specimen.symmetry
    differing = []
    if scenario.assume.pose is not None and scenario.assume.pose != scenario.pose:
        distance = prior_distance(scenario.pose.prior(), scenario.assumed_pose(), own or "C1")
        kinds = f"{scenario.pose.kind} generates, {scenario.assume.pose.kind} is assumed"
        differing.append(f"poses: {kinds}, distance modulo {own or 'C1'} {distance}")
    generated, assumed = scenario.shift.prior(scenario.field_of_view), scenario.assumed_shift()
    if generated != assumed:
        differing.append(f"shifts: {describe_shift(generated)} generates, {describe_shift(assumed)} is assumed")
    if own and scenario.assume.symmetry not in (None, own):
        differing.append(f"symmetry: the specimen has {own}, {scenario.assume.symmetry} is assumed")
    return Finding(what, "fails" if differing else "holds", "; ".join(differing) or "pose, shift and symmetry")


def describe_shift(prior: Mapping[str, Any]) -> str:
    """A shift prior in words."""
    match prior["kind"]:
        case "triangular":
            return f"triangular, up to {prior['half_width']:.3g} Å on each axis"
        case "gaussian":
            return f"Gaussian of {prior['sigma']:.3g} Å on each axis"
        case _:
            return "none"


def check_pose(scenario: Scenario) -> Finding:
    """Whether the pose prior has a bounded density, against the uniform one (Haar measure)."""
    what, prior = "pose prior bounded", scenario.pose.prior()
    match prior["kind"]:
        case "uniform":
            return Finding(what, "holds", "uniform on all rotations")
        case "euler-gaussian":
            highest = 1 / ((2 * math.pi) ** 1.5 * math.prod(prior["deviations"]))
            return Finding(
                what,
                "holds",
                f"as a density of the three Euler angles, at most {highest:.3g} per cubic radian; as a density of rotations it "
                "grows without bound towards tilt 0 and 180 degrees, as 1 / sin(tilt)",
            )
        case "empirical" if prior["jitter"] == 0:
            count = len(prior["quaternions"])
            return Finding(what, "fails", f"{count} single poses have no density; give pose.jitter in degrees")
        case "empirical":
            spread = math.degrees(prior["jitter"])
            return Finding(what, "holds", f"{len(prior['quaternions'])} poses, each spread by {spread:.3g} degrees")
        case _:
            highest = sum(c["weight"] * _peak(c) for c in prior["components"])
            belts = all(c["kind"] == "belt" for c in prior["components"])
            gap = "; nothing outside the belts, whose views are never seen" if belts else ""
            return Finding(what, "holds", f"at most {highest:.3g} times the uniform density{gap}")


def _peak(component: Mapping[str, Any]) -> float:
    """Highest density of a component of a mixture, the uniform density being 1."""
    match component["kind"]:
        case "von-mises-fisher":
            return -2 * component["kappa"] / math.expm1(-2 * component["kappa"])
        case "belt":
            return 1 / math.sin(component["width"] / 2)
        case _:
            return 1.0


def check_shift(scenario: Scenario) -> Finding:
    """Whether shifts are of bounded support."""
    prior = scenario.shift.prior(scenario.field_of_view)
    unbounded = prior["kind"] == "gaussian"
    tail = ": of unbounded support, 0.3 % of each axis beyond three standard deviations" if unbounded else ""
    return Finding("shift prior bounded", "fails" if unbounded else "holds", describe_shift(prior) + tail)
