"""The heap of a CPU rank, which is its device: quick where it may keep what is freed, else exact, and slower."""

from __future__ import annotations

_KEPT_SHARE = 1.0
"""How much more than its tensors a quick heap is allowed, by what they take: 0.44 was the most that was seen (the tiny
Llama, 4,096 tokens a micro-batch)."""


def quick_up_to_bytes(base_bytes: float, room_bytes: float) -> float:
    """The largest peak with which the heap of a rank that may hold `room_bytes` is quick; `base_bytes` of the peak lie
    beside the tensors."""
    return (room_bytes + _KEPT_SHARE * base_bytes) / (1 + _KEPT_SHARE)
