"""Predicted memory of one node's host: every rank's process, what it reads, copies and writes, what is offloaded."""

from __future__ import annotations

from autofit.domain.estimate import HostEstimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.optimizer_states import master_bytes
from autofit.planning.parameters import parameters
from autofit.planning.plain_torch import is_plain, trained_bytes
from autofit.planning.setting import Setting

from . import initialization, pinned
from .offloaded import Offloaded, offloaded
from .states import held_as, offload_of, part_count, sub_group_count

PROCESS_BYTES = {DeviceKind.CUDA: 1_500_000_000, DeviceKind.CPU: 350_000_000}
"""Anonymous memory of one rank with torch, transformers, DeepSpeed and trl loaded, before any tensor. CPU: measured
with torch 2.13. CUDA: a prior from the size of its libraries' own data; not measured."""

PIECE_BYTES = 64 * 2**20
"""The most of a model that is on its way from a device to its file at one time."""


def host_estimate(strategy: Strategy, setting: Setting, tensors_bytes: int) -> HostEstimate:
    """The host's memory at the worst of four moments: each rank reads the model tensor by tensor, DeepSpeed starts, it
    pins the last of what it offloads, or what is trained is written beside that. Where a rank's device is the host, its
    tensors (`tensors_bytes` at their peak) are what counts.

    The weights' files are mapped once for all ranks.
    """
    rung, ranks = strategy.rung, setting.ranks_per_node
    runtime_bytes = ranks * PROCESS_BYTES[setting.kind]
    mapped_bytes = element_bytes(rung.dtype) * setting.shape.parameter_count
    if setting.kind is DeviceKind.CPU:
        return HostEstimate(runtime_bytes, ranks * tensors_bytes, mapped_bytes=mapped_bytes)
    moved_rows = strategy.micro_batch if rung.gradient_checkpointing is GradientCheckpointing.OFFLOAD else 0
    key = (host_estimate, held_as(rung), moved_rows, strategy.gradient_accumulation > 1)
    return setting.once(key, lambda: _beside_devices(strategy, setting, runtime_bytes, mapped_bytes))


def _beside_devices(strategy: Strategy, setting: Setting, runtime_bytes: int, mapped_bytes: int) -> HostEstimate:
    rung, ranks = strategy.rung, setting.ranks_per_node
    moved = offloaded(strategy, setting)
    pinned_bytes = ranks * _pinned_bytes(moved, is_exact=has_exact_pins(rung, setting))
    pinning_bytes = ranks * initialization.pinning_bytes(rung, setting)
    lasting_bytes = max(ranks * moved.unpinned_bytes + _saved_bytes(rung, setting), pinning_bytes)
    passing_bytes = ranks * max(_largest_bytes(rung, setting), initialization.host_bytes(rung, setting))
    offloaded_bytes = ranks * moved.payload_bytes
    if passing_bytes > lasting_bytes + pinned_bytes:
        return HostEstimate(runtime_bytes, passing_bytes, 0, offloaded_bytes, mapped_bytes)
    return HostEstimate(runtime_bytes, lasting_bytes, pinned_bytes, offloaded_bytes, mapped_bytes)


def _largest_bytes(rung: Rung, setting: Setting) -> int:
    """The bytes of the largest tensor of the model as it is read."""
    known = parameters(rung, setting)
    trained = trained_bytes(rung, setting) * known.largest_trained_count
    return max(trained, element_bytes(rung.dtype) * max(known.largest_count, known.widest_count))


def has_exact_pins(rung: Rung, setting: Setting) -> bool:
    """Whether large blocks are pinned as they are, and given back: not where activations come and go, whose blocks are
    kept for the next layer (worker/training/pinned_blocks.py)."""
    return setting.has_exact_pins and rung.gradient_checkpointing is not GradientCheckpointing.OFFLOAD


def _pinned_bytes(moved: Offloaded, *, is_exact: bool) -> int:
    held_bytes = pinned.taken_bytes(moved.pinned_sizes, is_exact=is_exact)
    return held_bytes + pinned.kept_bytes(moved.released_sizes, is_exact=is_exact)


def _saved_bytes(rung: Rung, setting: Setting) -> int:
    """What a node's ranks copy to the host to write it, the first one more than the others.

    A checkpoint's files are torch.save's, which copies a device's storage whole: each rank's master weights, of a
    sub-group under ZeRO-3, and below it the first rank's trained parameters. States that lie on the host are written
    from there, and so are pieces of the model. Plain torch's first rank alone writes, tensor by tensor. Ranks of LOMO
    and AdaLomo copy their parts of the weights into one piece.
    """
    if is_plain(rung, setting):
        return trained_bytes(rung, setting) * parameters(rung, setting).largest_trained_count
    if rung.optimizer.is_fused:
        return setting.ranks_per_node * element_bytes(rung.dtype) * part_count(rung, setting)
    count = part_count(rung, setting) if rung.zero_stage < 3 else sub_group_count(rung, setting)
    if setting.split is not None:
        count = setting.split.largest_on_device
    elif offload_of(rung, setting) is not Offload.NONE:
        count = 0
    states_bytes = master_bytes(rung.optimizer) * count
    whole_bytes = element_bytes(rung.dtype) * parameters(rung, setting).trained_count if rung.zero_stage < 3 else 0
    first_bytes, other_bytes = _pieces_bytes(rung, setting)
    others_bytes = (setting.ranks_per_node - 1) * max(other_bytes, states_bytes)
    return max(first_bytes, states_bytes, whole_bytes) + others_bytes


def _pieces_bytes(rung: Rung, setting: Setting) -> tuple[int, int]:
    """What the first rank and each other one have on its way to the model's files: under ZeRO-3 the ranks of one node
    write their own parts of each tensor, else the first one writes."""
    known = parameters(rung, setting)
    largest = known.largest_trained_count if rung.method is Method.LORA else known.largest_count
    whole_bytes = min(PIECE_BYTES, element_bytes(rung.dtype) * largest)
    if rung.zero_stage < 3 or len(setting.hardware.nodes) > 1:
        return whole_bytes, 0
    part_bytes = min(PIECE_BYTES, element_bytes(rung.dtype) * -(-largest // setting.rank_count))
    return part_bytes, part_bytes
