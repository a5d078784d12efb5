"""Images of half precision: stored in a unit of their own, so that no scale of density overflows or vanishes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cryobench.errors import StoreError


def encode(array: zarr.Array[Any], values: NDArray[Any]) -> NDArray[Any]:
    """``values`` as ``array`` stores them.

    Raises:
        StoreError: if one is beyond what the array can hold.
    """
    if array.dtype != np.float16 or values.dtype == np.float16:
        return np.asarray(values, array.dtype)
    with np.errstate(over="ignore"):
        scaled = (values * (1 / float(array.attrs["scale_factor"]))).astype(np.float16)  # type: ignore[arg-type]
    if not np.isfinite(scaled).all():
        raise StoreError(
            f"{array.name} holds values up to {np.abs(values).max():.3g}, beyond the range of float16 in the store's unit "
            f"{array.attrs['scale_factor']}; choose image.dtype float32"
        )
    return scaled


def half_precision_unit(deviation: float) -> float:
    """Unit for float16 images of a standard deviation: the power of two next to it, so that scaling itself never rounds.

    Values of 65,504 units fit, and the spacing is relative (2^-11) down to 6e-5 of a unit, absolute (6e-8) below.
    """
    return 2.0 ** round(math.log2(deviation)) if deviation > 0 else 1.0
