from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cryobench.evaluate.fsc import fsc
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
    a, b = pair(box, seed)
    rotation = symmetry_rotations("O")[element]
    moved = [rotate_volume(v, rotation).roll(shift, (0, 1, 2)) for v in (a, b)]
    torch.testing.assert_close(fsc(*moved), fsc(a, b))
