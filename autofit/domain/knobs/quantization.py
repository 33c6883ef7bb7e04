"""The numbers that frozen base weights are kept in.

NF4 (Dettmers et al., QLoRA, 2305.14314, section 3) keeps a weight of a linear layer in 4 bits, and of each block of 64
a scale, which is quantised in its turn: 0.516 bytes a weight. int8 (Dettmers et al., LLM.int8(), 2208.07339) keeps 1
byte and a scale for each row. Embeddings, the head, norms and experts that stand in one parameter stay what they are.
Before each product a weight is made what it was, in the dtype that is computed in; int8 multiplies as it is in a GPU's
forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from .knob import Conditions, Knob, Need, PinFlag, Value, Values, why_missing
from .last_resort import LastResort
from .method import Method


class Quantization(str, Enum):
    NONE = "none"
    INT8 = "int8"
    NF4 = "nf4"


QUANTIZING_PACKAGE = "bitsandbytes"

_LEAST_CAPABILITIES: Mapping[Quantization, tuple[int, int]] = {Quantization.INT8: (7, 5), Quantization.NF4: (6, 0)}
"""The least compute capability of a GPU (bitsandbytes' installation guide, 0.48 and newer)."""

_NEEDS_FROZEN = (Need("method", (Method.LORA,), "only frozen weights can be kept in so few bits"),)


def _why_unusable(quantization: Quantization, settled: Values, conditions: Conditions) -> str | None:
    if quantization is Quantization.NONE:
        return None
    if not conditions.hardware.is_cpu:
        least = _LEAST_CAPABILITIES[quantization]
        if (why := conditions.hardware.why_older_than(least)) is not None:
            return f"{quantization.value} needs compute capability {least[0]}.{least[1]} or newer, {why}"
    return why_missing(QUANTIZING_PACKAGE, conditions)


QUANTIZATION = Knob(
    "quantization",
    (
        Value(Quantization.NONE, "none", "base weights as they are"),
        Value(
            Quantization.INT8, "int8", "base weights in int8", "int8",
            needs=_NEEDS_FROZEN,
            gives_up="the base weights are rounded to 8 bits",
            last_resort=LastResort.QUANTIZED_BASE,
        ),
        Value(
            Quantization.NF4, "nf4", "base weights in NF4", "nf4",
            needs=_NEEDS_FROZEN,
            gives_up="the base weights are rounded to 4 bits",
            last_resort=LastResort.QUANTIZED_BASE,
        ),
    ),
    PinFlag(
        ("--quantize", "--quantization"), "none|int8|nf4",
        "What a frozen base model is kept in; only where pinned or allowed.",
    ),
    from_least_memory=(Quantization.NF4, Quantization.INT8, Quantization.NONE),
    changes_training=True,
    why_unusable=_why_unusable,
)  # fmt: skip
