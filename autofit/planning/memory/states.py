"""What lasts from step to step: parameters and optimizer states, as ZeRO divides them and as offload moves them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import FP32_BYTES, element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Rung, Strategy
from autofit.planning import optimizer_states
from autofit.planning.optimizer_states import CODES, WHOLE_BELOW, master_bytes
from autofit.planning.parameters import Parameters, parameters
from autofit.planning.plain_torch import is_plain, trained_bytes
from autofit.planning.setting import Setting

from .reference import reference_bytes
from .reward_models import reward_models_bytes

SUB_GROUP_SIZE = 1_000_000_000
"""DeepSpeed's default for stage 3 (sub_group_size in runtime/zero/config.py), in elements."""


@dataclass(frozen=True)
class ModelStates:
    """Bytes that one rank holds on its device between two steps."""

    parameters_bytes: int
    gradients_bytes: int  # ZeRO-3's partition and DDP's buckets, which last; none where an update takes them away
    optimizer_bytes: int
    buffers_bytes: int = 0  # gradients on their way to the host


def optimizer_bytes(rung: Rung, setting: Setting) -> int:
    """Bytes of the optimizer's states for one rank's partition: master weights and moments, with AdamW 4 and 8 of a
    parameter (Rajbhandari et al., 2020, section 3.1).

    fp32 training has its own master copy too in ZeRO's stages (DeepSpeed 0.19.8, measured in all of them); at stage 0
    no training does whose weights are fp32 (_do_optimizer_sanity_check in runtime/engine.py).
    """
    has_masters = rung.zero_stage > 0 or trained_bytes(rung, setting) != FP32_BYTES
    masters = master_bytes(rung.optimizer) * part_count(rung, setting) if has_masters else 0
    return masters + moments_bytes(rung, setting)


def moments_bytes(rung: Rung, setting: Setting) -> int:
    """Bytes of the optimizer's moments for one rank's partition: one flat tensor under ZeRO, tensor by tensor in plain
    torch, where bitsandbytes keeps those of small ones in fp32."""
    if not is_plain(rung, setting):
        return optimizer_states.moments_bytes(rung.optimizer, part_count(rung, setting), setting.moment_count)
    return sum(
        tensor_count * _tensor_moments_bytes(rung, setting, element_count)
        for element_count, tensor_count in parameters(rung, setting).trained_tensors
    )


def _tensor_moments_bytes(rung: Rung, setting: Setting, element_count: int) -> int:
    is_small = rung.optimizer in CODES and element_count < WHOLE_BELOW
    optimizer = Optimizer.ADAMW if is_small else rung.optimizer
    return optimizer_states.moments_bytes(optimizer, element_count, setting.moment_count)


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


def sub_group_count(rung: Rung, setting: Setting) -> int:
    """Trained parameters of a partition that stage 3 updates at a time: whole tensors' partitions until they are
    SUB_GROUP_SIZE together (_create_fp16_sub_groups in runtime/zero/stage3.py). Errs high by less than a tensor's
    partition."""
    largest = -(-parameters(rung, setting).largest_trained_count // setting.rank_count)
    return min(part_count(rung, setting), SUB_GROUP_SIZE + largest)


def persistent_count(rung: Rung, setting: Setting) -> int:
    """Parameters that ZeRO-3 does not take apart again, beside their partition; none on one device."""
    small = parameters(rung, setting).count_up_to(setting.zero_sizes.persistence_threshold)
    return small if rung.zero_stage >= 3 and setting.is_divided else 0


def model_states(strategy: Strategy, setting: Setting) -> ModelStates:
    """The model's states: 2P + 12T bytes in mixed precision with AdamW, P all and T trained parameters (Rajbhandari et
    al., ZeRO, 2020).

    Stage 1 and 2 divide the 12T by the ranks, stage 3 everything, frozen weights included. Plain data parallel holds 4T
    for weights, 8T for AdamW's moments and, on several ranks, 4T for DDP's buckets, of which gradients are views
    (gradient_as_bucket_view in torch/nn/parallel/distributed.py); what is frozen takes 2 bytes. Offload leaves the
    parameters in stages 1 and 2, with a buffer as large as the largest tensor (temp_grad_buffer_for_gpu_offload in
    runtime/zero/stage_1_and_2.py). LOMO and AdaLomo leave the weights alone, 2P bytes that stage 3 divides, and AdaLomo
    its factored states. The scales of a quantised base are whole on every rank. A reference and reward models count
    among the parameters. Within 0.1 % of DeepSpeed 0.19.8 on a rank (alignment of the partitions in stages 1 and 2).
    """
    rung = strategy.rung
    return setting.once((model_states, held_as(rung)), lambda: _model_states(rung, setting))


def are_states_too_large(rung: Rung, setting: Setting) -> bool:
    """Whether the device lacks room for the states alone, whatever the micro-batch."""
    states = model_states(Strategy(rung, 1, 1), setting)
    held_bytes = states.parameters_bytes + states.gradients_bytes + states.optimizer_bytes
    return held_bytes > setting.device_memory_bytes


def held_as(rung: Rung) -> Hashable:
    """What is the same for rungs whose states are alike: those that differ in attention or checkpointing."""
    return rung.zero_stage, rung.method, rung.quantization, rung.offload, rung.dtype, rung.optimizer


def _model_states(rung: Rung, setting: Setting) -> ModelStates:
    offload = offload_of(rung, setting)
    beside_bytes = reference_bytes(rung, setting, persistent_count(rung, setting), offload=offload)
    beside_bytes += reward_models_bytes(rung, setting)
    parameters_bytes = _parameters_bytes(rung, setting, parameters(rung, setting)) + beside_bytes
    if rung.optimizer.is_fused:
        return ModelStates(parameters_bytes, 0, factored_bytes(rung, setting))
    width, part = element_bytes(rung.dtype), part_count(rung, setting)
    has_buckets = is_plain(rung, setting) and setting.is_divided
    gradients_bytes = width * part if rung.zero_stage >= 3 else FP32_BYTES * part if has_buckets else 0
    if offload is Offload.NONE:
        return ModelStates(parameters_bytes, gradients_bytes, optimizer_bytes(rung, setting))
    if rung.zero_stage < 3:
        return ModelStates(parameters_bytes, 0, 0, width * parameters(rung, setting).largest_trained_count)
    if offload is Offload.ALL:
        whole_bytes = width * persistent_count(rung, setting) + parameters(rung, setting).scales_bytes
        return ModelStates(whole_bytes + beside_bytes, 0, 0)
    return ModelStates(parameters_bytes, FP32_BYTES * kept_count(setting), kept_bytes(rung, setting))


def kept_bytes(rung: Rung, setting: Setting) -> int:
    """Bytes of the states of an offloaded optimizer that stay on the device: AdamW's, as many of each parameter."""
    return optimizer_bytes(rung, setting) * kept_count(setting) // part_count(rung, setting)


def kept_count(setting: Setting) -> int:
    """Trained parameters of a rank whose optimizer stays on the device although it is offloaded; each has its fp32
    gradient there as well, for good (initialize_optimizer_states in runtime/zero/stage3.py)."""
    return 0 if setting.split is None else setting.split.device_count


def factored_bytes(rung: Rung, setting: Setting) -> int:
    """AdaLomo's second moments, which every rank has whole: of a matrix one fp32 number a row and one a column. Exact
    where one side of it is the model's hidden size; a vector of at most that size has one for each element."""
    if rung.optimizer is not Optimizer.ADALOMO:
        return 0
    hidden, count = setting.shape.hidden_size, 0
    for element_count, tensor_count in parameters(rung, setting).trained_tensors:
        count += tensor_count * (element_count if element_count <= hidden else hidden + element_count // hidden)
    return FP32_BYTES * count


def _parameters_bytes(rung: Rung, setting: Setting, known: Parameters) -> int:
    width = element_bytes(rung.dtype)
    if rung.zero_stage < 3:
        return width * known.frozen_count + known.scales_bytes + trained_bytes(rung, setting) * known.trained_count
    divided = sum(known.divided_count(setting.rank_count, is_trained=is_trained) for is_trained in (True, False))
    return width * (divided + persistent_count(rung, setting)) + known.scales_bytes
