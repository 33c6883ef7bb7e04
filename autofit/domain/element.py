"""What one number of a tensor is: its bytes, and what torch calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .knobs.dtype import Dtype

FP32_BYTES, FP64_BYTES = 4, 8
"""The bytes of numbers that optimizer states and sums are made of, whatever the training computes in."""


@dataclass(frozen=True)
class Element:
    size_bytes: int
    torch_name: str  # of the attribute of `torch`, and of "dtype" in a config.json


ELEMENTS: Mapping[Dtype, Element] = {
    Dtype.BF16: Element(2, "bfloat16"),
    Dtype.FP16: Element(2, "float16"),
    Dtype.FP32: Element(FP32_BYTES, "float32"),
}


def element_bytes(dtype: Dtype) -> int:
    """The bytes of one parameter, gradient or activation of a training in `dtype`."""
    return ELEMENTS[dtype].size_bytes
