"""torchao's AdamW in few bits for ZeRO's flat shares of the parameters, whose lengths are no multiples of its blocks.

torchao 0.18 leaves the moments of a tensor that its blocks do not divide in the tensor's own dtype, without a word
(`_new_buffer` in optim/adam.py): in bf16, rounded to nearest, they take twice the bytes and stand still. Here the last
block is filled up. Its update of one tensor is used as it is, span by span, for what it makes on the way is several
times what it updates: compiled on a GPU, once for all that fills a span; not compiled on a CPU, where that takes a
compiler and a minute before the first step. What is compiled takes plain tensors: for each call with torchao's own,
torch looks through their insides for 0.4 to 0.8 ms, where these take 0.15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
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
        adamw = _compiled_adamw() if is_compiled else _adamw
        end = begin + weight.numel()
        mean, square = (_part(state[name], begin, end) for name in ("exp_avg", "exp_avg_sq"))
        rate = torch.as_tensor(group["lr"], dtype=torch.float32)  # compiled anew for each number otherwise
        rates = (rate, *group["betas"], group["weight_decay"], group["eps"])
        adamw(self.codes, weight, gradient, state["step"], (mean, square), rates)


class FlatAdamW8bit(_FlatAdamW):
    codes = OptimState8bit
    block_elements = 256


class FlatAdamW4bit(_FlatAdamW):
    codes = OptimState4bit
    block_elements = 128


Parts = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Of some elements of a moment: codes, scales, and the numbers that the codes stand for."""


def _part(moment: Any, begin: int, end: int) -> Parts:
    """The moment of the elements from `begin` to `end`, both multiples of a block, as views."""
    packed, block = moment.numel() // moment.codes.numel(), moment.block_size
    return moment.codes[begin // packed : end // packed], moment.scale[begin // block : end // block], moment.qmap


def _adamw(
    codes: Any,
    weight: torch.Tensor,
    gradient: torch.Tensor,
    step: torch.Tensor,
    moments: tuple[Parts, Parts],
    rates: tuple[torch.Tensor, float, float, float, float],
) -> None:
    """torchao's AdamW in place; `rates` are the learning rate, both betas, the weight decay and epsilon."""
    shape = () if codes is OptimState8bit else (weight.shape,)
    mean, square = (
        codes(*parts, is_signed, *shape, dtype=weight.dtype)
        for parts, is_signed in zip(moments, (True, False), strict=True)
    )
    single_param_adam(weight, gradient, step, mean, square, None, *rates, True, weight.dtype is torch.bfloat16)


@cache
def _compiled_adamw() -> Callable[..., None]:
    return torch.compile(_adamw, fullgraph=True, dynamic=False)


def _spans(count: int, span: int) -> Iterator[tuple[int, int]]:
    return ((begin, min(begin + span, count)) for begin in range(0, count, span))
