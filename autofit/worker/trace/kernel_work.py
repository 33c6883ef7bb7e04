"""How much one of torch's operators computes, reads and writes, told by its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from autofit.domain.trace import Work
from autofit.worker.trace.fake_kernel import RUN_KERNEL

_aten = torch.ops.aten
_OBLIVIOUS = {_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty, _aten.new_empty_strided}
_PICKING = {_aten.embedding, _aten.index, _aten.index_select, _aten.gather}  # they read only what they give
_PRODUCTS = {  # where the first factor stands among the arguments
    _aten.mm: 0, _aten.bmm: 0, _aten._grouped_mm: 0, _aten.addmm: 1, _aten.addmm_: 1, _aten.baddbmm: 1,
    _aten._int_mm: 0,
}  # fmt: skip
_ATTENTION = {  # where the query stands, and how many products of the size of its scores there are
    _aten._scaled_dot_product_cudnn_attention: (0, 2),
    _aten._scaled_dot_product_flash_attention: (0, 2),
    _aten._scaled_dot_product_efficient_attention: (0, 2),
    _aten._scaled_dot_product_flash_attention_for_cpu: (0, 2),
    _aten._flash_attention_forward: (0, 2),
    _aten._scaled_dot_product_cudnn_attention_backward: (1, 5),
    _aten._scaled_dot_product_flash_attention_backward: (1, 5),
    _aten._scaled_dot_product_efficient_attention_backward: (1, 5),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: (1, 5),
    _aten._flash_attention_backward: (1, 5),
}


def work_of(packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Work:
    """The work of one kernel: the bytes of what it reads and writes, and the operations of its products where it has
    some."""
    if packet in _OBLIVIOUS:
        return Work()
    written_bytes = sum(_bytes(tensor) for tensor in tensors_in((out,)))
    n_bytes = 2 * written_bytes if packet in _PICKING else written_bytes + _read_bytes(args, kwargs)
    flop = _flop(packet, args, kwargs, out)
    if not flop:
        return Work(other_bytes=n_bytes, kernel_count=1)
    return Work(flop, matmul_bytes=n_bytes, kernel_count=1, attention_flop=flop if packet in _ATTENTION else 0)


def tensors_in(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The tensors among the values, and within their tuples and lists."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)


def _read_bytes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return sum(_bytes(tensor) for tensor in tensors_in((*args, *kwargs.values())))


def _bytes(tensor: torch.Tensor) -> int:
    """The bytes of a tensor; an expanded one is read once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _flop(packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    if (first := _PRODUCTS.get(packet)) is not None:
        return int(2 * args[first].numel() * args[first + 1].shape[-1])
    if packet in _ATTENTION:
        return _attention_flop(packet, args, kwargs)
    if packet is RUN_KERNEL:
        return int(args[-1])
    formula = flop_registry.get(packet)
    return int(formula(*args, **kwargs, out_val=out)) if formula else 0


def _attention_flop(packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """FLOP of attention; a flash kernel leaves out what a causal mask hides, which is half of the scores, and what lies
    before a sliding window."""
    query_at, product_count = _ATTENTION[packet]
    query, key = args[query_at], args[query_at + 1]
    values = dict(zip((argument.name for argument in packet.default._schema.arguments), args, strict=False))
    keys = values.get("max_k", key.shape[-2])
    per_key_flop = 2 * product_count * query.numel()
    if not values.get("is_causal"):
        return int(per_key_flop * keys)
    left = kwargs.get("window_size_left")
    window = keys if left is None else min(left + 1, keys)
    return int(per_key_flop * (2 * window * keys - window**2) // (2 * keys))
