"""Linear maps whose transpose is known: either is the derivative of the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

Map: TypeAlias = Callable[[Tensor], Tensor]


def apply_linear(array: Tensor, forward: Map, transpose: Map) -> Tensor:
    """``forward(array)``, differentiable any number of times, with ``transpose`` for its derivative.

    Args:
        array: real.
        forward: linear, real to real, free to leave PyTorch.
        transpose: its exact transpose.
    """
    result = _Linear.apply(array, forward, transpose)  # type: ignore[no-untyped-call]
    assert isinstance(result, Tensor)
    return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, array: Tensor, forward: Map, transpose: Map) -> Tensor:
        ctx.pair = (transpose, forward)
        return forward(array)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return apply_linear(gradient, *ctx.pair), None, None
