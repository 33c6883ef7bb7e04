"""Products with frozen 8-bit weights that keep no more for the backward pass than it needs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

Forward = Callable[..., torch.Tensor]


@functools.cache
def keep_no_inputs() -> None:
    """Has bitsandbytes' 8-bit products drop their input, which only a gradient of the weight would need.

    They keep it on their context, past autograd (MatMul8bitLt and MatMul8bitFp in bitsandbytes/autograd/_functions.py,
    0.50), so that checkpointing that is not reentrant would save nothing.
    """
    from bitsandbytes.autograd import _functions

    products: tuple[Any, ...] = (_functions.MatMul8bitLt, _functions.MatMul8bitFp)
    for product in products:
        product.forward = staticmethod(_dropping(product.forward))


def _dropping(forward: Forward) -> Forward:
    def dropping_forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, *others: Any) -> torch.Tensor:
        product = forward(ctx, inputs, weight, *others)
        if inputs.numel() and not ctx.needs_input_grad[1]:
            ctx.A, ctx.tensors = None, (None, None, None)
        return product

    return dropping_forward
