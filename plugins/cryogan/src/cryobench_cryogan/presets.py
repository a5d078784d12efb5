"""Whole sets of parameters under one name: ours, and those of the published study. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

PresetName: TypeAlias = Literal["fast", "convolutions", "paper", "paper-experimental", "paper-ribosome"]

_CONVOLUTIONS: Final[dict[str, Any]] = {
    "discriminator": "convolutions",
    "penalty": 0.1,
    "hidden": 10,
    "reflect": False,
    "coarsest": None,
    "steps": 4000,
    "learning_rate_discriminator": 3e-3,
    "final_rate": 0.05,
}
_PAPER: Final[dict[str, Any]] = {
    "loss": "wasserstein",
    "steps": None,
    "epochs": 40.0,
    "together": False,
    "n_discr": 4,
    "batch": 8,
    "shuffle": True,
    "learning_rate_volume": 1e-3,
    "learning_rate_discriminator": 1e-3,
    "learning_rate_scales": 1e-3,
    "epoch_decay": 0.01,
    "beta1": 0.5,
    "beta2": 0.9,
    "epsilon": 1e-8,
    "penalty": 0.001,
    "penalty_interval": 1,
    "discriminator": "convolutions",
    "channels": 96,
    "hidden": 10,
    "reflect": False,
    "coarsest": None,
    "network_seed": 0,
    "mask_radius": 1.0,
    "noise": "paired",
    "whole_pixel_shifts": True,
    "normalise": "image",
    "bfloat16": False,
    "average": 0.0,
}
_EXPERIMENTAL: Final[dict[str, Any]] = {
    **_PAPER,
    "epochs": 15.0,
    "epoch_decay": 0.08,
    "penalty": 1.0,
    "smoothing": 2.0,
    "smoothing_decay": 0.02,
}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "fast": {},
    "convolutions": _CONVOLUTIONS,
    "paper": _PAPER,
    "paper-experimental": _EXPERIMENTAL,
    "paper-ribosome": {**_EXPERIMENTAL, "epochs": 20.0, "mask_radius": 0.8},
}
"""What each preset sets; everything else is at its default, which is what ``fast`` means."""


def fill_in(given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` parameters on top of those of their preset; of ``steps`` and ``epochs``, the one given drops the preset's other.

    An unknown preset is left for validation to refuse.
    """
    name = given.get("preset", "fast")
    values = dict(PRESETS.get(name, {})) if isinstance(name, str) else {}
    for one, other in (("steps", "epochs"), ("epochs", "steps")):
        if given.get(one) is not None and other not in given:
            values[other] = None
    return {**values, **given}
