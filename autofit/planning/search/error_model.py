"""The directions in which the estimates may err, and how far: the effects on memory and speed.

All standard deviations are priors from published measurements and from our own benchmarks (docs/prediction.md); the
trials of a search narrow them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

from autofit.domain.estimate import Estimate, MemoryEstimate, SpeedEstimate
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.quantization import QUANTIZATION, Quantization
from autofit.domain.strategy import Rung, Strategy

from .posterior import Effect

UNKNOWN_RATES_STD = 2.0
"""The spread of the logarithm of an absolute speed: the first measurement settles it whatever it was."""

ROWS_MEAN, ROWS_STD = 0.1, 0.08
"""What each micro-batch costs besides what is predicted, as a share of one row's time: kernels that do not fill the
device. A roofline leaves such things out, so it errs to one side (0.15 on two CPU ranks)."""

TRAFFIC_ROWS_MEAN, TRAFFIC_ROWS_STD = 0.2, 0.15
"""The same share, added, where every micro-batch also moves weights or gradients, and not only every step."""

LORA_STD = 0.12
CHECKPOINTING_STD = 0.05
SELECTIVE_STD = 0.05
"""Of keeping attention's output: how much of the step attention is, and what a mode in Python costs."""

PLAIN_STD = 0.08
"""Of plain data parallel beside ZeRO: other kernels, for it computes by autocast, and a step without DeepSpeed's
engine, whose own part is not predicted."""

FUSED_STD = 0.1
"""Of LOMO and AdaLomo: kernels that stop the backward pass at each parameter, where Python's time is a guess."""

QUANTIZED_STD = 0.15
"""Of a base in fewer bits beside the same in 16: what making its weights wide again really takes."""

CLEARING_STD = 0.4
"""Of what a CPU rank takes longer whose heap gives back what is freed: 0.22 to 0.35 of its passes were seen."""

ATTENTION_STD = 0.3
RUNG_STD = 0.015
LEAST_TRAFFIC = 0.03
"""The share of a step's time: what may stay of communication although the estimate hides all of it."""

BASE_STD = 0.03
"""The share of the device's memory: what the runtime, the communicator and a fragmented heap hold beside what is
predicted."""

STATES_STD = 0.06
"""The spread of the states and buffers of a ZeRO stage and an offload."""

OWN_STD = 0.03
"""The spread of a rung's peak, beside what it shares with others."""

LINK_STD = 0.4
TRAFFIC_STD = 0.2
"""The spread of the time that a stage's communication takes beyond what computation hides, which is that of the same
collectives on the same links whatever is trained, and what each method has of it for itself. Both together are 0.45:
a factor of two is 1.5 standard deviations."""

HOST_STD = 0.4
OFFLOAD_STD = 0.2
"""Of that of offload what all share that the host does: its link to the devices and its memory; and what each way of
offload has for itself. Both together are 0.45."""

UPDATE_STD = 0.6
"""The spread of the time of an update that no GPU has shown."""


@lru_cache(maxsize=4096)
def speed_effects(strategy: Strategy, estimate: Estimate, *, is_rehearsal: bool = False) -> tuple[Effect, ...]:
    """The effects on log(true tokens/s ÷ predicted). A rehearsal does not communicate."""
    rung, speed = strategy.rung, estimate.speed
    effects = [
        Effect("speed", UNKNOWN_RATES_STD),
        Effect(f"speed {rung}", RUNG_STD),
        Effect("rows", ROWS_STD, 1 / strategy.micro_batch),
    ]
    if rung.method is Method.LORA:
        effects.append(Effect("lora", LORA_STD))
    if rung.quantization is not Quantization.NONE:
        effects.append(Effect(f"quantization {rung.quantization}", QUANTIZED_STD))
    if rung.gradient_checkpointing.recomputes:
        effects += _checkpointing_effects(rung, speed)
    effects.append(Effect(f"attention {rung.attention}", ATTENTION_STD))
    if rung.zero_stage == 0 and not rung.optimizer.is_fused:
        effects.append(Effect(f"without an engine {rung.method}", PLAIN_STD))
    if speed.clearing_s > 0:
        effects.append(Effect("clearing", CLEARING_STD, speed.clearing_s / speed.step_s))
    effects += _host_effects(rung, speed)
    effects += _update_effects(rung, speed)
    if not is_rehearsal:
        effects += _traffic_effects(strategy, speed)
    return tuple(effects)


def _update_effects(rung: Rung, speed: SpeedEstimate) -> Iterator[Effect]:
    """How the optimizer's step errs where it is not AdamW's."""
    if rung.optimizer.is_fused:
        yield Effect(f"update {rung.optimizer} {rung.zero_stage}", FUSED_STD)
    elif rung.optimizer is not Optimizer.ADAMW:
        yield Effect(f"update {rung.optimizer}", UPDATE_STD, _share(speed.update_s, speed.step_s))


def _traffic_effects(strategy: Strategy, speed: SpeedEstimate) -> Iterator[Effect]:
    """How communication errs, which nothing hides where each parameter is updated as its gradient comes."""
    rung = strategy.rung
    if rung.zero_stage > 1 or rung.optimizer.is_fused or speed.communication_s > 0:
        alike = " in the open" if rung.optimizer.is_fused else ""
        share = _share(speed.communication_s, speed.step_s)
        yield Effect(f"communication {rung.zero_stage}{alike}", LINK_STD, share)
        yield Effect(f"communication {rung.zero_stage} {rung.method}{alike}", TRAFFIC_STD, share)
    if _has_traffic(strategy):
        yield Effect("traffic rows", TRAFFIC_ROWS_STD, 1 / strategy.micro_batch)


def _checkpointing_effects(rung: Rung, speed: SpeedEstimate) -> Iterator[Effect]:
    """What is computed again errs alike wherever it is, in proportion to the layers that are; keeping attention's
    output and moving inputs to the host err by themselves."""
    checkpointing = rung.gradient_checkpointing
    yield Effect("checkpointing", CHECKPOINTING_STD, checkpointing.share)
    yield Effect(f"checkpointing {rung.method}", CHECKPOINTING_STD / 2, checkpointing.share)
    if checkpointing is GradientCheckpointing.SELECTIVE:
        yield Effect("selective checkpointing", SELECTIVE_STD)
    if checkpointing is GradientCheckpointing.OFFLOAD:
        yield Effect("offloaded activations", OFFLOAD_STD, _share(speed.offload_s, speed.step_s))


def _host_effects(rung: Rung, speed: SpeedEstimate) -> Iterator[Effect]:
    """Whatever lies in host memory goes over one link, and one host updates: of that error all have a part."""
    if rung.offload is not Offload.NONE:
        share = _share(speed.offload_s + speed.update_s, speed.step_s)
        yield Effect(f"offload {moved_offload(rung)} {rung.method}", OFFLOAD_STD, share)
        yield Effect("host", HOST_STD, share)
    elif rung.gradient_checkpointing is GradientCheckpointing.OFFLOAD:
        yield Effect("host", HOST_STD, _share(speed.offload_s, speed.step_s))


@lru_cache(maxsize=4096)
def memory_effects(strategy: Strategy, memory: MemoryEstimate, device_bytes: int) -> tuple[Effect, ...]:
    """The effects on (true peak - middle of the interval) ÷ device memory.

    The interval's half-width, which is nearly all of activations, is about two standard deviations of what rungs with
    the same activations share, which those of plain data parallel do not; what ZeRO and offload divide and move is
    known far better.
    """
    rung, half_bytes = strategy.rung, (memory.high_bytes - memory.low_bytes) / 2
    fixed_bytes = memory.peak_bytes - memory.activations_bytes
    # Where some layers are computed again, those that are not hold nearly all there is.
    is_again = rung.gradient_checkpointing.share == 1
    is_autocast = rung.zero_stage == 0 and not rung.optimizer.is_fused
    bits = QUANTIZATION.of(rung.quantization).syllable
    alike = f"{rung.method} {is_again}{' plain' if is_autocast else ''} {bits}"
    states = f"{rung.zero_stage} {rung.offload}{' in the open' if rung.optimizer.is_fused else ''} {bits}"
    effects = (
        Effect("memory", 0.3, half_bytes / device_bytes),
        Effect(f"memory {alike}", 0.35, half_bytes / device_bytes),
        Effect(f"memory {states}", STATES_STD, fixed_bytes / device_bytes),
        Effect(f"memory {rung}", OWN_STD, memory.peak_bytes / device_bytes),
        Effect("memory base", BASE_STD),
    )
    if rung.optimizer is Optimizer.ADAMW:
        return effects
    return (*effects, Effect(f"memory {rung.optimizer}", STATES_STD, memory.optimizer_bytes / device_bytes))


def middle_bytes(memory: MemoryEstimate) -> float:
    return (memory.low_bytes + memory.high_bytes) / 2


def log_speed(strategy: Strategy, estimate: Estimate, *, is_rehearsal: bool = False) -> float:
    """The logarithm of tokens/s that is expected before any trial, without the communication that a rehearsal leaves
    out."""
    speed, has_traffic = estimate.speed, _has_traffic(strategy) and not is_rehearsal
    left_out_s = speed.communication_s if is_rehearsal else 0.0
    overhead = (ROWS_MEAN + (TRAFFIC_ROWS_MEAN if has_traffic else 0.0)) / strategy.micro_batch
    return math.log(speed.tokens_per_step / (speed.step_s - left_out_s)) - overhead


def _has_traffic(strategy: Strategy) -> bool:
    """Whether bytes move for every micro-batch, not only for every step: stage 2 moves nothing more than stage 1 where
    a step has one micro-batch. Adapters' gradients are too few to matter."""
    rung = strategy.rung
    if rung.zero_stage >= 3:
        return True
    is_reduced_often = rung.zero_stage == 2 and strategy.gradient_accumulation > 1
    return rung.method is Method.FULL and (is_reduced_often or rung.offload is not Offload.NONE)


def moved_offload(rung: Rung) -> Offload:
    """The offload whose copies and host a rung's are: a part of the optimizer errs as the whole does."""
    return Offload.OPTIMIZER if rung.offload is Offload.PARTIAL else rung.offload


def _share(part_s: float, whole_s: float) -> float:
    return max(LEAST_TRAFFIC, part_s / whole_s)
