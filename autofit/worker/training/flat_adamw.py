"""torchao's AdamW in few bits for ZeRO's flat shares of the parameters, whose lengths are no multiples of its blocks.

torchao 0.18 leaves the moments of a tensor that its blocks do not divide in the tensor's own dtype, without a word
(`_new_buffer` in optim/adam.py): in bf16, rounded to nearest, they take twice the bytes and stand still. Here the last
block is filled up. Its update of one tensor is used as it is, span by span, for what it makes on the way is several
times what it updates: compiled on a GPU, as torchao does it, once for all that fills a span; not compiled on a CPU,
where that takes a compiler and a minute before the first step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import pad
from torchao.optim.adam import _AdamBase, single_param_adam
from torchao.optim.subclass_4bit import OptimState4bit
from torchao.optim.subclass_8bit import OptimState8bit

from autofit.domain.hardware import DeviceKind
from autofit.planning.optimizer_states import SPAN_ELEMENTS


class _FlatAdamW(_AdamBase):
    """AdamW on flat tensors, its moments in codes, bf16 weights rounded at random. The keywords are torchao's."""

    codes: Any
    block_elements: int

    def __init__(self, params: Any, **kwargs: Any) -> None:
        kwargs.setdefault("weight_decay", 0.0)  # transformers gives it group by group
        fixed = {"amsgrad": False, "block_size": self.block_elements, "bf16_stochastic_round": True, "is_adamw": True}
        super().__init__(params, **(kwargs | fixed))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Updates all parameters."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter.detach(), parameter.grad, self._state(parameter), group)

    def _state(self, parameter: torch.Tensor) -> dict[str, Any]:
        """The states of a parameter, made at its first step."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            count = -(-parameter.numel() // self.block_elements) * self.block_elements
            state["step"] = torch.tensor(0.0)
            for name, is_signed in (("exp_avg", True), ("exp_avg_sq", False)):
                state[name] = self.codes.zeros(
                    (count,), is_signed, self.block_elements, parameter.device, dtype=parameter.dtype
                )
        return state

    def _update(self, weight: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: Any) -> None:
        state["step"] += 1
        whole = weight.numel() // self.block_elements * self.block_elements
        span = SPAN_ELEMENTS[DeviceKind.CUDA if weight.is_cuda else DeviceKind.CPU]
        for begin, end in _spans(whole, span):
            is_compiled = weight.is_cuda and end - begin == span
            self._update_span(weight[begin:end], gradient[begin:end], begin, state, group, is_compiled=is_compiled)
        if rest := weight.numel() - whole:
            filled = (0, self.block_elements - rest)
            last = pad(weight[whole:], filled)
            self._update_span(last, pad(gradient[whole:], filled), whole, state, group, is_compiled=False)
            weight[whole:] = last[:rest]

    def _update_span(
        self,
        weight: torch.Tensor,
        gradient: torch.Tensor,
        begin: int,
        state: dict[str, Any],
        group: Any,
        *,
        is_compiled: bool,
    ) -> None:
        update = torch.compile(single_param_adam, fullgraph=True, dynamic=False) if is_compiled else single_param_adam
        moments = [self._part(state[name], begin, weight.numel()) for name in ("exp_avg", "exp_avg_sq")]
        betas = group["betas"]
        rates = (group["lr"], *betas, group["weight_decay"], group["eps"])
        is_rounded_at_random = weight.dtype is torch.bfloat16
        update(weight, gradient, state["step"], *moments, None, *rates, self.is_adamw, is_rounded_at_random)

    def _part(self, moment: Any, begin: int, count: int) -> Any:
        """The moments of `count` elements from `begin` on, both multiples of a block, as views."""
        block = moment.block_size
        packed = moment.numel() // moment.codes.numel()
        codes = moment.codes[begin // packed : (begin + count) // packed]
        scale = moment.scale[begin // block : (begin + count) // block]
        shape = () if isinstance(moment, OptimState8bit) else ((count,),)
        return self.codes(codes, scale, moment.qmap, moment.signed, *shape, dtype=moment.dtype)


class FlatAdamW8bit(_FlatAdamW):
    codes = OptimState8bit
    block_elements = 256


class FlatAdamW4bit(_FlatAdamW):
    codes = OptimState4bit
    block_elements = 128


def _spans(count: int, span: int) -> Iterator[tuple[int, int]]:
    return ((begin, min(begin + span, count)) for begin in range(0, count, span))
