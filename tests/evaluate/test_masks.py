from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.masks import EDGE, EXTENSION, LOW_PASS, find_flaws, make_specimen_mask, make_sphere_mask
from cryobench.physics.grids import radius, soft_sphere
from cryobench.physics.symmetry import rotate_volume

BOX, VOXEL = 48, 4.0
R = radius(BOX, 3, torch.zeros((), dtype=torch.float64)) * VOXEL


def ball(size: float, density: float = 1.0, solvent: float = 0.0) -> Tensor:
    return torch.where(size > R, density, 0.0) + solvent


@pytest.mark.parametrize("size", [30.0, 45.0])
def test_a_specimens_mask_is_its_shape_grown_and_softened(size: float) -> None:
    mask = make_specimen_mask(ball(size), VOXEL)
    assert mask.shape == (BOX,) * 3
    assert (mask.min(), mask.max()) == (0, 1)
    assert (mask[size + EXTENSION > R] == 1).all()
    # the low-passed ball is above the level for less than half a period beyond its rim
    assert mask[size + LOW_PASS / 2 + EXTENSION + EDGE + VOXEL < R].max() == 0
    # half-way down the edge is where extension and half the edge put it, the rim of the low-passed ball within a voxel or two
    middle = R[(mask > 0.4) & (mask < 0.6)].mean()
    assert size + EXTENSION + EDGE / 2 < middle < size + LOW_PASS / 2 + EXTENSION + EDGE / 2


def test_a_specimens_mask_does_not_depend_on_scale_or_solvent() -> None:
    torch.testing.assert_close(make_specimen_mask(ball(30, 7e-4, -0.3), VOXEL), make_specimen_mask(ball(30), VOXEL))


def test_a_specimens_mask_turns_with_it() -> None:
    specimen = ball(25).roll((2, -5, 3), (0, 1, 2)) + 0.5 * ball(20).roll((-5, 4, 0), (0, 1, 2))
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(
        make_specimen_mask(rotate_volume(specimen, turn), VOXEL),
        rotate_volume(make_specimen_mask(specimen, VOXEL), turn),
    )


def test_a_sphere_of_a_given_radius_and_the_largest_in_the_box() -> None:
    mask = make_sphere_mask(BOX, VOXEL, 40.0)
    assert (mask[R <= 40] == 1).all()
    assert (mask[40 + EDGE <= R] == 0).all()
    largest = make_sphere_mask(BOX, VOXEL)
    assert (largest[0].max(), largest[-1].max()) == (0, 0)
    assert largest.mean() > 0.15


def test_a_mask_without_faults_has_no_flaws() -> None:
    specimen = ball(40)
    assert find_flaws(make_specimen_mask(specimen, VOXEL), specimen) == []
    assert find_flaws(make_sphere_mask(BOX, VOXEL)) == []


def test_says_that_a_mask_is_binary() -> None:
    (flaw,) = find_flaws((make_sphere_mask(BOX, VOXEL, 50.0) > 0.5).double(), ball(40))
    assert "no soft edge" in flaw


def test_says_that_a_mask_cuts_the_particle_and_how_much() -> None:
    specimen, mask = ball(40), make_sphere_mask(BOX, VOXEL, 50.0).roll(6, 2)
    (flaw,) = find_flaws(mask, specimen)
    lost = 1 - float((mask * specimen).square().sum() / specimen.square().sum())
    assert f"takes away {lost:.0%}" in flaw


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.full((BOX,) * 3, torch.nan), "finite values from 0 to 1"),
        (2 * soft_sphere(BOX, 9.0, 5.0, R), "finite values from 0 to 1"),
        (torch.zeros(BOX, BOX, BOX), "nowhere above 0.5"),
        (soft_sphere(BOX - 2, 9.0, 5.0, R), "resample it"),
    ],
)
def test_refuses_what_is_no_mask(mask: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_flaws(mask, ball(40))


def test_refuses_a_specimen_without_density() -> None:
    with pytest.raises(InputError, match="differs from the solvent"):
        make_specimen_mask(torch.zeros(16, 16, 16), VOXEL)


def test_refuses_a_sphere_that_the_box_cannot_hold() -> None:
    with pytest.raises(InputError, match="radius above 0"):
        make_sphere_mask(8, 40.0)
