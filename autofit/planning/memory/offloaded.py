"""What one rank keeps in host memory throughout a training with offload; terms of DeepSpeed 0.19.8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import FP32_BYTES, element_bytes
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE, padded_tokens
from autofit.planning.optimizer_states import step_bytes
from autofit.planning.parameters import parameters
from autofit.planning.reference import keeps_reference
from autofit.planning.setting import Setting

from .closed_activations import checkpointed_layers, input_bytes
from .states import SUB_GROUP_SIZE, kept_bytes, moments_bytes, offload_of, optimizer_bytes, part_count, sub_group_count


@dataclass(frozen=True)
class Offloaded:
    """`unpinned_bytes`, and the sizes of pinned blocks in bytes; `released_sizes` are those of blocks that are pinned
    while the model is loaded and given back at the start."""

    unpinned_bytes: int = 0
    pinned_sizes: tuple[int, ...] = ()
    released_sizes: tuple[int, ...] = ()

    @property
    def payload_bytes(self) -> int:
        """What it is without what pinning rounds up."""
        return self.unpinned_bytes + sum(self.pinned_sizes)


def offloaded(strategy: Strategy, setting: Setting) -> Offloaded:
    """What one rank offloads, block by block."""
    states = _states(strategy, setting)
    return replace(states, pinned_sizes=(*states.pinned_sizes, *_activation_sizes(strategy, setting)))


def _activation_sizes(strategy: Strategy, setting: Setting) -> tuple[int, ...]:
    """The inputs of the checkpointed layers, each pinned by itself (save_on_cpu of torch/autograd/graph.py)."""
    if strategy.rung.gradient_checkpointing is not GradientCheckpointing.OFFLOAD:
        return ()
    tokens = padded_tokens(setting.worst_tokens, PAD_TO_MULTIPLE[setting.kind])
    return checkpointed_layers(strategy.rung, setting) * (round(input_bytes(strategy, setting, tokens)),)


def _states(strategy: Strategy, setting: Setting) -> Offloaded:
    """What DeepSpeed offloads."""
    offload = offload_of(strategy.rung, setting)
    if offload is Offload.NONE:
        return Offloaded()
    return _in_one_piece(strategy, setting) if strategy.rung.zero_stage < 3 else _by_sub_groups(strategy.rung, setting)


def _in_one_piece(strategy: Strategy, setting: Setting) -> Offloaded:
    """Stages 1 and 2 (runtime/zero/stage_1_and_2.py): pinned are fp32 weights and gradients, the updated weights and
    one tensor on its way there; the moments are torch's or DeepSpeed's own, not pinned."""
    rung, part = strategy.rung, part_count(strategy.rung, setting)
    width = element_bytes(rung.dtype)
    way_bytes = width * parameters(rung, setting).largest_trained_count
    sizes = [FP32_BYTES * part, FP32_BYTES * part, width * part, way_bytes]
    if rung.zero_stage == 2 and strategy.gradient_accumulation > 1:
        sizes += _accumulated_sizes(rung, setting)
    return Offloaded(moments_bytes(rung, setting) + _step_bytes(rung, setting), tuple(sizes))


def _accumulated_sizes(rung: Rung, setting: Setting) -> Iterator[int]:
    """The accumulated gradients of the tensors that touch a rank's partition, each by itself and whole
    (async_accumulate_grad_in_cpu_via_gpu).

    The mean over the ranks, for the host has those of all: one of s elements touches s / part + 1 partitions.
    """
    known, part = parameters(rung, setting), part_count(rung, setting)
    for element_count, tensor_count in known.trained_tensors:
        size_bytes = element_bytes(rung.dtype) * element_count
        whole, rest = divmod(tensor_count * (element_count + part), known.trained_count)
        yield from [size_bytes] * whole
        yield size_bytes * rest // known.trained_count


def _by_sub_groups(rung: Rung, setting: Setting) -> Offloaded:
    """Stage 3 (runtime/zero/stage3.py): pinned are the fp32 gradients, sub-group by sub-group, and the partition's
    gradients; fp32 weights and moments are not."""
    part, width = part_count(rung, setting), element_bytes(rung.dtype)
    sizes = [*(FP32_BYTES * count for count in _sub_group_counts(rung, setting)), width * part]
    unpinned_bytes = optimizer_bytes(rung, setting) - kept_bytes(rung, setting) + _step_bytes(rung, setting)
    if offload_of(rung, setting) is not Offload.ALL:
        return Offloaded(unpinned_bytes, tuple(sizes), _passed_on(setting))
    frozen = tuple(partition_sizes(rung, setting, is_trained=False))
    trained = tuple(partition_sizes(rung, setting, is_trained=True))
    if keeps_reference(rung, setting.request):  # whose engine has no optimizer that would put its parameters together
        frozen += trained
    return Offloaded(unpinned_bytes, (*sizes, width * part, *frozen), trained)


def _step_bytes(rung: Rung, setting: Setting) -> int:
    """What the optimizer's step makes on the host for a moment, as if it were there throughout: of a sub-group."""
    count = part_count(rung, setting) if rung.zero_stage < 3 else sub_group_count(rung, setting)
    return step_bytes(rung.optimizer, DeviceKind.CPU, count)


def _sub_group_counts(rung: Rung, setting: Setting) -> Iterator[int]:
    """Elements of a rank in each sub-group that is the host's."""
    if setting.split is not None:
        yield from setting.split.host_counts
        return
    over = parameters(rung, setting).typical_trained_count // (2 * setting.rank_count)  # half a tensor's partition
    group_count, rest = divmod(part_count(rung, setting), SUB_GROUP_SIZE + over)
    yield from [SUB_GROUP_SIZE + over] * group_count
    yield rest


def _passed_on(setting: Setting) -> tuple[int, ...]:
    """The blocks by way of which the device's sub-groups get their gradients at the start: one after the other goes
    through the largest, and those of the host follow them."""
    return () if setting.split is None else (FP32_BYTES * setting.split.largest_on_device,)


def partition_sizes(rung: Rung, setting: Setting, *, is_trained: bool) -> Iterator[int]:
    """The bytes of the partitions that parameters are taken apart into while the model is loaded, each pinned by itself
    where they lie on the host (_partition_param in runtime/zero/partition_parameters.py); those that are trained move
    into one block at the start."""
    known = parameters(rung, setting)
    tensors = known.trained_tensors if is_trained else known.frozen_tensors
    for element_count, tensor_count in tensors:
        yield from [element_bytes(rung.dtype) * -(-element_count // setting.rank_count)] * tensor_count
