"""What ZeRO divides among the ranks: optimizer states (1), gradients too (2), parameters too (3)."""

from __future__ import annotations

from autofit.domain.knobs.knob import Conditions, Knob, PinFlag, Value, Values

from .offload import OFFLOAD, Offload

_PLAINEST = {Offload.NONE: 1, Offload.OPTIMIZER: 2, Offload.ALL: 3}
"""The plainest stage that can carry each offload: where nothing is divided, the stage changes nothing else."""


def _why_pointless(stage: int, settled: Values, conditions: Conditions) -> str | None:
    if conditions.hardware.rank_count > 1 or _PLAINEST[settled[OFFLOAD.name]] == stage:
        return None
    return "its ZeRO stage divides nothing on one device"


ZERO_STAGE = Knob(
    "zero_stage",
    (
        Value(0, "0", "DDP", "zero0"),
        Value(1, "1", "ZeRO-1", "zero1"),
        Value(2, "2", "ZeRO-2", "zero2"),
        Value(3, "3", "ZeRO-3", "zero3"),
    ),
    PinFlag(("--zero-stage",), "0|1|2|3", "What ZeRO divides among the devices."),
    from_least_memory=(3, 2, 1, 0),
    why_pointless=_why_pointless,
)
