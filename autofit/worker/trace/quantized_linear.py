"""Linear layers whose weights are kept in fewer bits, as bitsandbytes 0.50 runs and keeps them.

Stand-ins for its layers: bitsandbytes need not be installed where a plan is made, and its operators know no fake
tensors. What they make of a weight before each product is what counts (MatMul4Bit, MatMul8bitLt and MatMul8bitFp in
bitsandbytes/autograd/_functions.py). A GPU's forward pass of few rows does without (its gemm_4bit, of at most 512 rows
for large weights); the backward pass, which then has the peak, never does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.quantization import Quantization
from autofit.planning.quantized_weights import BLOCK_ELEMENTS, packed_bytes
from autofit.worker.model.linear_layers import out_features

Shape = tuple[int, int]
"""Outputs and inputs of a layer, the rows and columns of its weight."""

_LIBRARY = torch.library.Library("autofit", "FRAGMENT")


def _define(name: str, arguments: str) -> None:
    """An operator that only reads and writes."""
    _LIBRARY.define(f"{name}({arguments}) -> ()")
    _LIBRARY.impl(name, lambda *_: None, "CPU")
    torch.library.register_fake(f"autofit::{name}", lambda *_: None, lib=_LIBRARY)


_define("widen", "Tensor packed, Tensor scales, Tensor(a!) weight")
_define("narrow_rows", "Tensor rows, Tensor(a!) narrow")
_define("widen_rows", "Tensor product, Tensor(a!) rows")


def quantize(
    layers: Iterable[Any], quantization: Quantization, kind: DeviceKind, adapted: Collection[nn.Module]
) -> None:
    """Replaces what `layers` hold and how they run; the frozen weights of `adapted` ones lie within an adapter."""
    for layer in layers:
        shape = (out_features(layer), layer.weight.numel() // out_features(layer))
        packed_count = packed_bytes(quantization, layer.weight.numel())
        packed = torch.empty(packed_count, dtype=torch.uint8, device=layer.weight.device)
        layer.weight = nn.Parameter(packed, requires_grad=False)
        is_copied = quantization is Quantization.NF4 and layer in adapted
        layer.forward = partial(_forward, layer, _FUNCTIONS[quantization, kind], shape, is_copied)


def _forward(layer: Any, function: Any, shape: Shape, is_copied: bool, rows: torch.Tensor) -> torch.Tensor:
    """The layer's product; PEFT copies it beneath an adapter of a 4-bit layer (lora.bnb.Linear4bit.forward)."""
    product: torch.Tensor = function.apply(rows, layer.weight, layer.bias, shape)
    return product.clone() if is_copied else product


def _widened(packed: torch.Tensor, shape: Shape, dtype: torch.dtype, scale_count: int) -> torch.Tensor:
    """The weight in the dtype that is computed in, which its scales go before, in fp32."""
    scales = torch.empty(scale_count, dtype=torch.float32)
    weight = torch.empty(shape, dtype=dtype)
    torch.ops.autofit.widen(packed, scales, weight)
    return weight


def _nf4_scales(shape: Shape) -> int:
    return -(-shape[0] * shape[1] // BLOCK_ELEMENTS)


class _Nf4Linear(torch.autograd.Function):
    """MatMul4Bit: nothing is kept but the packed weight."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, shape: Shape
    ) -> torch.Tensor:
        ctx.packed, ctx.shape = packed, shape
        return functional.linear(rows, _widened(packed, shape, rows.dtype, _nf4_scales(shape)), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        weight = _widened(ctx.packed, ctx.shape, gradient.dtype, _nf4_scales(ctx.shape))
        return gradient.matmul(weight), None, None, None


class _Int8Linear(torch.autograd.Function):
    """MatMul8bitFp, which a CPU trains with; its input is dropped (worker/model/quantized_products.py)."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, shape: Shape
    ) -> torch.Tensor:
        ctx.packed, ctx.shape = packed, shape
        return functional.linear(rows, _widened(packed, shape, rows.dtype, shape[0]), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        return gradient.matmul(_widened(ctx.packed, ctx.shape, gradient.dtype, ctx.shape[0])), None, None, None


class _Int8CudaLinear(_Int8Linear):
    """MatMul8bitLt: forward the rows are made fp16 and int8, and their product is int32. What columns beyond the
    threshold take is left out."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, shape: Shape
    ) -> torch.Tensor:
        ctx.packed, ctx.shape = packed, shape
        flat = rows.reshape(-1, shape[1])
        half, narrow = flat.to(torch.float16), torch.empty(flat.shape, dtype=torch.int8)
        torch.ops.autofit.narrow_rows(half, narrow)
        del half
        product = torch._int_mm(narrow, packed.view(torch.int8).view(shape).t())
        out = torch.empty(product.shape, dtype=rows.dtype)
        torch.ops.autofit.widen_rows(product, out)  # with the bias
        return out.reshape(*rows.shape[:-1], shape[0])


_FUNCTIONS: dict[tuple[Quantization, DeviceKind], type[torch.autograd.Function]] = {
    (Quantization.NF4, DeviceKind.CPU): _Nf4Linear,
    (Quantization.NF4, DeviceKind.CUDA): _Nf4Linear,
    (Quantization.INT8, DeviceKind.CPU): _Int8Linear,
    (Quantization.INT8, DeviceKind.CUDA): _Int8CudaLinear,
}
