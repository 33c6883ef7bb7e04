"""The type of numbers that a training computes in."""

from __future__ import annotations

from enum import Enum

from autofit.domain.hardware import AMPERE, DeviceKind, Hardware
from autofit.domain.knobs.knob import Conditions, Knob, PinFlag, Value, Values


class Dtype(str, Enum):
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


def supported_dtypes(hardware: Hardware) -> tuple[Dtype, ...]:
    """The dtypes that work, best first. Before Ampere there is only fp16, with loss scaling; a CPU has no usable
    fp16."""
    if hardware.kind is DeviceKind.CPU:
        return (Dtype.BF16, Dtype.FP32)
    return (Dtype.BF16, Dtype.FP16) if hardware.has_capability(AMPERE) else (Dtype.FP16,)


def _why_unusable(dtype: Dtype, settled: Values, conditions: Conditions) -> str | None:
    hardware = conditions.hardware
    return None if dtype in supported_dtypes(hardware) else f"it does not work on {hardware.devices[0].name}"


DTYPE = Knob(
    "dtype",
    (
        Value(Dtype.BF16, "bf16", "bf16"),
        Value(Dtype.FP16, "fp16", "fp16", "fp16"),
        Value(Dtype.FP32, "fp32", "fp32", "fp32"),
    ),
    PinFlag(("--dtype",), "auto|bf16|fp16|fp32", "What is computed in."),
    changes_training=True,
    is_settled=True,
    why_unusable=_why_unusable,
)
