"""Which strategy certainly needs no less device memory than which other."""

from __future__ import annotations

from autofit.domain.estimate import MemoryEstimate
from autofit.domain.strategy import Method, Strategy

from .axes import OFFLOAD_ORDER


def needs_no_less(heavy: Strategy, light: Strategy, heavy_memory: MemoryEstimate, light_memory: MemoryEstimate) -> bool:
    """By every knob and by the estimate.

    The estimate decides where a knob adds buffers: ZeRO-3 gathers what it has divided, and on one device or with few
    trained parameters that is more than it saves; a larger micro-batch may end accumulation, and with it its buffer.
    """
    one, other = heavy.rung, light.rung
    return (
        (one.attention, one.dtype) == (other.attention, other.dtype)
        and (one.method is Method.FULL or other.method is Method.LORA)
        and one.zero_stage <= other.zero_stage
        and OFFLOAD_ORDER.index(one.offload) <= OFFLOAD_ORDER.index(other.offload)
        and one.gradient_checkpointing <= other.gradient_checkpointing
        and heavy.micro_batch >= light.micro_batch
        # All parameters' gradients and optimizer states outweigh whatever an adapter adds.
        and (one.method is not other.method or _is_estimated_so(heavy, light, heavy_memory, light_memory))
    )


def _is_estimated_so(
    heavy: Strategy, light: Strategy, heavy_memory: MemoryEstimate, light_memory: MemoryEstimate
) -> bool:
    """Towards ZeRO-3 the states of one alone must outweigh states and buffers of the other: a small model under ZeRO-3
    was measured to take more than under ZeRO-2, which gathers nothing."""
    if heavy_memory.peak_bytes < light_memory.peak_bytes:
        return False
    is_certain = states_bytes(heavy_memory) >= states_bytes(light_memory) + light_memory.buffers_bytes
    return heavy.rung.zero_stage == light.rung.zero_stage or light.rung.zero_stage < 3 or is_certain


def states_bytes(memory: MemoryEstimate) -> int:
    return memory.parameters_bytes + memory.gradients_bytes + memory.optimizer_bytes
