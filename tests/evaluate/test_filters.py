from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.filters import filter_volume
from cryobench.evaluate.fsc import fsc
from cryobench.physics.grids import radius


def gaussian(box: int, deviation: float) -> Tensor:
    r = radius(box, 3, torch.zeros((), dtype=torch.float64))
    return torch.exp(-(r**2) / (2 * deviation**2)) / (deviation * math.sqrt(2 * math.pi)) ** 3


@pytest.mark.parametrize("box", [31, 32])
def test_widths_of_gaussians_add_in_squares(box: int) -> None:
    torch.testing.assert_close(
        filter_volume(gaussian(box, 1.5), 2.0), gaussian(box, 2.5), rtol=0, atol=1e-6 * float(gaussian(box, 2.5).max())
    )


def test_of_no_width_changes_nothing_and_keeps_the_dtype() -> None:
    volume = torch.randn(9, 9, 9, generator=torch.Generator().manual_seed(0))
    found = filter_volume(volume, 0.0)
    assert found.dtype == volume.dtype
    torch.testing.assert_close(found, volume)


def test_of_both_volumes_hardly_changes_a_correlation_by_shells() -> None:
    draws = torch.randn(2, 24, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b = draws[0], draws[0] + draws[1]
    assert (fsc(filter_volume(a, 1.0), filter_volume(b, 1.0)) - fsc(a, b))[2:].abs().max() < 0.06


@pytest.mark.parametrize("deviation", [-1.0, math.nan])
def test_refuses_a_width_below_zero(deviation: float) -> None:
    with pytest.raises(InputError, match="0 voxels or more"):
        filter_volume(torch.ones(4, 4, 4), deviation)
