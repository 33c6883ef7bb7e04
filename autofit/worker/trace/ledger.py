"""Who holds how many bytes, and who computes how much, while fake tensors go through a model."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.worker.trace.kernel_work import tensors_in, work_of
from autofit.worker.trace.remembered_shapes import call
from autofit.worker.trace.section import Section
from autofit.worker.trace.static_shapes import STATIC_SHAPES

# Memory is handed out in multiples of this: by CUDA's caching allocator, and by c10 on a CPU.
BLOCK_BYTES = {DeviceKind.CUDA: 512, DeviceKind.CPU: 64}


@dataclass
class Ledger(TorchDispatchMode):
    """A mode under which every new storage counts from its birth to its death, but for those that are `exempt`.

    `shared_shapes` are those of trained parameters that stand at several places of the model.
    """

    kind: DeviceKind
    shared_shapes: frozenset[torch.Size] = frozenset()
    sections: list[Section] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._block_bytes = BLOCK_BYTES[self.kind]
        self._live_bytes = 0
        self._phase, self._turn, self._is_fresh = Phase.FORWARD, 0, False
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def exempt(self, tensors: Iterable[torch.Tensor]) -> None:
        """Leaves parameters and buffers out: whoever reads the trace counts them."""
        for tensor in tensors:
            self._meet(tensor, is_counted=False)

    def begin(self, phase: Phase) -> None:
        """Begins a phase with its first pass through the layers."""
        self._phase, self._turn, self._is_fresh = phase, self._turn + 1, True
        self.enter(None)

    def begin_pass(self, phase: Phase) -> None:
        """Begins a pass of a phase, unless the phase has just begun with it."""
        if phase is not self._phase or not self._is_fresh:
            self.begin(phase)
        self._is_fresh = False

    def enter(self, layer: int | None) -> None:
        """Begins a section of the pass that goes on."""
        self.sections.append(Section(self._phase, layer, [self._live_bytes], turn=self._turn))

    def take_gradient(self, parameter: torch.Tensor) -> None:
        """Takes a parameter's gradient out when it is complete; it counts until here."""
        self.sections[-1].gradient_count += parameter.numel()
        parameter.grad = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        func = self._as_on_device(func, args)
        static = STATIC_SHAPES.get(func)
        out = call(func, args, kwargs) if static is None else static(*args, **kwargs)
        is_new = False
        for tensor in tensors_in((out,)):
            is_new |= self._meet(tensor)
        if is_new or func._schema.is_mutable:
            self.sections[-1].work += work_of(func.overloadpacket, args, kwargs, out)
        return out

    def _as_on_device(self, func: Any, args: tuple[Any, ...]) -> Any:
        """The gradients of a shared parameter are summed in place: torch's engine makes a third tensor of them only
        where they are no plain tensors, as fake ones are (can_accumulate_inplace in torch/csrc/autograd/
        input_buffer.cpp)."""
        is_sum = func is torch.ops.aten.add.Tensor and not torch.is_grad_enabled()
        return torch.ops.aten.add_.Tensor if is_sum and args[0].shape in self.shared_shapes else func

    def _meet(self, tensor: torch.Tensor, *, is_counted: bool = True) -> bool:
        """Counts the tensor's storage; says whether it is new."""
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
        if self.sections and n_bytes:
            self.sections[-1].levels_bytes.append(self._live_bytes)
        return True
