"""The linear layer that ZeRO-3 puts in the place of torch's (memory_efficient_linear, on by default).

So that its weight can be taken apart while the backward pass waits for it, it keeps weight and input by themselves:
the input of a frozen weight, too, which torch drops (deepspeed/runtime/zero/linear.py, 0.19.8).
"""

from __future__ import annotations

from typing import Any

import torch


class _KeepingLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(input, weight)
        product = input.matmul(weight.t())
        return product if bias is None else product.add_(bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of input (…, in), weight (out, in) and bias (out), as far as they are wanted."""
        input, weight = ctx.saved_tensors
        (grad,) = grads
        rows = grad.reshape(-1, grad.shape[-1])
        wants_input, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            grad.matmul(weight) if wants_input else None,
            rows.t().matmul(input.reshape(-1, input.shape[-1])) if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )


def keeping_linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """torch.nn.functional.linear as a module under ZeRO-3 finds it."""
    result: torch.Tensor = _KeepingLinear.apply(input, weight, bias)  # type: ignore[no-untyped-call]
    return result
