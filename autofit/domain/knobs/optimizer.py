"""What updates the parameters, and the states that it keeps of each.

AdamW keeps an fp32 master weight and two fp32 moments of a trained parameter, 12 bytes (Rajbhandari et al., ZeRO, 2020,
section 3.1), which ZeRO divides among the ranks from stage 1 on. Its update reads 16 bytes and writes 12 of each
parameter, the fp32 gradient included (`planning/speed/compute.py`).

LOMO and AdaLomo (Lv et al., 2306.09782 and 2310.10195) update a parameter in the backward pass, as soon as its gradient
is there, and drop the gradient.

What other optimizers keep, which only a user's script can bring, stands in `planning/optimizer_states.py`.
"""

from __future__ import annotations

from enum import Enum

from autofit.domain.knobs.knob import Knob, Need, PinFlag, Value

from .dtype import Dtype
from .last_resort import LastResort
from .method import Method
from .offload import Offload


class Optimizer(str, Enum):
    ADAMW = "adamw"
    ADAMW_8BIT = "adamw_8bit"  # bitsandbytes
    ADAMW_8BIT_BF16 = "adamw_8bit_bf16"  # torchao, bf16 master weights, stochastic rounding
    ADAMW_4BIT_BF16 = "adamw_4bit_bf16"  # the same
    LION = "lion"
    SGD = "sgd"
    LOMO = "lomo"
    ADALOMO = "adalomo"

    @property
    def is_fused(self) -> bool:
        """Whether it updates each parameter in the backward pass and keeps no gradient."""
        return self in (Optimizer.LOMO, Optimizer.ADALOMO)


_NEEDS_ENGINE = Need("zero_stage", (1, 2, 3), "only DeepSpeed's engine keeps master weights in bf16")
_NEEDS_DEVICE = Need("offload", (Offload.NONE,), "its states are small and stay on the device")
_NEEDS_WHOLE = (
    Need("method", (Method.FULL,), "an adapter's gradients and states are small, there is nothing to save"),
    Need("zero_stage", (0, 3), "ZeRO-1 and 2 keep gradients until the step, which it is there to avoid"),
    Need("offload", (Offload.NONE,), "there is no optimizer state that could be moved"),
    Need(
        "dtype",
        (Dtype.BF16, Dtype.FP32),
        "in fp16 all gradients must be looked at before the first is used: one may have overflowed",
    ),
)

OPTIMIZER = Knob(
    "optimizer",
    (
        Value(Optimizer.ADAMW, "adamw", "AdamW"),
        Value(
            Optimizer.ADAMW_8BIT, "adamw_8bit", "AdamW with 8-bit moments", "adamw8",
            gives_up="moments are rounded to 8 bits in blocks",
            last_resort=LastResort.FEWER_BITS,
        ),
        Value(
            Optimizer.ADAMW_8BIT_BF16, "adamw_8bit_bf16", "AdamW with 8-bit moments and bf16 master weights",
            "adamw8-bf16",
            needs=(_NEEDS_ENGINE, _NEEDS_DEVICE),
            gives_up="moments are rounded to 8 bits, and master weights at random to bf16",
            last_resort=LastResort.FEWER_BITS,
        ),
        Value(
            Optimizer.ADAMW_4BIT_BF16, "adamw_4bit_bf16", "AdamW with 4-bit moments and bf16 master weights",
            "adamw4-bf16",
            needs=(_NEEDS_ENGINE, _NEEDS_DEVICE),
            gives_up="moments are rounded to 4 bits, and master weights at random to bf16",
            last_resort=LastResort.FEWER_BITS,
        ),
        Value(Optimizer.LION, "lion", "Lion", "lion", gives_up="the sign of one moment is the step: not AdamW"),
        Value(Optimizer.SGD, "sgd", "SGD", "sgd", gives_up="nothing adapts the step of a parameter: not AdamW"),
        Value(
            Optimizer.ADALOMO, "adalomo", "AdaLomo", "adalomo",
            needs=_NEEDS_WHOLE,
            gives_up="factored second moments alone adapt the step: not AdamW",
            last_resort=LastResort.FUSED_UPDATE,
        ),
        Value(
            Optimizer.LOMO, "lomo", "LOMO", "lomo",
            needs=_NEEDS_WHOLE,
            gives_up="plain SGD: nothing adapts the step of a parameter",
            last_resort=LastResort.FUSED_UPDATE,
        ),
    ),
    PinFlag(("--optimizer",), "NAME", "adamw unless told; others only where they are pinned or allowed."),
    changes_training=True,
)  # fmt: skip
