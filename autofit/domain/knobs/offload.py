"""What lies in host memory."""

from __future__ import annotations

from enum import Enum

from autofit.domain.knobs.knob import Conditions, Knob, Need, PinFlag, Value, Values

from .method import Method


class Offload(str, Enum):
    NONE = "none"
    PARTIAL = "partial"  # a part of the optimizer states
    OPTIMIZER = "optimizer"
    ALL = "all"  # optimizer states and parameters


def _why_unusable(offload: Offload, settled: Values, conditions: Conditions) -> str | None:
    is_divided = offload is Offload.PARTIAL and conditions.hardware.is_cpu
    return "a CPU rank's device is its host, so nothing can be divided between the two" if is_divided else None


def _why_pointless(offload: Offload, settled: Values, conditions: Conditions) -> str | None:
    is_moved = offload is not Offload.NONE
    return "offload moves nothing off a CPU" if is_moved and conditions.hardware.is_cpu else None


_NVME = (
    "DeepSpeed's checkpoints of it restore neither Adam's count of steps nor the parameters that are too small to be "
    "swapped; use all or partial"
)
"""DeepSpeed 0.19.8: with an optimizer on NVMe `load_checkpoint` leaves out `_load_zero_checkpoint` and copies the
swapped tensors alone (runtime/engine.py). docs/knobs.md tells what was seen."""

OFFLOAD = Knob(
    "offload",
    (
        Value(Offload.NONE, "none", "no offload"),
        Value(
            Offload.PARTIAL, "partial", "offload of a part of the optimizer", "offload-part",
            needs=(
                Need("zero_stage", (3,), "DeepSpeed divides the optimizer between device and host at stage 3 only"),
                Need("method", (Method.FULL,), "an adapter's states are small, there is nothing to divide"),
                Need("optimizer", ("adamw",), "DeepSpeed divides AdamW's states only"),  # by its word: it imports this
            ),
        ),
        Value(
            Offload.OPTIMIZER, "optimizer", "offload of the optimizer", "offload",
            needs=(Need("zero_stage", (1, 2, 3), "without ZeRO nothing moves optimizer states to host memory"),),
        ),
        Value(
            Offload.ALL, "all", "offload of optimizer and parameters", "offload-all",
            needs=(Need("zero_stage", (3,), "only stage 3 can move parameters to host memory"),),
        ),
    ),
    PinFlag(
        ("--offload",), "none|partial|optimizer|all",
        "What lies in host memory: a part of the optimizer, all of it, or the parameters too.",
    ),
    from_least_memory=(Offload.ALL, Offload.OPTIMIZER, Offload.PARTIAL, Offload.NONE),
    adds_work=True,
    refused=(("nvme", _NVME),),
    why_unusable=_why_unusable,
    why_pointless=_why_pointless,
)  # fmt: skip
