"""The numbers that frozen base weights are kept in.

NF4 (Dettmers et al., QLoRA, 2305.14314, section 3) keeps a weight of a linear layer in 4 bits, and of each block of 64
a scale, which is quantised in its turn: 0.516 bytes a weight. int8 (Dettmers et al., LLM.int8(), 2208.07339) keeps 1
byte and a scale for each row. Embeddings, the head and norms stay what they are.
"""

from __future__ import annotations

from enum import Enum

from .knob import Knob, Need, PinFlag, Value
from .last_resort import LastResort
from .method import Method


class Quantization(str, Enum):
    NONE = "none"
    INT8 = "int8"
    NF4 = "nf4"


_NEEDS_FROZEN = (Need("method", (Method.LORA,), "only frozen weights can be kept in so few bits"),)

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
)  # fmt: skip
