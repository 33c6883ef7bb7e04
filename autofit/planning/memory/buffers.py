"""What DeepSpeed holds for communication; terms of 0.19.8, from its source and measured."""

from __future__ import annotations

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Rung
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting
from autofit.planning.zero_sizes import zero_sizes

from .states import offload_of, persistent_count

MAX_REUSE_DISTANCE = 1_000_000_000
"""DeepSpeed's default: ZeRO-3 keeps a gathered parameter that is needed again before this many elements went by
(stage3_max_reuse_distance)."""


def bucket_elements(setting: Setting) -> int:
    """Elements of the reduce bucket."""
    return zero_sizes(setting.shape.hidden_size).reduce_bucket


def is_overlapped(kind: DeviceKind) -> bool:
    """Whether communication runs beside computation, which costs a second bucket."""
    return kind is DeviceKind.CUDA


def bucket_count(rung: Rung, setting: Setting) -> int:
    """Elements of all reduce buckets while gradients come."""
    return bucket_elements(setting) * (2 if rung.zero_stage < 3 and is_overlapped(setting.kind) else 1)


def gathered_count(rung: Rung, setting: Setting, done_share: float) -> int:
    """Parameters that ZeRO-3 holds whole beside its partitions when `done_share` of the backward pass is behind it.

    From the second step on it knows the order of the modules: a layer's parameters stay from the forward to the
    backward pass if what lies between them, counted twice, is below the reuse distance. Frozen input embeddings are
    not needed in the backward pass, but for checkpointing, which lets gradients flow to its inputs. Known error: up
    to one layer; a part of the embeddings with LoRA.
    """
    if rung.zero_stage < 3 or (not setting.is_divided and offload_of(rung, setting) is not Offload.ALL):
        return 0
    known = parameters(rung, setting)
    is_skipped = rung.method is Method.LORA and not rung.gradient_checkpointing
    unneeded = known.embedding_count if is_skipped else 0
    wanted = known.whole_count - persistent_count(rung, setting) - unneeded
    layer_count = known.whole_count // setting.shape.layer_count
    most = MAX_REUSE_DISTANCE // 2 + layer_count + bucket_elements(setting)
    return min(round(wanted * (1 - done_share)), most)
