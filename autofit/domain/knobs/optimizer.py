"""What updates the parameters, and the states that it keeps of each."""

from __future__ import annotations

from enum import Enum

from autofit.domain.knobs.knob import Knob, Value


class Optimizer(str, Enum):
    ADAMW = "adamw"


OPTIMIZER = Knob(
    "optimizer",
    (Value(Optimizer.ADAMW, "adamw", "AdamW"),),
    changes_training=True,
    is_settled=True,
)
