"""What updates the parameters, and the states that it keeps of each.

AdamW keeps an fp32 master weight and two fp32 moments of a trained parameter, 12 bytes (Rajbhandari et al., ZeRO, 2020,
section 3.1), which ZeRO divides among the ranks from stage 1 on. Its update reads 16 bytes and writes 12 of each
parameter, the fp32 gradient included (`planning/speed/compute.py`).

What other optimizers keep, which only a user's script can bring, stands in `planning/optimizer_states.py`.
"""

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
