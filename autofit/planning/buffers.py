"""What DeepSpeed holds for communication and for the optimizer's step; terms measured on 0.19.8."""

from __future__ import annotations

from autofit.domain.hardware import DeviceKind
from autofit.domain.strategy import Offload, Strategy

from .setting import Setting
from .states import element_bytes, offload_of, trained_count, whole_count

MAX_LIVE_PARAMETERS = 1_000_000_000
"""DeepSpeed's default for what ZeRO-3 keeps gathered at once (stage3_max_live_parameters)."""

PLAIN_STEP_BYTES = 12
"""Per trained parameter of a rank, while torch's plain AdamW steps: the fp32 gradient and two temporaries."""

FUSED_STEP_BYTES = 4
"""Per trained parameter of a rank, while the fused AdamW steps: the fp32 gradient alone."""


def bucket_elements(setting: Setting) -> int:
    """The reduce bucket, hidden²: what Hugging Face's "auto" sets."""
    return setting.shape.hidden_size**2


def is_overlapped(kind: DeviceKind) -> bool:
    """Whether communication runs beside computation, which costs a second bucket."""
    return kind is DeviceKind.CUDA


def buffer_bytes(strategy: Strategy, setting: Setting) -> int:
    """Buckets and gathered parameters of one rank at the peak of the backward pass."""
    rung, width = strategy.rung, element_bytes(strategy.rung.dtype)
    bucket, is_accumulating = bucket_elements(setting), strategy.gradient_accumulation > 1
    if rung.zero_stage >= 3:
        return width * bucket + width * _gathered_count(strategy, setting)
    held = (1 + is_overlapped(setting.kind)) * bucket
    if rung.zero_stage == 1:
        return width * (held + (2 * bucket if is_accumulating else 0))
    trained = trained_count(rung, setting)
    kept = trained // setting.rank_count if is_accumulating and offload_of(rung, setting) is Offload.NONE else 0
    return width * (held + min(bucket, trained) + kept)


def step_bytes(strategy: Strategy, setting: Setting, each_bytes: int | None = None) -> int:
    """What the optimizer's step takes for a moment, after the activations are gone."""
    if offload_of(strategy.rung, setting) is not Offload.NONE:
        return 0
    usual_bytes = FUSED_STEP_BYTES if setting.kind is DeviceKind.CUDA else PLAIN_STEP_BYTES
    return (each_bytes or usual_bytes) * trained_count(strategy.rung, setting) // setting.rank_count


def _gathered_count(strategy: Strategy, setting: Setting) -> int:
    is_at_home = not setting.is_divided and offload_of(strategy.rung, setting) is not Offload.ALL
    return 0 if is_at_home else min(whole_count(strategy.rung, setting), MAX_LIVE_PARAMETERS)
