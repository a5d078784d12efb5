from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cryobench.evaluate.correction import correct_for_mask, randomise_phases
from cryobench.evaluate.fsc import fsc
from cryobench.evaluate.hallucination import expect_truth_curve, measure_gap
from cryobench.evaluate.shells import Shells, spectrum
from cryobench.physics.symmetry import rotate_volume, symmetry_rotations

boxes = st.integers(3, 17)
seeds = st.integers(0, 2**31)
scales = st.floats(1e-6, 1e6)


def pair(box: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, box, box, box, generator=generator, dtype=torch.float64)
    return a, a + b


@given(boxes, seeds)
def test_of_a_volume_with_itself_is_one(box: int, seed: int) -> None:
    a, _ = pair(box, seed)
    torch.testing.assert_close(fsc(a, a), torch.ones(box // 2 + 1, dtype=torch.float64))


@given(boxes, seeds, scales, scales)
def test_scales_do_not_matter_and_a_sign_turns_it_round(box: int, seed: int, s: float, t: float) -> None:
    a, b = pair(box, seed)
    torch.testing.assert_close(fsc(s * a, t * b), fsc(a, b))
    torch.testing.assert_close(fsc(-s * a, t * b), -fsc(a, b))


@given(boxes, seeds)
def test_is_symmetric_and_within_one(box: int, seed: int) -> None:
    a, b = pair(box, seed)
    torch.testing.assert_close(fsc(a, b), fsc(b, a))
    assert fsc(a, b).abs().max() <= 1


@given(boxes, seeds, st.integers(0, 23), st.tuples(*[st.integers(0, 16)] * 3))
def test_moving_both_volumes_alike_changes_nothing(
    box: int, seed: int, element: int, shift: tuple[int, int, int]
) -> None:
    """Up to the plane that the half-space holds twice: about x nothing changes at all."""
    a, b = pair(box, seed)
    rotation = symmetry_rotations("O")[element]
    moved = [rotate_volume(v, rotation).roll(shift, (0, 1, 2)) for v in (a, b)]
    if rotation[0, 0].abs() > 0.5:
        torch.testing.assert_close(fsc(*moved), fsc(a, b))
    else:
        error = 4 / Shells(box).sum(torch.ones(box, box, box // 2 + 1)).sqrt()
        assert ((fsc(*moved) - fsc(a, b)).abs() <= error).all()


@given(boxes, seeds, st.integers(0, 9))
def test_random_phases_keep_amplitudes_and_what_lies_below(box: int, seed: int, first: int) -> None:
    a, _ = pair(box, seed)
    found = randomise_phases(a, first, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(spectrum(found).abs(), spectrum(a).abs())
    torch.testing.assert_close(fsc(a, found)[:first], torch.ones(box // 2 + 1, dtype=torch.float64)[:first])


@given(boxes, seeds)
def test_a_mask_that_holds_everything_changes_nothing_and_a_correction_adds_nothing(box: int, seed: int) -> None:
    a, b = pair(box, seed)
    found = correct_for_mask(a, b, torch.ones_like(a))
    torch.testing.assert_close(found.masked, found.unmasked)
    # what the randomised maps share is taken away; where they are anticorrelated by chance, none was there to take
    assert (found.corrected <= found.masked + 1e-9)[found.randomised >= 0].all()


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_a_truth_that_bears_out_what_is_promised_leaves_no_gap(values: list[float]) -> None:
    half_map = torch.tensor(values, dtype=torch.float64)
    expected = expect_truth_curve(half_map)
    assert expected.min() >= 0
    assert (expected >= half_map - 1e-12).all()
    gap = measure_gap(half_map, expected)
    assert gap.by_shell.abs().max() == 0
    assert gap.mean in (None, 0.0)
