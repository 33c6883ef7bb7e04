"""What lies in host memory."""

from __future__ import annotations

from enum import Enum

from autofit.domain.knobs.knob import Conditions, Knob, Need, PinFlag, Value, Values


class Offload(str, Enum):
    NONE = "none"
    OPTIMIZER = "optimizer"
    ALL = "all"  # optimizer states and parameters


def _why_pointless(offload: Offload, settled: Values, conditions: Conditions) -> str | None:
    is_moved = offload is not Offload.NONE
    return "offload moves nothing off a CPU" if is_moved and conditions.hardware.is_cpu else None


OFFLOAD = Knob(
    "offload",
    (
        Value(Offload.NONE, "none", "no offload"),
        Value(
            Offload.OPTIMIZER, "optimizer", "offload of the optimizer", "offload",
            needs=(Need("zero_stage", (1, 2, 3), "without ZeRO nothing moves optimizer states to host memory"),),
        ),
        Value(
            Offload.ALL, "all", "offload of optimizer and parameters", "offload-all",
            needs=(Need("zero_stage", (3,), "only stage 3 can move parameters to host memory"),),
        ),
    ),
    PinFlag(("--offload",), "none|optimizer|all", "What lies in host memory."),
    from_least_memory=(Offload.ALL, Offload.OPTIMIZER, Offload.NONE),
    adds_work=True,
    why_pointless=_why_pointless,
)  # fmt: skip
