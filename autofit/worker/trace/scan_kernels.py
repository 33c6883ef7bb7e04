"""The kernels of linear attention and of state spaces, on fake tensors: what they keep, and what they take meanwhile.

transformers calls them by the functions below where their package is installed, and torch's operators where not. What
is kept is what each autograd function saves for its backward pass: in mamba-ssm `ops/selective_scan_interface.py` and
`ops/triton/ssd_combined.py`, in causal-conv1d `causal_conv1d_interface.py`, in flash-linear-attention
`ops/gated_delta_rule/chunk.py`. What a kernel takes meanwhile counts as if it all were there at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import torch

from autofit.worker.trace.fake_kernel import FP32, Kernel, Shape

SCAN_CHUNK_TOKENS = 2048  # after so many, the selective scan keeps its state
DELTA_CHUNK_TOKENS = 64


def _packed(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """The tensor, copied where its last dimension is not the innermost one."""
    return tensor if tensor is None or tensor.stride(-1) == 1 else tensor.contiguous()


# --- causal-conv1d ----------------------------------------------------------------------------------------------------


def causal_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *_: Any, **__: Any) -> Any:
    """x is (batch, channels, tokens); the activation function is part of the kernel."""
    if x.stride(2) != 1 and x.stride(1) != 1:
        x = x.contiguous()
    return Kernel((tuple(x.shape), x.dtype), flop=2 * x.numel() * weight.shape[-1])(x, weight, bias)


# --- mamba-ssm: Mamba -------------------------------------------------------------------------------------------------


def selective_scan(
    u: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor,
    D: torch.Tensor | None = None, z: torch.Tensor | None = None, delta_bias: torch.Tensor | None = None, **_: Any,
) -> Any:  # fmt: skip
    """u, dt and z are (batch, channels, tokens), A is (channels, states), B and C are (batch, states, tokens)."""
    batch, channels, tokens = u.shape
    own = (tuple(u.shape), u.dtype)
    states = ((batch, channels, ceil(tokens / SCAN_CHUNK_TOKENS), 2 * A.shape[1]), FP32)
    sums = [(tuple(B.shape), FP32), (tuple(C.shape), FP32)]  # gradients that many channels add to
    kernel = Kernel(own, [states] if z is None else [states, own], passing_backward=sums)
    return kernel(_packed(u), _packed(dt), A, _packed(B), _packed(C), D, _packed(z), delta_bias)


def mamba_inner(
    xz: torch.Tensor, conv_weight: torch.Tensor, conv_bias: torch.Tensor | None, x_proj_weight: torch.Tensor,
    dt_proj_weight: torch.Tensor, out_proj_weight: torch.Tensor, out_proj_bias: torch.Tensor | None, A: torch.Tensor,
    B: None = None, C: None = None, D: torch.Tensor | None = None, delta_bias: torch.Tensor | None = None, **_: Any,
) -> Any:  # fmt: skip
    """From convolution to output projection; xz is (batch, 2 channels, tokens). The convolution is computed again on
    the way back."""
    batch, channels, tokens = xz.shape[0], xz.shape[1] // 2, xz.shape[2]
    states, rank, dtype = A.shape[1], dt_proj_weight.shape[1], xz.dtype
    wide = ((batch, channels, tokens), dtype)
    of_states = (batch, 1, states, tokens)
    kept = [
        ((batch * tokens, rank + 2 * states), dtype), (of_states, dtype), (of_states, dtype), wide,
        ((batch, channels, ceil(tokens / SCAN_CHUNK_TOKENS), 2 * states), FP32),
    ]  # fmt: skip
    flop = 2 * batch * tokens * channels * (2 * rank + 2 * states + out_proj_weight.shape[0])
    passing_backward = [wide] * 5 + [(of_states, FP32)] * 2
    out = ((batch, tokens, out_proj_weight.shape[0]), dtype)
    kernel = Kernel(out, kept, [wide] * 3, passing_backward, flop)
    weights = (conv_weight, conv_bias, x_proj_weight, dt_proj_weight, out_proj_weight, out_proj_bias)
    return kernel(_packed(xz), *weights, A, D, delta_bias)


# --- mamba-ssm: Mamba-2 -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scan:
    """The sizes of a scan in chunks."""

    batch: int
    tokens: int
    heads: int
    head_size: int
    groups: int
    states: int
    chunk: int

    @property
    def steps(self) -> tuple[Shape, torch.dtype]:
        return (self.batch, self.heads, ceil(self.tokens / self.chunk), self.chunk), FP32

    @property
    def scores(self) -> tuple[Shape, torch.dtype]:
        return (self.batch, ceil(self.tokens / self.chunk), self.groups, self.chunk, self.chunk), FP32

    def chunk_states(self, dtype: torch.dtype) -> tuple[Shape, torch.dtype]:
        chunks = ceil(self.tokens / self.chunk)
        return (self.batch, chunks, self.heads, self.head_size, self.states), dtype

    def passing(self, dtype: torch.dtype) -> list[tuple[Shape, torch.dtype]]:
        return [self.steps, self.chunk_states(FP32), self.chunk_states(dtype), self.scores]

    def passing_backward(self, dtype: torch.dtype) -> list[tuple[Shape, torch.dtype]]:
        grouped = ((self.batch, self.tokens, self.groups, self.states), FP32)
        states = [self.chunk_states(FP32)] * 2 + [self.chunk_states(dtype)] * 2
        return [*states, *[self.steps] * 4, *[self.scores] * 2, grouped, grouped]

    @property
    def flop(self) -> int:
        scores = 2 * self.groups * self.chunk * self.states
        values = self.heads * self.head_size * (self.chunk + 4 * self.states)  # half of the scores are masked
        return self.batch * self.tokens * (scores + values)


def chunk_scan(
    x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor, chunk_size: int,
    D: torch.Tensor | None = None, dt_bias: torch.Tensor | None = None, **_: Any,
) -> Any:  # fmt: skip
    """x is (batch, tokens, heads, head size), dt (batch, tokens, heads), B and C (batch, tokens, groups, states)."""
    batch, tokens, heads, head_size = x.shape
    scan = _Scan(batch, tokens, heads, head_size, B.shape[2], B.shape[3], chunk_size)
    passing, passing_backward = scan.passing(x.dtype), scan.passing_backward(x.dtype)
    kernel = Kernel((tuple(x.shape), x.dtype), [scan.steps], passing, passing_backward, scan.flop, keeps_out=True)
    return kernel(x, dt, A, _packed(B), _packed(C), D, dt_bias)


def split_conv_scan(
    zxbcdt: torch.Tensor, conv_weight: torch.Tensor, conv_bias: torch.Tensor | None, dt_bias: torch.Tensor,
    A: torch.Tensor, D: torch.Tensor, chunk_size: int, *, outproj_weight: torch.Tensor, headdim: int,
    rmsnorm_weight: torch.Tensor | None = None, outproj_bias: torch.Tensor | None = None, ngroups: int = 1, **_: Any,
) -> Any:  # fmt: skip
    """From convolution to output projection; zxbcdt is (batch, tokens, …). Only what the scan gives is kept, and the
    norm's deviations."""
    batch, tokens, _width = zxbcdt.shape
    heads, channels, dtype = A.shape[0], conv_weight.shape[0], zxbcdt.dtype
    scan = _Scan(batch, tokens, heads, headdim, ngroups, (channels - heads * headdim) // (2 * ngroups), chunk_size)
    inner, convolved = ((batch, tokens, heads * headdim), dtype), ((batch, tokens, channels), dtype)
    deviations = ((batch * tokens * ngroups,), FP32)
    kernel = Kernel(
        ((batch, tokens, outproj_weight.shape[0]), dtype),
        [inner, deviations],
        [*scan.passing(dtype), scan.steps, convolved, inner],
        [*scan.passing_backward(dtype), convolved, convolved, inner, inner],
        scan.flop + 2 * prod(inner[0]) * outproj_weight.shape[0],
    )
    return kernel(zxbcdt, conv_weight, conv_bias, dt_bias, A, D, rmsnorm_weight, outproj_weight, outproj_bias)


# --- flash-linear-attention -------------------------------------------------------------------------------------------


def chunk_gated_delta_rule(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, g: torch.Tensor, beta: torch.Tensor,
    use_qk_l2norm_in_kernel: bool = False, **_: Any,
) -> Any:  # fmt: skip
    """query and key are (batch, tokens, heads, key size), value (batch, tokens, value heads, value size)."""
    batch, tokens, heads, size = value.shape
    keys, dtype = key.shape[-1], key.dtype
    within = (batch, tokens, heads, DELTA_CHUNK_TOKENS)
    wide = [((batch, tokens, heads, keys), dtype), ((batch, tokens, heads, size), dtype)]
    states = ((batch, ceil(tokens / DELTA_CHUNK_TOKENS), heads, keys, size), dtype)
    normed = [(tuple(query.shape), dtype), (tuple(key.shape), dtype)] if use_qk_l2norm_in_kernel else []
    out = (tuple(value.shape), dtype)
    flop = 2 * batch * tokens * heads * (DELTA_CHUNK_TOKENS * (3 * keys + 2 * size) + 3 * keys * size)
    kernel = Kernel(
        out,
        [*normed, (tuple(g.shape), FP32), (within, dtype)],
        [(within, FP32), *wide, states, out],
        [*wide, *wide, states, states, out, out, (tuple(g.shape), FP32)],
        flop,
        unkept=2 if normed else 0,
    )
    return kernel(_packed(query), _packed(key), _packed(value), g, beta), None
