"""How stores carry what an attribute cannot: the poses of an empirical prior, and a detector's transfer function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from cryobench.physics.detector import DetectorTransfer

POSE_TABLE: Final = "assumed_pose_table"
"""Variable of an observed store that holds the poses of an assumed empirical prior."""


def split_pose_prior(prior: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """A pose prior as an observed store holds it: its ``assumed_pose`` attribute, and variables by name (none or one)."""
    attribute = {key: value for key, value in prior.items() if key != "quaternions"}
    return attribute, {POSE_TABLE: np.asarray(prior["quaternions"])} if "quaternions" in prior else {}


def join_pose_prior(observed: xr.Dataset) -> dict[str, Any]:
    """The pose prior that an observed store tells to assume, its table (if any) in memory."""
    prior = dict(observed.attrs["assumed_pose"])
    return prior | ({"quaternions": observed[POSE_TABLE].values} if POSE_TABLE in observed else {})


def detector_attributes(detector: DetectorTransfer | None) -> dict[str, Any]:
    """The ``detector`` attribute of an observed store, where there is a detector."""
    if detector is None:
        return {}
    return {"detector": {"frequencies": detector.frequencies.tolist(), "values": detector.values.tolist()}}


def detector_from(observed: xr.Dataset) -> DetectorTransfer | None:
    """The detector's transfer function that an observed store carries, if any."""
    if "detector" not in observed.attrs:
        return None
    stored = observed.attrs["detector"]
    return DetectorTransfer(*(torch.as_tensor(stored[key], dtype=torch.float64) for key in ("frequencies", "values")))
