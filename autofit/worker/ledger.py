"""Who holds how many bytes, and who computes how much, while fake tensors go through a model."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.domain.trace import Work

# Memory is handed out in multiples of this: by CUDA's caching allocator, and by c10 on a CPU.
BLOCK_BYTES = {DeviceKind.CUDA: 512, DeviceKind.CPU: 64}

_aten = torch.ops.aten
_OBLIVIOUS = {_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty, _aten.new_empty_strided}
_PICKING = {_aten.embedding, _aten.index, _aten.index_select, _aten.gather}  # they read only what they give
_PRODUCTS = {  # where the first factor stands among the arguments
    _aten.mm: 0, _aten.bmm: 0, _aten._grouped_mm: 0, _aten.addmm: 1, _aten.addmm_: 1, _aten.baddbmm: 1,
}  # fmt: skip
_ATTENTION = {  # where the query stands, and how many products of the size of its scores there are
    _aten._scaled_dot_product_cudnn_attention: (0, 2),
    _aten._scaled_dot_product_flash_attention: (0, 2),
    _aten._scaled_dot_product_efficient_attention: (0, 2),
    _aten._scaled_dot_product_flash_attention_for_cpu: (0, 2),
    _aten._scaled_dot_product_cudnn_attention_backward: (1, 5),
    _aten._scaled_dot_product_flash_attention_backward: (1, 5),
    _aten._scaled_dot_product_efficient_attention_backward: (1, 5),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: (1, 5),
}


@dataclass
class Section:
    """What happened between two boundaries; `layer` is None outside the decoder's layers."""

    phase: Phase
    layer: int | None
    peak_bytes: int
    gradient_count: int = 0  # elements of parameters whose gradient was completed here
    flop: int = 0
    matmul_bytes: int = 0
    other_bytes: int = 0
    kernel_count: int = 0

    @property
    def work(self) -> Work:
        return Work(self.flop, self.matmul_bytes, self.other_bytes, self.kernel_count)


@dataclass
class Ledger(TorchDispatchMode):
    """Under it every new storage counts from its birth to its death, but for those that are `exempt`."""

    kind: DeviceKind
    sections: list[Section] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._block_bytes = BLOCK_BYTES[self.kind]
        self._live_bytes = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def exempt(self, tensors: Iterable[torch.Tensor]) -> None:
        """Parameters and buffers: whoever reads the trace counts them."""
        for tensor in tensors:
            self._meet(tensor, is_counted=False)

    def enter(self, phase: Phase, layer: int | None = None) -> None:
        self.sections.append(Section(phase, layer, self._live_bytes))

    def take_gradient(self, parameter: torch.Tensor) -> None:
        """A parameter's gradient is complete; it counts until here."""
        self.sections[-1].gradient_count += parameter.numel()
        parameter.grad = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = STATIC_SHAPES.get(func, func)(*args, **kwargs)
        is_new = False
        for tensor in _tensors((out,)):
            is_new |= self._meet(tensor)
        if is_new or func._schema.is_mutable:
            self._work(func.overloadpacket, args, kwargs, out)
        return out

    def _meet(self, tensor: torch.Tensor, *, is_counted: bool = True) -> bool:
        """Whether the tensor's storage is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return False
        n_bytes = -(-storage.nbytes() // self._block_bytes) * self._block_bytes if is_counted else 0

        def forget(_: object) -> None:
            del self._known[key]
            self._live_bytes -= n_bytes

        self._known[key] = weakref.ref(storage, forget)
        self._live_bytes += n_bytes
        if self.sections and self._live_bytes > self.sections[-1].peak_bytes:
            self.sections[-1].peak_bytes = self._live_bytes
        return True

    def _work(self, packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        if packet in _OBLIVIOUS:
            return
        section = self.sections[-1]
        section.kernel_count += 1
        written_bytes = sum(_bytes(tensor) for tensor in _tensors((out,)))
        n_bytes = 2 * written_bytes if packet in _PICKING else written_bytes + _read_bytes(args, kwargs)
        flop = _flop(packet, args, kwargs, out)
        section.flop += flop
        if flop:
            section.matmul_bytes += n_bytes
        else:
            section.other_bytes += n_bytes


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _read_bytes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return sum(_bytes(tensor) for tensor in _tensors((*args, *kwargs.values())))


def _bytes(tensor: torch.Tensor) -> int:
    """An expanded tensor is read once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _flop(packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    if (first := _PRODUCTS.get(packet)) is not None:
        return int(2 * args[first].numel() * args[first + 1].shape[-1])
    if packet in _ATTENTION:
        return _attention_flop(packet, args)
    formula = flop_registry.get(packet)
    return int(formula(*args, **kwargs, out_val=out)) if formula else 0


def _attention_flop(packet: Any, args: tuple[Any, ...]) -> int:
    """A flash kernel leaves out what a causal mask hides: half of the scores."""
    query_at, product_count = _ATTENTION[packet]
    query, key = args[query_at], args[query_at + 1]
    flop = 2 * product_count * query.numel() * key.shape[-2]
    names = [argument.name for argument in packet.default._schema.arguments]
    is_causal = names.index("is_causal") < len(args) and args[names.index("is_causal")]
    return int(flop // 2 if is_causal else flop)


# --- Shapes that depend on data, taken for the case that every position counts ---------------------------------------


def _places(mask: torch.Tensor) -> list[torch.Tensor]:
    """The indices that a mask of nothing but True selects, as `nonzero` gives them: one int64 for each dimension."""
    return list(torch.empty(mask.numel(), mask.dim(), dtype=torch.int64, device=mask.device).unbind(1))


def _index(tensor: torch.Tensor, indices: list[torch.Tensor | None]) -> torch.Tensor:
    return _aten.index.Tensor(tensor, _spread(indices))


def _index_put(
    tensor: torch.Tensor, indices: list[torch.Tensor | None], values: torch.Tensor, accumulate: bool = False
) -> torch.Tensor:
    return _aten.index_put.default(tensor, _spread(indices), values, accumulate)


def _spread(indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    spread: list[torch.Tensor | None] = []
    for index in indices:
        spread += _places(index) if index is not None and index.dtype is torch.bool else [index]
    return spread


def _masked_select(tensor: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.empty(torch.broadcast_shapes(tensor.shape, mask.shape), dtype=tensor.dtype).flatten()


def _grouped_product(
    rows: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor | None = None, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """The kernels take every dtype, torch's rule for fake tensors only bf16."""
    if rows.dtype is torch.bfloat16 or offsets is None:
        return _aten._grouped_mm.default(rows, weight, offsets, *args, **kwargs)
    groups = (offsets.numel(),) if weight.dim() == 2 else ()
    return torch.empty(*groups, rows.shape[0], weight.shape[-1], dtype=rows.dtype)


STATIC_SHAPES: dict[Any, Callable[..., Any]] = {
    _aten.index.Tensor: _index,
    _aten.index_put.default: _index_put,
    _aten.masked_select.default: _masked_select,
    _aten._grouped_mm.default: _grouped_product,
}
