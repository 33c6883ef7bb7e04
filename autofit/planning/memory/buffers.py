"""What DeepSpeed holds for communication; terms of 0.19.8, from its source and measured."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Rung
from autofit.planning.parameters import Parameters, parameters
from autofit.planning.reference import keeps_reference, runs_more_than_once
from autofit.planning.setting import Setting

from .states import offload_of, persistent_count

MAX_LIVE_PARAMETERS = 1_000_000_000
"""DeepSpeed's default: ZeRO-3 fetches no parameter ahead once it holds so many elements whole
(stage3_max_live_parameters, runtime/zero/config.py)."""


MAX_REUSE_DISTANCE = 1_000_000_000
"""DeepSpeed's default: ZeRO-3 keeps a parameter that is used again before this many elements went by
(stage3_max_reuse_distance). Those that it must hold at the turn are half of it, each counted twice."""


def bucket_elements(setting: Setting) -> int:
    """Elements of the reduce bucket."""
    return setting.zero_sizes.reduce_bucket


def is_overlapped(rung: Rung, kind: DeviceKind, rank_count: int) -> bool:
    """Whether what is sent, to other ranks or to the host, goes beside computation, which costs a second bucket and
    time of the host for each gradient. A device alone that keeps everything sends nothing."""
    return kind is DeviceKind.CUDA and (rank_count > 1 or rung.zero_stage >= 3 or rung.offload is not Offload.NONE)


def overlaps(rung: Rung, setting: Setting) -> bool:
    """The same of a rung where it is; a script's own configuration is taken to have it on any GPU."""
    if setting.is_script:
        return setting.kind is DeviceKind.CUDA
    return is_overlapped(rung, setting.kind, setting.rank_count)


def bucket_count(rung: Rung, setting: Setting) -> int:
    """Elements of all reduce buckets while gradients come."""
    return bucket_elements(setting) * (2 if rung.zero_stage < 3 and overlaps(rung, setting) else 1)


def reduction_copies(rung: Rung, setting: Setting) -> int:
    """How often an element of the bucket is held while it is reduced: the buckets, and what is put together of one."""
    return bucket_count(rung, setting) // bucket_elements(setting) + 1


@dataclass(frozen=True)
class Gathering:
    """Elements that ZeRO-3 holds whole beside its partitions: the backward pass needs `wanted` of them, fewer and fewer
    if it `shrinks`, and `most` are there at once."""

    wanted: int = 0
    most: int = 0
    shrinks: bool = True

    def count(self, done_share: float) -> int:
        """Those that are whole when `done_share` of the backward pass is behind it."""
        return min(round(self.wanted * (1 - done_share)), self.most) if self.shrinks else self.most


def gathering(rung: Rung, setting: Setting) -> Gathering:
    """Parameters that ZeRO-3 holds whole beside its partitions.

    From the second step on it knows the order of the modules. As the forward pass ends it keeps those that the
    backward pass needs first, and fetches on from there, tensor by tensor, until it holds MAX_LIVE_PARAMETERS; what is
    released on the way back is made up for (PartitionedParameterCoordinator of runtime/zero/
    partitioned_param_coordinator.py). Frozen input embeddings are not needed in the backward pass, but for
    checkpointing, which lets gradients flow to its inputs. Known error: less than a tensor; a part of the embeddings
    with LoRA; without checkpointing more than MAX_LIVE_PARAMETERS weights that are viewed (`viewed_count`). Where LOMO
    or AdaLomo updates in the backward pass it keeps and fetches nothing. Nor does it where the model has forward passes
    without gradients, after each of which it begins to learn the order anew (`reset_step`): then what computes is
    whole, of which the largest tensor counts.
    """
    is_whole = not setting.is_divided and offload_of(rung, setting) is not Offload.ALL
    if rung.zero_stage < 3 or is_whole or rung.optimizer.is_fused:
        return Gathering()
    if runs_more_than_once(rung, setting.request):
        return Gathering(most=parameters(rung, setting).largest_count, shrinks=False)
    return setting.once(
        (gathering, rung.method, rung.quantization, rung.dtype, rung.gradient_checkpointing),
        lambda: Gathering(*_wanted_counts(rung, setting)),
    )


def gathered_count(rung: Rung, setting: Setting, done_share: float) -> int:
    """Elements that ZeRO-3 holds whole when `done_share` of the backward pass is behind it."""
    return gathering(rung, setting).count(done_share)


def _wanted_counts(rung: Rung, setting: Setting) -> tuple[int, int]:
    """Elements that the backward pass needs of divided tensors, and the most that are whole at once."""
    known = parameters(rung, setting)
    is_skipped = rung.method is Method.LORA and not rung.gradient_checkpointing.recomputes
    # Where the model scores, the input embeddings are its only table.
    table = known.largest_count if setting.request.task.traits.scores else known.embedding_count
    unneeded = table if is_skipped else 0
    wanted = known.whole_count - persistent_count(rung, setting) - unneeded
    return wanted, known.count_from_the_end(setting.shape.layer_count, MAX_LIVE_PARAMETERS)


def reference_gathered_count(rung: Rung, setting: Setting) -> int:
    """Parameters of the reference that ZeRO-3 holds whole while it runs, which no backward pass follows: of what
    computes, the largest tensor. Where the model that trains holds no more (`runs_more_than_once`) it has that one's
    place."""
    is_divided = rung.zero_stage >= 3 and setting.is_divided
    if not is_divided or not keeps_reference(rung, setting.request) or runs_more_than_once(rung, setting.request):
        return 0
    return parameters(rung, setting).largest_count


def ahead_count(known: Parameters, gathered: int) -> int:
    """Of so many gathered parameters those that DeepSpeed would not hold if it fetched none ahead: its engine takes 1
    GB less of Llama-2-7B with a prefetch bucket of 0."""
    return max(0, gathered - MAX_REUSE_DISTANCE // (2 * known.stored_count))
