"""What ZeRO divides among the ranks: nothing (0), optimizer states (1), gradients too (2), parameters too (3).

Stage 0 of autofit's own trainings is plain torch, without DeepSpeed's engine: DistributedDataParallel, and autocast for
mixed precision; one device needs neither wrapper nor engine. Whatever is trained is fp32 there, so it takes more memory
than stage 1 on several devices; on one device either may take less. The stage 0 of a script is DeepSpeed's own.
"""

from __future__ import annotations

from autofit.domain.knobs.knob import Conditions, Knob, PinFlag, Value, Values

from .offload import OFFLOAD, Offload

_PLAIN = {Offload.NONE: (0, 1), Offload.PARTIAL: (3,), Offload.OPTIMIZER: (2,), Offload.ALL: (3,)}
"""The plainest stages that can carry each offload: where nothing is divided, the others change nothing else. Stage 0
has other weights and gradients than stage 1."""


def _why_pointless(stage: int, settled: Values, conditions: Conditions) -> str | None:
    if conditions.hardware.rank_count > 1 or stage in _PLAIN[settled[OFFLOAD.name]]:
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
