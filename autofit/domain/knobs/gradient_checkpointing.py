"""Whether activations are computed twice instead of being kept."""

from __future__ import annotations

from autofit.domain.knobs.knob import Knob, PinFlag, Value

GRADIENT_CHECKPOINTING = Knob(
    "gradient_checkpointing",
    (
        Value(False, "off", "no gradient checkpointing"),
        Value(True, "on", "gradient checkpointing", "gc"),
    ),
    PinFlag(("--gradient-checkpointing",), "auto|on|off", "Compute activations twice instead of keeping them."),
    from_least_memory=(True, False),
    adds_work=True,
)
