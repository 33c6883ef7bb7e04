"""Which strategy certainly needs no less device memory than which other."""

from __future__ import annotations

from autofit.domain.estimate import MemoryEstimate
from autofit.domain.strategy import KNOBS, Strategy


def needs_no_less(heavy: Strategy, light: Strategy, heavy_memory: MemoryEstimate, light_memory: MemoryEstimate) -> bool:
    """Whether it needs no less by every knob and by the estimate.

    The estimate decides where a knob adds buffers: ZeRO-3 gathers what it has divided, and on one device or with few
    trained parameters that is more than it saves; a larger micro-batch may end accumulation, and with it its buffer.
    """
    is_outweighed = False
    for knob in KNOBS:
        ours, theirs = getattr(heavy.rung, knob.name), getattr(light.rung, knob.name)
        if not knob.needs_no_less(ours, theirs):
            return False
        is_outweighed = is_outweighed or (knob.outweighs_estimate and ours != theirs)
    is_larger = heavy.micro_batch >= light.micro_batch
    return is_larger and (is_outweighed or _is_estimated_so(heavy, light, heavy_memory, light_memory))


def _is_estimated_so(
    heavy: Strategy, light: Strategy, heavy_memory: MemoryEstimate, light_memory: MemoryEstimate
) -> bool:
    """Whether the estimates say so. Towards ZeRO-3 and away from plain data parallel the states of one alone must
    outweigh states and buffers of the other: a small model under ZeRO-3 was measured to take more than under ZeRO-2,
    which gathers nothing, and plain data parallel has neither DeepSpeed's buckets nor its copies for the step."""
    if heavy_memory.peak_bytes < light_memory.peak_bytes:
        return False
    stages = (heavy.rung.zero_stage, light.rung.zero_stage)
    is_certain = states_bytes(heavy_memory) >= states_bytes(light_memory) + light_memory.buffers_bytes
    return stages[0] == stages[1] or is_certain or (stages[0] > 0 and stages[1] < 3)


def states_bytes(memory: MemoryEstimate) -> int:
    return memory.parameters_bytes + memory.gradients_bytes + memory.optimizer_bytes
