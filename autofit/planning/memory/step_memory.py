"""What one rank holds outside its micro-steps: while DeepSpeed starts, reduces, steps and saves; terms of 0.19.8."""

from __future__ import annotations

from collections.abc import Iterator

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import FP32_BYTES, FP64_BYTES, element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.planning.optimizer_states import master_bytes, step_bytes
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

from .buffers import ahead_count, bucket_count, bucket_elements, gathered_count, overlaps
from .gradients import own_count
from .initialization import initialization
from .load import Load
from .states import ModelStates, held_as, model_states, offload_of, part_count, sub_group_count


def loads_outside(strategy: Strategy, setting: Setting) -> tuple[Load, ...]:
    """The loads outside micro-steps in the order of time, each at its own peak; a step comes when the activations are
    gone."""
    rung = strategy.rung
    key = (loads_outside, held_as(rung), rung.gradient_checkpointing.recomputes)
    return setting.once(key, lambda: (*_loads_outside(strategy, setting),))


def _loads_outside(strategy: Strategy, setting: Setting) -> Iterator[Load]:
    states = model_states(strategy, setting)
    if strategy.rung.zero_stage < 3:
        yield initialization(strategy, setting, states)
    if offload_of(strategy.rung, setting) is Offload.NONE:
        if strategy.rung.zero_stage <= 1 and not overlaps(strategy.rung, setting):
            yield _reduction(strategy, setting, states)
        yield _step(strategy, setting, states)
    elif setting.split is not None:
        yield _divided_step(strategy, setting, states)
    yield _save(strategy, setting, states)


def _reduction(strategy: Strategy, setting: Setting, states: ModelStates) -> Load:
    """The load of ZeRO-1's reduction without overlap: all gradients, the bucket that they go through, and the place for
    the copies of a rank's own. On a CPU that is taken as it fills: a tensor that fits into the bucket is copied in the
    place of what has left it."""
    known, width = parameters(strategy.rung, setting), element_bytes(strategy.rung.dtype)
    own = own_count(strategy.rung, setting)
    if setting.kind is DeviceKind.CPU:
        own = round(known.larger_share(bucket_elements(setting)) * own)
    return Load(
        Phase.BACKWARD,
        states.parameters_bytes,
        width * (known.trained_count + own),
        states.optimizer_bytes,
        buffers_bytes=width * bucket_count(strategy.rung, setting),
    )


def _step(strategy: Strategy, setting: Setting, states: ModelStates) -> Load:
    """The load of the update: the gradients, and the largest of what is made of them: for the norm each tensor in
    double precision, for the update the partition in one piece and again as wide as the master weights, with what the
    optimizer itself makes, under ZeRO-3 sub-group by sub-group."""
    rung, part, known = strategy.rung, part_count(strategy.rung, setting), parameters(strategy.rung, setting)
    width = element_bytes(rung.dtype)
    master = master_bytes(rung.optimizer)
    per_element = width + (master if width != master else 0)
    if rung.zero_stage >= 3:
        largest = -(-known.largest_trained_count // setting.rank_count)
        updated, normed = sub_group_count(rung, setting), largest
        held_bytes, buckets_bytes = states.gradients_bytes, width * bucket_count(rung, setting)
    else:
        updated, normed = part, min(part, known.largest_trained_count)
        held_bytes, buckets_bytes = width * own_count(strategy.rung, setting), 0
    update_bytes = master * updated + step_bytes(rung.optimizer, setting.kind, updated)
    temporary_bytes = max(FP64_BYTES * normed, per_element * updated, update_bytes)
    return Load(
        Phase.STEP,
        states.parameters_bytes,
        held_bytes,
        states.optimizer_bytes,
        buffers_bytes=buckets_bytes + temporary_bytes,
    )


def _divided_step(strategy: Strategy, setting: Setting, states: ModelStates) -> Load:
    """The load of the update of what the device keeps of an offloaded optimizer: torch's AdamW makes the root of the
    second moments of a sub-group at a time (_multi_tensor_adam in torch/optim/adam.py)."""
    assert setting.split is not None
    buckets_bytes = element_bytes(strategy.rung.dtype) * bucket_count(strategy.rung, setting)
    return Load(
        Phase.STEP,
        states.parameters_bytes,
        states.gradients_bytes,
        states.optimizer_bytes,
        buffers_bytes=buckets_bytes + FP32_BYTES * setting.split.largest_on_device,
    )


def _save(strategy: Strategy, setting: Setting, states: ModelStates) -> Load:
    """The load of a save, which is written piece by piece: under ZeRO-3 beside what the evaluation has left gathered,
    or one tensor, where the ranks share no folder or where experts are taken apart."""
    rung, width = strategy.rung, element_bytes(strategy.rung.dtype)
    gathered = max(gathered_count(rung, setting, 0.0), parameters(rung, setting).largest_count)
    count = bucket_elements(setting) + gathered if rung.zero_stage >= 3 else 0
    return Load(
        Phase.SAVE,
        states.parameters_bytes,
        states.gradients_bytes,
        states.optimizer_bytes,
        buffers_bytes=states.buffers_bytes + width * count,
        ahead_bytes=width * ahead_count(parameters(rung, setting), gathered) if rung.zero_stage >= 3 else 0,
    )
