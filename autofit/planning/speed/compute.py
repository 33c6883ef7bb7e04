"""Seconds that a device computes for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from autofit.domain.hardware import DeviceKind, Rates
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trace import Work
from autofit.planning.fused_update import is_fused
from autofit.planning.gradient_clipping import clipping_norm
from autofit.planning.memory.activations import moments
from autofit.planning.memory.states import offload_of, part_count, trained_count
from autofit.planning.plain_torch import is_plain, trained_bytes
from autofit.planning.setting import Setting

from . import host_time
from .attention import attention_flop_per_s
from .rates import fitted_speed, peak_flop_per_s
from .work import by_formula, traced, typical_tokens

HALF_FILLED_ELEMENTS = {DeviceKind.CUDA: 2**20, DeviceKind.CPU: 2**12}
"""Elements of a product's result at which half of the device idles: on a GPU half a wave of 128 × 128 tiles on some
hundred multiprocessors, for half a wave is what the last, unfilled one costs on average; on a CPU a small tile."""

UPDATE_BYTES = {DeviceKind.CUDA: 40, DeviceKind.CPU: 80}
"""Bytes that a trained parameter of a rank moves: Adam reads 16 and writes 12, the norm, the clipping, the fp32
gradient and the new 16-bit weight take 12; torch's plain AdamW, on a CPU, makes a pass of memory for each operation."""

PLAIN_UPDATE_BYTES = 40
"""The same of plain torch, whose fused AdamW runs on a CPU as well (torch 2.13): 28 of its own, 4 for the norm, and 8
to clip the gradient where it lies."""


FUSED_UPDATE_BYTES = {Optimizer.LOMO: 18, Optimizer.ADALOMO: 94}
ROUNDING_BYTES = 44
"""The same of LOMO, which reads and writes weight and gradient in a few passes, and of AdaLomo, which makes its update
three times: for the squares, for its size, and to use it; and of rounding to 16 bits by chance, whose bits are drawn,
added and cut off (worker/fused_update/)."""


@dataclass(frozen=True)
class MicroStepSeconds:
    forward_s: float
    backward_s: float

    @property
    def total_s(self) -> float:
        return self.forward_s + self.backward_s


def micro_step(strategy: Strategy, setting: Setting, rates: Rates) -> MicroStepSeconds:
    """Seconds of one micro-batch of typical width on the slowest device."""
    seen = moments(strategy, setting)
    if seen is None:
        work = by_formula(strategy, setting, typical_tokens(strategy, setting))
    else:
        work = traced(seen, strategy, setting)
    forward_s, backward_s = (_device_s(each, strategy, setting, rates) for each in (work.forward, work.backward))
    return MicroStepSeconds(
        _beside(forward_s, host_time.forward_s(work.forward, strategy, setting), setting),
        _beside(backward_s, host_time.backward_s(work.backward, strategy, setting), setting),
    )


def pass_count(strategy: Strategy, setting: Setting) -> int:
    """Forward and backward passes of an optimizer step. Where LOMO clips, the last micro-batch runs twice: it must know
    the norm of all gradients before it uses the first (Lv et al., 2306.09782, section 3.3.1)."""
    rung, words = strategy.rung, setting.request.training.extra_arguments
    is_measured = is_fused(rung) and clipping_norm(rung.optimizer, words) > 0
    return strategy.gradient_accumulation + (1 if is_measured else 0)


def accumulation_s(strategy: Strategy, setting: Setting, rates: Rates) -> float:
    """Seconds to add up the gradients of all micro-batches but the first: two reads and a write; from ZeRO-2 on of a
    share."""
    share = setting.rank_count if strategy.rung.zero_stage >= 2 else 1
    each_bytes = 3 * trained_bytes(strategy.rung, setting) * trained_count(strategy.rung, setting) / share
    return (strategy.gradient_accumulation - 1) * each_bytes / memory_bytes_per_s(setting, rates)


def update_s(strategy: Strategy, setting: Setting, rates: Rates) -> float:
    """Seconds of the optimizer's step on the device, or of all updates in the backward pass; 0 where the host does
    it."""
    if offload_of(strategy.rung, setting) is not Offload.NONE:
        return 0.0
    n_bytes = _update_bytes(strategy.rung, setting) * part_count(strategy.rung, setting)
    moved_s = n_bytes / memory_bytes_per_s(setting, rates)
    return _beside(moved_s, host_time.fused_update_s(strategy, setting), setting)


def _update_bytes(rung: Rung, setting: Setting) -> int:
    if is_fused(rung):
        return FUSED_UPDATE_BYTES[rung.optimizer] + (0 if rung.dtype is Dtype.FP32 else ROUNDING_BYTES)
    return PLAIN_UPDATE_BYTES if is_plain(rung, setting) else UPDATE_BYTES[setting.kind]


def memory_bytes_per_s(setting: Setting, rates: Rates) -> float:
    return rates.memory_bytes_per_s * setting.constants.bandwidth_efficiency


def _beside(device_s: float, host_s: float, setting: Setting) -> float:
    """Seconds of a pass: a GPU works while its host starts the next kernels, a CPU does not.

    A trial's time does not tell the two apart, so what was fitted holds for both.
    """
    host_s /= fitted_speed(setting)
    return device_s + host_s if setting.kind is DeviceKind.CPU else max(device_s, host_s)


def _device_s(works: Iterable[Work], strategy: Strategy, setting: Setting, rates: Rates) -> float:
    flop_per_s, bytes_per_s = _matmul_flop_per_s(strategy, setting, rates), memory_bytes_per_s(setting, rates)
    attention_per_s = attention_flop_per_s(strategy, setting, peak_flop_per_s(rates, strategy.rung.dtype))
    device_s = 0.0
    for work in works:
        products_s = (work.matmul_flop - work.attention_flop) / flop_per_s
        device_s += max(products_s, work.matmul_bytes / bytes_per_s) + work.other_bytes / bytes_per_s
        device_s += work.attention_flop / attention_per_s
    return device_s


def _matmul_flop_per_s(strategy: Strategy, setting: Setting, rates: Rates) -> float:
    peak = peak_flop_per_s(rates, strategy.rung.dtype)
    elements = strategy.micro_batch * typical_tokens(strategy, setting) * setting.shape.hidden_size
    filled = elements / (elements + HALF_FILLED_ELEMENTS[setting.kind])
    return peak * setting.constants.matmul_efficiency * filled
