"""The products of quantised weights that are frozen: nothing is kept of them but the weight itself."""

from __future__ import annotations

import functools
from typing import Any

import bitsandbytes
import torch
from bitsandbytes.autograd._functions import MatMul4Bit, MatMul8bitFp, MatMul8bitLt

_NOTHING = (None, None, None)  # of the inputs, which only a weight's own gradient would need


class Product4Bit(MatMul4Bit):
    """Takes its weight from the parameter in the backward pass, too, where ZeRO-3 has gathered it again; bitsandbytes
    holds on to what was gathered for the forward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: Any, *others: Any) -> torch.Tensor:
        product: torch.Tensor = MatMul4Bit.forward(ctx, inputs, weight, *others)
        ctx.weight, ctx.tensors = weight, (None, None)
        return product

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        ctx.tensors = (None, ctx.weight.data.view(-1, 1))
        try:
            return MatMul4Bit.backward(ctx, gradient)
        finally:
            ctx.tensors = (None, None)


class Product8Bit(MatMul8bitLt):
    """Without its inputs, which bitsandbytes keeps past autograd: checkpointing could not drop them."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        product: torch.Tensor = MatMul8bitLt.forward(ctx, *arguments)
        ctx.tensors, ctx.tensor_states = _NOTHING, (None, None)
        return product


class HostProduct8Bit(MatMul8bitFp):
    """The same on a CPU."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
        product: torch.Tensor = MatMul8bitFp.forward(ctx, *arguments)
        ctx.A = None
        return product


@functools.cache
def use_own_products() -> None:
    """Has the layers of bitsandbytes compute with these where a gradient goes through them; until the process ends."""
    usual_4bit, usual_8bit = bitsandbytes.matmul_4bit, bitsandbytes.matmul

    def matmul_4bit(inputs: torch.Tensor, weight: Any, quant_state: Any, bias: Any = None) -> Any:
        if _needs_gradient(inputs):
            return Product4Bit.apply(inputs, weight, None, bias, quant_state)
        return usual_4bit(inputs, weight, quant_state, bias=bias)

    def matmul(inputs: torch.Tensor, weight: Any, state: Any, bias: Any = None) -> Any:
        if _needs_gradient(inputs):
            kind = HostProduct8Bit if inputs.device.type == "cpu" else Product8Bit
            return kind.apply(inputs, weight, None, bias, state)
        return usual_8bit(inputs, weight, state=state, bias=bias)

    bitsandbytes.matmul_4bit, bitsandbytes.matmul = matmul_4bit, matmul


def _needs_gradient(inputs: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and inputs.requires_grad
