"""What lasts from step to step: parameters and optimizer states, as ZeRO divides them and as offload moves them."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import FP32_BYTES, element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.parameters import Parameters, parameters
from autofit.planning.setting import Setting
from autofit.planning.zero_sizes import zero_sizes


@dataclass(frozen=True)
class ModelStates:
    """Bytes that one rank holds on its device between two steps; `offloaded_bytes` is what it moved to the host."""

    parameters_bytes: int
    gradients_bytes: int  # ZeRO-3's partition, which lasts
    optimizer_bytes: int
    offloaded_bytes: int


def optimizer_bytes(setting: Setting) -> int:
    """Bytes of a trained parameter: fp32 master weight and fp32 moments, two of them and so 12 bytes with Adam
    (Rajbhandari et al., 2020, section 3.1). fp32 training has its own master copy too (DeepSpeed 0.19.8, measured in
    all stages)."""
    return FP32_BYTES * (1 + setting.moment_count)


def trained_count(rung: Rung, setting: Setting) -> int:
    """Parameters that get a gradient and an optimizer state."""
    return parameters(rung, setting).trained_count


def whole_count(rung: Rung, setting: Setting) -> int:
    """All parameters in memory, frozen ones and adapters included."""
    return parameters(rung, setting).whole_count


def offload_of(rung: Rung, setting: Setting) -> Offload:
    """The offload that really leaves the device: there is none where the device's memory is the host's."""
    return Offload.NONE if setting.kind is DeviceKind.CPU else rung.offload


def part_count(rung: Rung, setting: Setting) -> int:
    """Trained parameters of one rank's partition; stage 0 divides nothing."""
    known, ranks = parameters(rung, setting), setting.rank_count if rung.zero_stage else 1
    return known.divided_count(ranks, is_trained=True) if rung.zero_stage >= 3 else -(-known.trained_count // ranks)


def persistent_count(rung: Rung, setting: Setting) -> int:
    """Parameters that ZeRO-3 does not take apart again, beside their partition; none on one device."""
    small = parameters(rung, setting).count_up_to(zero_sizes(setting.shape.hidden_size).persistence_threshold)
    return small if rung.zero_stage >= 3 and setting.is_divided else 0


def model_states(strategy: Strategy, setting: Setting) -> ModelStates:
    """The model's states: 2P + 12T bytes in mixed precision with Adam, P all and T trained parameters (Rajbhandari et
    al., ZeRO, 2020).

    Stage 1 and 2 divide the 12T by the ranks, stage 3 everything, frozen weights included. Within 0.1 % of DeepSpeed
    0.19.8 on a rank (alignment of the partitions in stages 1 and 2).
    """
    rung = strategy.rung
    width, part = element_bytes(rung.dtype), part_count(rung, setting)
    parameters_bytes = _parameters_bytes(rung, setting, parameters(rung, setting))
    gradients_bytes = width * part if rung.zero_stage >= 3 else 0
    offload = offload_of(rung, setting)
    if offload is Offload.NONE:
        return ModelStates(parameters_bytes, gradients_bytes, optimizer_bytes(setting) * part, 0)
    moved_bytes = _offloaded_bytes(strategy, setting)
    if offload is Offload.ALL:
        whole_bytes = width * persistent_count(rung, setting)
        return ModelStates(whole_bytes, 0, 0, moved_bytes + parameters_bytes - whole_bytes)
    return ModelStates(parameters_bytes, 0, 0, moved_bytes)


def _parameters_bytes(rung: Rung, setting: Setting, known: Parameters) -> int:
    width = element_bytes(rung.dtype)
    if rung.zero_stage < 3:
        return width * known.whole_count
    divided = sum(known.divided_count(setting.rank_count, is_trained=is_trained) for is_trained in (True, False))
    return width * (divided + persistent_count(rung, setting))


def _offloaded_bytes(strategy: Strategy, setting: Setting) -> int:
    """What one rank offloads, in DeepSpeed 0.19.8: the optimizer's bytes, an fp32 gradient, and the partition in the
    training's dtype (the updated weights below stage 3, the accumulated gradients in it).

    Below stage 3 the accumulated gradients lie on the host too, and one whole tensor on its way there. Pinned memory
    comes in powers of two from torch's allocator: what is not one takes up to twice as much of the host, which is not
    counted here.
    """
    rung = strategy.rung
    width, part = element_bytes(rung.dtype), part_count(rung, setting)
    kept_bytes = (optimizer_bytes(setting) + FP32_BYTES + width) * part
    if rung.zero_stage >= 3:
        return kept_bytes
    accumulated = part if strategy.gradient_accumulation > 1 else 0
    return kept_bytes + width * (accumulated + parameters(rung, setting).largest_trained_count)
