"""What one rank holds outside its micro-steps: while DeepSpeed starts, reduces, steps and saves; terms of 0.19.8."""

from __future__ import annotations

from collections.abc import Iterator

from autofit.domain.knobs.dtype import FP32_BYTES, FP64_BYTES, element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

from .buffers import bucket_count, bucket_elements, is_overlapped
from .gradients import own_count
from .load import Load
from .states import ModelStates, model_states, offload_of, part_count


def loads_outside(strategy: Strategy, setting: Setting) -> Iterator[Load]:
    """The loads outside micro-steps in the order of time, each at its own peak; a step comes when the activations are
    gone."""
    states = model_states(strategy, setting)
    if strategy.rung.zero_stage < 3:
        yield _initialization(strategy, setting, states)
    if strategy.rung.zero_stage <= 1 and not is_overlapped(setting.kind):
        yield _reduction(strategy, setting, states)
    if offload_of(strategy.rung, setting) is Offload.NONE:
        yield _step(strategy, setting, states)
    yield _save(strategy, setting, states)


def _initialization(strategy: Strategy, setting: Setting, states: ModelStates) -> Load:
    """The loads of DeepSpeed's start: stages 1 and 2 copy the trained parameters into one flat tensor beside the old
    ones, which then go; fp32 copies of the partition and its gradient come after that."""
    trained_bytes = element_bytes(strategy.rung.dtype) * parameters(strategy.rung, setting).trained_count
    is_moved = offload_of(strategy.rung, setting) is not Offload.NONE
    masters_bytes = 0 if is_moved else 2 * FP32_BYTES * part_count(strategy.rung, setting)
    return Load(Phase.INITIALIZE, states.parameters_bytes, buffers_bytes=max(trained_bytes, masters_bytes))


def _reduction(strategy: Strategy, setting: Setting, states: ModelStates) -> Load:
    """The load of ZeRO-1's reduction without overlap: all gradients, the bucket that they go through, and the copies of
    a rank's own."""
    width = element_bytes(strategy.rung.dtype)
    own_bytes = width * own_count(strategy, setting)
    return Load(
        Phase.BACKWARD,
        states.parameters_bytes,
        width * parameters(strategy.rung, setting).trained_count + own_bytes,
        states.optimizer_bytes,
        buffers_bytes=width * bucket_count(strategy.rung, setting),
    )


def _step(strategy: Strategy, setting: Setting, states: ModelStates) -> Load:
    """The load of the update: the gradients, and the largest of what is made of them: for the norm each tensor in
    double precision, for the update the partition in one piece and again in fp32. The fused AdamW itself takes
    nothing."""
    rung, part = strategy.rung, part_count(strategy.rung, setting)
    width = element_bytes(rung.dtype)
    flat_bytes = width * part + (FP32_BYTES * part if width != FP32_BYTES else 0)
    if rung.zero_stage >= 3:
        buffers_bytes = width * bucket_count(rung, setting) + flat_bytes
        return Load(
            Phase.STEP, states.parameters_bytes, states.gradients_bytes, states.optimizer_bytes, 0, buffers_bytes
        )
    largest = min(part, parameters(rung, setting).largest_trained_count)
    own_bytes = width * own_count(strategy, setting)
    temporary_bytes = max(FP64_BYTES * largest, flat_bytes)
    return Load(Phase.STEP, states.parameters_bytes, own_bytes, states.optimizer_bytes, 0, temporary_bytes)


def _save(strategy: Strategy, setting: Setting, states: ModelStates) -> Load:
    """The load of a save: what lasts, for weights are written in a stream (`worker/saving/`). Known error: one tensor
    that ZeRO-3 gathers over several nodes, and of experts that stand one by one in the file those of a layer."""
    width = element_bytes(strategy.rung.dtype)
    bucket_bytes = width * bucket_elements(setting) if strategy.rung.zero_stage >= 3 else 0
    return Load(
        Phase.SAVE,
        states.parameters_bytes,
        states.gradients_bytes,
        states.optimizer_bytes,
        buffers_bytes=bucket_bytes,
    )
