"""What a published run holds on a device: autofit's estimate, with the part of it that was measured there."""

from __future__ import annotations

from dataclasses import dataclass

from _published_rows import MemoryKind, Row

from autofit.domain.estimate import MemoryEstimate
from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.planning.memory.activations import moments
from autofit.planning.memory.interval import beside_range, high_bytes, low_bytes, worst_fragmentation
from autofit.planning.memory.load import Load
from autofit.planning.memory.micro_step_memory import loads_within
from autofit.planning.memory.states import model_states, trained_count
from autofit.planning.plain_torch import has_communicator
from autofit.planning.setting import Setting

GROWTH = 5.7
"""How many times what rows of varying lengths hold at most torch's caching allocator may reserve for them: the worst of
benchmarks/allocator_growth.py. Blocks that were cut for shorter rows are too small for longer ones."""


@dataclass(frozen=True)
class MeasuredPart:
    """Bytes that the row's measurement counts: predicted, and between which they are to lie."""

    expected_bytes: float
    low_bytes: float
    high_bytes: float


def measured_part(row: Row, memory: MemoryEstimate, strategy: Strategy, setting: Setting) -> MeasuredPart:
    """The part of an estimate that the row's measurement counts."""
    has_deepspeed = row["zero_stage"] or not row.is_pure_bf16
    whole = _whole(memory) if has_deepspeed else _without_deepspeed(strategy, setting)
    is_alone = not has_deepspeed or not has_communicator(strategy.rung, setting)
    least_bytes, most_bytes = beside_range(setting, is_alone=is_alone)
    beside_bytes = setting.runtime_bytes + (0 if is_alone else setting.constants.communicator_bytes)
    reserved = MeasuredPart(
        whole.expected_bytes - beside_bytes, whole.low_bytes - least_bytes, whole.high_bytes - most_bytes
    )
    if row.memory_kind is MemoryKind.WHOLE:
        return whole
    if row.memory_kind is MemoryKind.RESERVED:
        return _grown(reserved, strategy, setting) if row.has_varying_lengths else reserved
    lost, worst = setting.constants.fragmentation, worst_fragmentation(strategy, setting)
    return MeasuredPart(reserved.expected_bytes / lost, reserved.low_bytes, reserved.high_bytes / worst)


def _whole(memory: MemoryEstimate) -> MeasuredPart:
    return MeasuredPart(memory.peak_bytes, memory.low_bytes, memory.high_bytes)


def _grown(reserved: MeasuredPart, strategy: Strategy, setting: Setting) -> MeasuredPart:
    """Of rows of varying lengths: the longest may come first, or each be a little longer than those before."""
    held_bytes = max(moment.activations_bytes for moment in moments(strategy, setting) or ())
    return MeasuredPart(reserved.expected_bytes, reserved.low_bytes, reserved.high_bytes + (GROWTH - 1) * held_bytes)


def _without_deepspeed(strategy: Strategy, setting: Setting) -> MeasuredPart:
    """A training without DeepSpeed: there are no flat copies, and torch's AdamW makes one temporary of all parameters
    (torch/optim/adamw.py, _multi_tensor_adamw: exp_avg_sq_sqrt), beside gradients and states."""
    states = model_states(strategy, setting)
    trained_bytes = element_bytes(strategy.rung.dtype) * trained_count(strategy.rung, setting)
    step = Load(Phase.STEP, states.parameters_bytes, trained_bytes, states.optimizer_bytes, 0, trained_bytes)
    steps = moments(strategy, setting)
    assert steps is not None
    loads = [*loads_within(strategy, setting, steps, is_first_rank=True), step]
    peak_bytes = max(load.total_bytes for load in loads)
    constants = setting.constants
    return MeasuredPart(
        constants.fragmentation * peak_bytes + constants.runtime_bytes,
        low_bytes(strategy, setting, loads, is_traced=True),
        high_bytes(strategy, setting, loads, is_alone=True, is_traced=True),
    )
