"""What a weight of a quantised base takes, as bitsandbytes 0.50 keeps it."""

from __future__ import annotations

from collections.abc import Mapping

from autofit.domain.knobs.dtype import FP32_BYTES
from autofit.domain.knobs.quantization import Quantization

PACKED_BITS: Mapping[Quantization, int] = {Quantization.NF4: 4, Quantization.INT8: 8}

STORED_BYTES = 1
"""The size of an element of the tensor that a weight is packed into (`bnb_4bit_quant_storage`, uint8 unless told)."""

BLOCK_ELEMENTS = 64
"""Elements of a weight with one scale in NF4 (QLoRA, 2305.14314, section 3; Params4bit in bitsandbytes/nn)."""

SCALES_BLOCK = 256
"""Scales with one fp32 scale, once they are quantised in their turn."""

TABLES_BYTES = FP32_BYTES * (256 + 16 + 1)
"""What goes with each weight beside: the numbers that a scale and a weight may be, and the scales' mean
(quantize_4bit in bitsandbytes/functional.py)."""


WIDE_TABLE_BYTES = FP32_BYTES * 16
"""The same where scales are not quantised."""


def packed_bytes(quantization: Quantization, element_count: int) -> int:
    """The bytes of a weight's own tensor, a parameter of the model that ZeRO-3 divides like others."""
    return -(-element_count * PACKED_BITS[quantization] // 8)


def scales_bytes(quantization: Quantization, element_count: int, row_count: int, *, are_wide: bool = False) -> int:
    """The bytes of a weight's scales, which are no parameters and stay whole on every rank: of NF4 with double
    quantisation 0.016 for each element, without it (`are_wide`) 0.0625, of int8 an fp32 number for each row
    (LLM.int8(), 2208.07339)."""
    if quantization is Quantization.INT8:
        return FP32_BYTES * row_count
    scale_count = -(-element_count // BLOCK_ELEMENTS)
    if are_wide:
        return FP32_BYTES * scale_count + WIDE_TABLE_BYTES
    return scale_count + FP32_BYTES * -(-scale_count // SCALES_BLOCK) + TABLES_BYTES
