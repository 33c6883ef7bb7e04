"""What one rank holds of a training by plain torch, moment by moment.

Terms of torch 2.13: DistributedDataParallel in torch/nn/parallel/distributed.py, its reducer in
torch/csrc/distributed/c10d/reducer.cpp; transformers 5.23's loop drops all gradients after each step. torch's AdamW
and SGD and the clipping of gradients take nothing for themselves, and neither does the unscaling of fp16's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from autofit.domain.knobs.dtype import FP32_BYTES, element_bytes
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Moment
from autofit.planning.optimizer_states import step_bytes
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

from .load import Load
from .states import ModelStates, model_states

BROADCAST_BYTES = 250 * 2**20
"""The size of the pieces in which the first rank's weights go to the others as DDP begins (broadcast_bucket_size); each
is full with the tensor that passes it."""

BROADCASTS = 2
"""How many are on their way at once (max_in_flight in torch/csrc/distributed/c10d/comm.cpp)."""


def plain_loads(strategy: Strategy, setting: Setting, moments: Sequence[Moment]) -> Iterator[Load]:
    """The loads in the order of time, each at its own peak; with accumulation also those of a micro-step that adds to
    earlier ones."""
    states, known = model_states(strategy, setting), parameters(strategy.rung, setting)
    if setting.is_divided:
        yield Load(Phase.INITIALIZE, states.parameters_bytes, buffers_bytes=_broadcast_bytes(strategy, setting))
    for is_adding in (False, True)[: min(2, strategy.gradient_accumulation)]:
        before_count = 0
        for moment in moments:
            own = _own_count(strategy, setting, known.trained_count, moment.phase, before_count, is_adding)
            yield _load(moment.phase, states, own, moment.activations_bytes)
            before_count = moment.gradient_count
    step = _load(Phase.STEP, states, 0 if setting.is_divided else known.trained_count)
    yield replace(step, buffers_bytes=step_bytes(strategy.rung.optimizer, setting.kind, known.largest_trained_count))
    yield _load(Phase.SAVE, states, 0)


def _load(phase: Phase, states: ModelStates, own_count: int, activations_bytes: int = 0) -> Load:
    return Load(
        phase,
        states.parameters_bytes,
        states.gradients_bytes + FP32_BYTES * own_count,
        states.optimizer_bytes,
        activations_bytes,
    )


def _own_count(
    strategy: Strategy, setting: Setting, trained: int, phase: Phase, before_count: int, is_adding: bool
) -> int:
    """Elements of gradients, of `trained` in all, that are there beside DDP's buckets.

    The one that is just being computed counts among the activations. On several ranks the last micro-step puts each
    into its bucket as it comes, and what earlier ones have left, which the buckets do not hold, for the loop drops the
    views into them (`mark_variable_ready_dense`). Of three and more micro-steps one in the middle moves nothing.
    """
    if phase is Phase.EVALUATE:
        return 0
    if phase is not Phase.BACKWARD:
        return trained if is_adding else 0
    if not setting.is_divided:
        return trained if is_adding else before_count
    if strategy.gradient_accumulation == 1:
        return 0
    is_last = is_adding and strategy.gradient_accumulation == 2
    return trained - before_count if is_last else trained if is_adding else before_count


def _broadcast_bytes(strategy: Strategy, setting: Setting) -> int:
    known, rung = parameters(strategy.rung, setting), strategy.rung
    largest_bytes = max(FP32_BYTES * known.largest_trained_count, element_bytes(rung.dtype) * known.largest_count)
    return min(
        model_states(strategy, setting).parameters_bytes + setting.buffers_bytes,
        BROADCASTS * (BROADCAST_BYTES + largest_bytes),
    )
