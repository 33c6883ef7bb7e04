"""Seconds that a rank generates for in an optimizer step: the answers of all its micro-batches at a time."""

from __future__ import annotations

from autofit.domain.hardware import DeviceKind, Rates
from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Work
from autofit.planning.answers import generated_rows
from autofit.planning.memory.activations import moments
from autofit.planning.setting import Setting

from .communication import traffic_of
from .compute import HALF_FILLED_ELEMENTS, memory_bytes_per_s
from .host_time import generating_s
from .rates import fitted_speed, peak_flop_per_s
from .work import LAYER_KERNELS


def generation_s(strategy: Strategy, setting: Setting, rates: Rates) -> float:
    """Seconds of the generation of one optimizer step, every answer at its full length; 0 where none is generated.

    A token takes a pass that reads all weights and the cache, and multiplies next to nothing (Pope et al., Efficiently
    Scaling Transformer Inference, 2022, section 2): its bytes, its kernels' launches and, where ZeRO-3's model is not
    gathered, the ranks' traffic decide. Errs high by what answers end early.
    """
    rows = generated_rows(setting.request, setting.rank_count)
    if not rows:
        return 0.0
    answer_tokens = setting.request.completion_tokens
    prompts, answers = _works(strategy, setting, rows)
    prompt_tokens = setting.worst_tokens - answer_tokens
    device_s = _device_s(prompts, rows * prompt_tokens, strategy, setting, rates)
    device_s += _device_s(answers, rows, strategy, setting, rates)
    host_s = generating_s(prompts.kernel_count + answers.kernel_count, answer_tokens, strategy, setting) / fitted_speed(
        setting
    )
    computed_s = device_s + host_s if setting.kind is DeviceKind.CPU else max(device_s, host_s)
    return computed_s + _gathering_s(strategy, setting, rates, answer_tokens)


def _works(strategy: Strategy, setting: Setting, rows: int) -> tuple[Work, Work]:
    """The work of the prompts' pass and of all others together."""
    traced = [one.work for one in moments(strategy, setting) or () if one.phase is Phase.GENERATE]
    if traced:
        return traced[0], traced[1]
    answer_tokens = setting.request.completion_tokens
    prompt_tokens = setting.worst_tokens - answer_tokens
    return _by_formula(strategy, setting, rows * prompt_tokens, 1), _by_formula(strategy, setting, rows, answer_tokens)


def _by_formula(strategy: Strategy, setting: Setting, seen: int, passes: int) -> Work:
    """The work of so many passes of `seen` tokens each: 2·P FLOP a token, all weights read in each pass."""
    shape, width = setting.shape, element_bytes(strategy.rung.dtype)
    return Work(
        matmul_flop=2 * shape.parameter_count * seen * passes,
        matmul_bytes=width * shape.parameter_count * passes,
        kernel_count=LAYER_KERNELS * shape.layer_count * passes,
    )


def _device_s(work: Work, seen: int, strategy: Strategy, setting: Setting, rates: Rates) -> float:
    elements = seen * setting.shape.hidden_size
    filled = elements / (elements + HALF_FILLED_ELEMENTS[setting.kind])
    flop_per_s = peak_flop_per_s(rates, strategy.rung.dtype) * setting.constants.matmul_efficiency * filled
    bytes_per_s = memory_bytes_per_s(setting, rates)
    return max(work.matmul_flop / flop_per_s, work.matmul_bytes / bytes_per_s) + work.other_bytes / bytes_per_s


def _gathering_s(strategy: Strategy, setting: Setting, rates: Rates, answer_tokens: int) -> float:
    """Seconds in which ZeRO-3 gathers the model: once, or anew for each token."""
    if strategy.rung.zero_stage < 3 or not setting.is_divided:
        return 0.0
    return traffic_of(strategy.rung, setting, rates).gather_s * (1 if setting.gathers_generation else answer_tokens)
