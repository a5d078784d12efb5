"""Two scenarios held against each other: how far their priors are apart."""

from __future__ import annotations

from typing import Any, Final

from cryobench.physics.pose_distance import prior_distance
from cryobench.scenario.check_priors import describe_shift
from cryobench.scenario.spec import Scenario
from cryobench.specimens.catalogue import find

UNIFORM: Final[dict[str, Any]] = {"kind": "uniform"}
ONE_VIEW: Final[dict[str, Any]] = {
    "kind": "mixture",
    "components": [{"kind": "von-mises-fisher", "weight": 1.0, "direction": [0.0, 0.0, 1.0], "kappa": 100.0}],
}
"""Views within about six degrees of z: for the scale of distances."""


def compare_scenarios(a: Scenario, b: Scenario, symmetry: str | None = None) -> list[tuple[str, str]]:
    """Distances of pose priors modulo a point group, and the shift priors in words: names and what to say of each.

    Args:
        a: the one.
        b: the other.
        symmetry: point group; that of ``a``'s specimen if not given.

    Raises:
        InputError: if a file that a scenario names cannot be used, or there is no such point group.
    """
    group = symmetry or a.assume.symmetry or find(a.specimen).symmetry
    priors = {a.name: a.pose.prior(), b.name: b.pose.prior()}
    rows = [("symmetry", group), (f"poses of {a.name} and {b.name}", _told(a.pose.prior(), b.pose.prior(), group))]
    for scenario in (a, b):
        if scenario.assume.pose is not None:
            told = _told(scenario.pose.prior(), scenario.assumed_pose(), group)
            rows.append((f"poses of {scenario.name} and those it assumes", told))
    rows += [(f"poses of {name} and uniform ones", _told(prior, UNIFORM, group)) for name, prior in priors.items()]
    rows.append(("for scale: one view direction and uniform ones", _told(ONE_VIEW, UNIFORM, group)))
    for scenario in (a, b):
        rows.append((f"shifts of {scenario.name}", describe_shift(scenario.shift.prior(scenario.field_of_view))))
    return rows


def _told(a: dict[str, Any], b: dict[str, Any], group: str) -> str:
    return str(prior_distance(a, b, group))
