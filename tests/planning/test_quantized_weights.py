"""What a quantised weight takes, by hand."""

from __future__ import annotations

import pytest

from autofit.domain.knobs.quantization import Quantization
from autofit.planning.quantized_weights import packed_bytes, scales_bytes

NF4, INT8 = Quantization.NF4, Quantization.INT8
SQUARE = 4096 * 4096  # of a projection of Llama-2-7B


def test_a_weight_in_nf4_takes_half_a_byte_and_with_double_quantisation_0_516() -> None:
    """QLoRA, 2305.14314, section 3: 8 / 64 + 32 / (64 * 256) bits of scales, 0.127 bits."""
    assert packed_bytes(NF4, SQUARE) == SQUARE // 2
    assert scales_bytes(NF4, SQUARE, 4096) == 262_144 + 4 * 1024 + 1092
    whole = packed_bytes(NF4, SQUARE) + scales_bytes(NF4, SQUARE, 4096)
    assert 8 * whole / SQUARE == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), rel=1e-3)


def test_a_weight_in_int8_takes_a_byte_and_a_scale_for_each_row() -> None:
    assert packed_bytes(INT8, SQUARE) == SQUARE
    assert scales_bytes(INT8, SQUARE, 4096) == 4 * 4096


def test_a_block_that_is_not_full_has_a_scale_as_well() -> None:
    assert packed_bytes(NF4, 65) == 33
    assert scales_bytes(NF4, 65, 1) == 2 + 4 + 1092


def test_scales_that_are_not_quantised_take_4_bytes_each() -> None:
    """As many models in 4 bits are stored: 0.5625 bytes a weight."""
    assert scales_bytes(NF4, SQUARE, 4096, are_wide=True) == 4 * 262_144 + 64
