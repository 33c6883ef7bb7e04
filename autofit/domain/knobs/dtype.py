"""The type of numbers that a training computes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from autofit.domain.knobs.knob import Conditions, Knob, PinFlag, Value, Values

if TYPE_CHECKING:
    from autofit.domain.hardware import Hardware


class Dtype(str, Enum):
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


FP32_BYTES, FP64_BYTES = 4, 8
"""The bytes of numbers that optimizer states and sums are made of, whatever the training computes in."""


@dataclass(frozen=True)
class Element:
    """What one number of a tensor is."""

    size_bytes: int
    torch_name: str  # of the attribute of `torch`, and of "dtype" in a config.json


ELEMENTS: Mapping[Dtype, Element] = {
    Dtype.BF16: Element(2, "bfloat16"),
    Dtype.FP16: Element(2, "float16"),
    Dtype.FP32: Element(FP32_BYTES, "float32"),
}

MIXED = (Dtype.BF16, Dtype.FP16)
"""What trainers and DeepSpeed compute in beside fp32 weights: each is turned on by a switch of its name."""


def element_bytes(dtype: Dtype) -> int:
    """The bytes of one parameter, gradient or activation of a training in `dtype`."""
    return ELEMENTS[dtype].size_bytes


def switched_on(switches: Mapping[str, Any]) -> Dtype | None:
    """The mixed precision that `switches` (`bf16`, `fp16`) turn on; None where they leave the weights' own dtype."""
    return next((dtype for dtype in MIXED if switches.get(dtype.value)), None)


def supported_dtypes(hardware: Hardware) -> tuple[Dtype, ...]:
    """The dtypes that work, best first. Before Ampere there is only fp16, with loss scaling; a CPU has no usable
    fp16."""
    if hardware.is_cpu:
        return (Dtype.BF16, Dtype.FP32)
    return (Dtype.BF16, Dtype.FP16) if hardware.is_ampere else (Dtype.FP16,)


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
