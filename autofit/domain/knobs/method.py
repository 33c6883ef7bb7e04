"""Which parameters are trained."""

from __future__ import annotations

from enum import Enum

from autofit.domain.knobs.knob import Knob, PinFlag, Value


class Method(str, Enum):
    FULL = "full"
    LORA = "lora"


METHOD = Knob(
    "method",
    (
        Value(Method.FULL, "full", "all parameters"),
        Value(Method.LORA, "lora", "LoRA", "lora"),
    ),
    PinFlag(("--method",), "auto|full|lora", "All parameters or LoRA; auto lets both compete."),
    from_least_memory=(Method.LORA, Method.FULL),
    outweighs_estimate=True,  # gradients and optimizer states of all parameters outweigh whatever an adapter adds
    changes_training=True,
)
