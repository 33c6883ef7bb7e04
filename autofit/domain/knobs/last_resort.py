"""The order in which values that change a training are named, where nothing fits without one."""

from __future__ import annotations

from enum import IntEnum


class LastResort(IntEnum):
    """From what changes least to what changes most."""

    FEWER_BITS = 1  # the same optimizer, its states in fewer bits
    FUSED_UPDATE = 2  # LOMO and AdaLomo
    QUANTIZED_BASE = 3
