"""Scans without a package: torch's operators up to their loops, and one kernel for all the steps of each loop, which
would take minutes on fake tensors. Their arithmetic is that of transformers' own functions (5.23)."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from autofit.worker.trace.fake_kernel import FP32, Kernel
from autofit.worker.trace.scan_kernels import DELTA_CHUNK_TOKENS


def scan_by_token(
    u: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor,
    D: torch.Tensor | None = None, z: torch.Tensor | None = None, delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False, **_: Any,
) -> Any:  # fmt: skip
    """The selective scan without a package: torch's operators, then one step after the other, each of which keeps the
    state. The steps are one kernel here; thousands of them would take minutes."""
    if delta_bias is not None:
        dt = dt + delta_bias.to(dt.dtype)[..., None]
    if delta_softplus:
        dt = functional.softplus(dt)
    decay = torch.exp(A[None, :, None, :] * dt[..., None])
    added = dt[..., None] * B.transpose(1, 2)[:, None].float() * u[..., None].float()
    batch, channels, tokens, states = added.shape
    passed = ((tokens, batch, channels, states), added.dtype)
    kept = [passed] if u.dtype is added.dtype else [passed, (passed[0], u.dtype)]
    own = (tuple(u.shape), u.dtype)
    # What a step adds to the state is not kept.
    out = Kernel(own, kept, [own], [passed, passed], flop=2 * added.numel(), unkept=1)(added, decay, C)
    if D is not None:
        out = out + u * D[None, :, None]
    return out if z is None else out * functional.silu(z)


def delta_rule_by_chunk(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, g: torch.Tensor, beta: torch.Tensor,
    chunk_size: int = DELTA_CHUNK_TOKENS, use_qk_l2norm_in_kernel: bool = False, **_: Any,
) -> Any:  # fmt: skip
    """The gated delta rule without a package: torch's operators in fp32 on all chunks at once, then one chunk after the
    other, each of which keeps the state and its corrected values. The chunks are one kernel here."""
    heads, dtype = value.shape[2], query.dtype
    if key.shape[2] != heads:
        query, key = (tensor.repeat_interleave(heads // tensor.shape[2], dim=2) for tensor in (query, key))
    query, key, value, beta, g = (_by_head(tensor) for tensor in (query, key, value, beta, g))
    if use_qk_l2norm_in_kernel:
        query, key = (tensor * torch.rsqrt((tensor * tensor).sum(-1, keepdim=True) + 1e-6) for tensor in (query, key))
    query = query * query.shape[-1] ** -0.5
    tokens = query.shape[2]
    pad = -tokens % chunk_size
    query, key, value = (functional.pad(tensor, (0, 0, 0, pad)) for tensor in (query, key, value))
    beta, g = (functional.pad(tensor, (0, pad)) for tensor in (beta, g))
    weighted = [value * beta.unsqueeze(-1), key * beta.unsqueeze(-1)]
    query, key, new, old = (tensor.unflatten(2, (-1, chunk_size)) for tensor in (query, key, *weighted))
    decay = g.unflatten(2, (-1, chunk_size)).cumsum(dim=3)
    hidden = torch.ones(chunk_size, chunk_size, dtype=torch.bool).triu(1)
    pairs = (decay.unsqueeze(4) - decay.unsqueeze(3)).masked_fill(hidden, float("-inf")).exp()
    system = (old @ key.transpose(-1, -2)) * pairs
    scores = (query @ key.transpose(-1, -2)) * pairs
    old = old * decay.exp().unsqueeze(-1)
    new, old = (torch.linalg.solve_triangular(system, one, upper=False, unitriangular=True) for one in (new, old))
    query = query * decay.exp().unsqueeze(-1)
    key = key * (decay[..., -1:] - decay).exp().unsqueeze(-1)
    whole = decay[..., -1].exp()
    values = (tuple(new.shape), FP32)
    states = ((*new.shape[:3], key.shape[-1], new.shape[-1]), FP32)
    flop = 2 * new.numel() * (3 * key.shape[-1] + chunk_size)
    kernel = Kernel(values, [states, values], [], [values, (tuple(key.shape), FP32)], flop, unkept=1)
    out = kernel(new, old, query, scores, key, whole).flatten(2, 3)[:, :, :tokens]
    return out.transpose(1, 2).to(dtype, memory_format=torch.contiguous_format), None


def kimi_delta_by_chunk(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, g: torch.Tensor, beta: torch.Tensor,
    chunk_size: int = DELTA_CHUNK_TOKENS, use_qk_l2norm_in_kernel: bool = False, **_: Any,
) -> Any:  # fmt: skip
    """Kimi's delta rule without a package, whose decay is one of each channel: as above, but that chunks are inverted
    row by row, and that each one keeps the products of all pairs of its tokens."""
    dtype, tokens = query.dtype, query.shape[1]
    query, key, value, beta, g = (_by_head(tensor) for tensor in (query, key, value, beta, g))
    if use_qk_l2norm_in_kernel:
        query, key = (tensor / torch.sqrt((tensor * tensor).sum(-1, keepdim=True) + 1e-6) for tensor in (query, key))
    scale, pad = query.shape[-1] ** -0.5, -tokens % chunk_size
    query, key, value, g = (functional.pad(tensor, (0, 0, 0, pad)) for tensor in (query, key, value, g))
    query, beta = query * scale, functional.pad(beta, (0, pad))
    weighted = [value * beta.unsqueeze(-1), key * beta.unsqueeze(-1)]
    query, key, g, new, old = (tensor.unflatten(2, (-1, chunk_size)) for tensor in (query, key, g, *weighted))
    g = g.cumsum(dim=3)
    hidden = torch.ones(chunk_size, chunk_size, dtype=torch.bool).triu(0)
    later = torch.ones(chunk_size, chunk_size, dtype=torch.bool).triu(1)
    decay = (g.unsqueeze(4) - g.unsqueeze(3)).masked_fill(later[..., None], float("-inf")).exp()
    system = -(old.unsqueeze(4) * key.unsqueeze(3) * decay).sum(-1).masked_fill(hidden, 0)
    for row in range(1, chunk_size):
        above = system[..., row, :row].clone()
        system[..., row, :row] = above + (above.unsqueeze(-1) * system[..., :row, :row].clone()).sum(-2)
    system = system + torch.eye(chunk_size)
    new, old = system @ new, system @ (old * g.exp())
    values, pairs = (tuple(new.shape), FP32), (tuple(decay.shape), FP32)
    keys = (tuple(key.shape), FP32)
    scores = ((*new.shape[:3], chunk_size, chunk_size), FP32)
    states = ((*new.shape[:3], key.shape[-1], new.shape[-1]), FP32)
    flop = 2 * new.numel() * (3 * key.shape[-1] + chunk_size)
    one = ((*decay.shape[:2], 1, *decay.shape[3:]), FP32)  # chunk's pairs
    kept = [keys] * 4 + [pairs, scores, states, values]
    kernel = Kernel(values, kept, [one], [pairs, one, keys, keys, keys, keys, values, values, states], flop)
    out = kernel(query, key, new, old, g, decay).flatten(2, 3)[:, :, :tokens]
    return out.transpose(1, 2).contiguous().to(dtype), None


def _by_head(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(1, 2).to(FP32, memory_format=torch.contiguous_format)
