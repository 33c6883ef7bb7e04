"""The kernel that computes attention."""

from __future__ import annotations

from collections.abc import Container
from enum import Enum

from autofit.domain.hardware import AMPERE, Hardware
from autofit.domain.knobs.knob import Conditions, Knob, PinFlag, Value, Values

from .dtype import DTYPE, Dtype

FLASH_PACKAGE = "flash-attn"


class Attention(str, Enum):
    FLASH_2 = "flash_attention_2"
    SDPA = "sdpa"
    EAGER = "eager"
    FLEX = "flex_attention"


def runs_flash(hardware: Hardware, dtype: Dtype, installed: Container[str]) -> bool:
    return FLASH_PACKAGE in installed and why_no_flash(hardware, dtype) is None


def why_no_flash(hardware: Hardware, dtype: Dtype) -> str | None:
    """What of the device or the dtype keeps FlashAttention-2 from running; None when nothing does."""
    if hardware.is_cpu:
        return "FlashAttention-2 does not run on a CPU"
    if (why := hardware.why_older_than(AMPERE)) is not None:
        return f"FlashAttention-2 needs compute capability 8.0 or newer, {why}"
    return "FlashAttention-2 computes in bf16 or fp16 only, not in fp32" if dtype is Dtype.FP32 else None


def _why_unusable(attention: Attention, settled: Values, conditions: Conditions) -> str | None:
    """Why a kernel does not work on this machine; sdpa and eager work everywhere."""
    if attention is Attention.FLEX and conditions.hardware.is_cpu:
        return "FlexAttention has no backward pass on a CPU"
    if attention is not Attention.FLASH_2:
        return None
    is_installed = FLASH_PACKAGE in conditions.installed
    missing = None if is_installed else f"the package {FLASH_PACKAGE} is not installed"
    return why_no_flash(conditions.hardware, settled[DTYPE.name]) or missing


ATTENTION = Knob(
    "attention",
    (
        Value(Attention.FLASH_2, "flash_attention_2", "FlashAttention-2", "fa2"),
        Value(Attention.SDPA, "sdpa", "sdpa"),
        Value(Attention.EAGER, "eager", "eager", "eager"),
        Value(Attention.FLEX, "flex_attention", "FlexAttention", "flex", is_told_of=False),
    ),
    PinFlag(("--attention", "--attn-implementation"), "KERNEL", "flash_attention_2, sdpa, eager or flex_attention."),
    is_settled=True,
    tells_others=True,
    why_unusable=_why_unusable,
)
