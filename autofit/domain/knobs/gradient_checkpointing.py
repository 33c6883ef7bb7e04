"""Whether activations are computed twice instead of being kept.

With it a layer keeps its input alone, 2 bytes for each of s·b·h elements (s tokens of b rows, hidden size h), instead
of the s·b·h·(34 + 5·a·s/h) bytes that its backward pass reads (a heads, scores written out; Korthikanti et al.,
Reducing Activation Recomputation, 2022, eq. 2 and section 5). The price is one more forward pass: a step that trains
all parameters computes four times what a forward pass does, and three times without (Kaplan et al., 2020, section 2.1).

The formulas stand in `planning/memory/activations.py` and `planning/speed/work.py`; where the real model was traced,
its trace says both instead.
"""

from __future__ import annotations

from enum import Enum

from autofit.domain.knobs.knob import Knob, PinFlag, Value


class GradientCheckpointing(Enum):
    """Which activations are computed twice. Files have said `true` and `false` since there were but two."""

    OFF = False
    ON = True

    @property
    def recomputes(self) -> bool:
        """Whether any layer is run again in the backward pass."""
        return self is not GradientCheckpointing.OFF

    def __bool__(self) -> bool:
        raise TypeError("one of several values: ask what it does")

    def __lt__(self, other: GradientCheckpointing) -> bool:
        order = list(GradientCheckpointing)
        return order.index(self) < order.index(other)


GRADIENT_CHECKPOINTING = Knob(
    "gradient_checkpointing",
    (
        Value(GradientCheckpointing.OFF, "off", "no gradient checkpointing"),
        Value(GradientCheckpointing.ON, "on", "gradient checkpointing", "gc"),
    ),
    PinFlag(("--gradient-checkpointing",), "auto|on|off", "Compute activations twice instead of keeping them."),
    from_least_memory=(GradientCheckpointing.ON, GradientCheckpointing.OFF),
    adds_work=True,
)
