"""What updates the parameters, and the states that it keeps of each.

AdamW keeps an fp32 master weight and two fp32 moments of a trained parameter, 12 bytes (Rajbhandari et al., ZeRO, 2020,
section 3.1), which ZeRO divides among the ranks from stage 1 on. What the others keep stands in
`planning/optimizer_states.py`, beside what only a user's script can bring.

LOMO and AdaLomo (Lv et al., 2306.09782 and 2310.10195) update a parameter in the backward pass, as soon as its gradient
is there, and drop the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from autofit.domain.knobs.knob import Conditions, Knob, Need, PinFlag, Value, Values, why_missing

from .dtype import DTYPE, Dtype
from .last_resort import LastResort
from .method import Method
from .offload import Offload


class Optimizer(str, Enum):
    ADAMW = "adamw"
    ADAMW_8BIT = "adamw_8bit"  # bitsandbytes
    ADAMW_8BIT_BF16 = "adamw_8bit_bf16"  # torchao, bf16 master weights, stochastic rounding
    ADAMW_4BIT_BF16 = "adamw_4bit_bf16"  # the same
    LION = "lion"  # bitsandbytes, in fp32
    SGD = "sgd"
    LOMO = "lomo"
    ADALOMO = "adalomo"

    @property
    def is_fused(self) -> bool:
        """Whether it updates each parameter in the backward pass, in the dtype that is computed in: it keeps no
        gradient, no fp32 master weight and no more than factored states."""
        return self in (Optimizer.LOMO, Optimizer.ADALOMO)

    @property
    def is_compiled(self) -> bool:
        """Whether its update is compiled within the first step (torchao's, for a GPU)."""
        return PACKAGES.get(self) == "torchao"


BF16_MASTERS = frozenset({Optimizer.ADAMW_8BIT_BF16, Optimizer.ADAMW_4BIT_BF16})
"""Those whose master weights are bf16, rounded at random: to nearest, small learning rates would change nothing."""

PACKAGES: Mapping[Optimizer, str] = {
    Optimizer.ADAMW_8BIT: "bitsandbytes",
    Optimizer.ADAMW_8BIT_BF16: "torchao",
    Optimizer.ADAMW_4BIT_BF16: "torchao",
    Optimizer.LION: "bitsandbytes",
}
"""The package that an optimizer comes from, as pip names it, where it is not torch."""

TRAINER_NAMES: Mapping[Optimizer, str] = {
    Optimizer.ADAMW_8BIT: "adamw_bnb_8bit",
    Optimizer.ADAMW_8BIT_BF16: "adamw_torch_8bit",
    Optimizer.ADAMW_4BIT_BF16: "adamw_torch_4bit",
    Optimizer.LION: "lion_32bit",
    Optimizer.SGD: "sgd",
}
"""transformers' names (`optim` of its arguments); AdamW is its default, of which a user may take another kind, and what
updates in the backward pass is none of its optimizers."""

_ADAMW_RATES = {Method.FULL: 2e-5, Method.LORA: 2e-4}
_LION_RATES = {Method.FULL: 4e-6, Method.LORA: 4e-5}
_SGD_RATES = {Method.FULL: 1e-2, Method.LORA: 1e-1}

LEARNING_RATES: Mapping[Optimizer, Mapping[Method, float]] = {
    Optimizer.ADAMW: _ADAMW_RATES,
    Optimizer.ADAMW_8BIT: _ADAMW_RATES,
    Optimizer.ADAMW_8BIT_BF16: _ADAMW_RATES,
    Optimizer.ADAMW_4BIT_BF16: _ADAMW_RATES,
    Optimizer.LION: _LION_RATES,
    Optimizer.SGD: _SGD_RATES,
    Optimizer.LOMO: {Method.FULL: 1e-2},
    Optimizer.ADALOMO: {Method.FULL: 5e-4},
}
"""The learning rate where nobody says one. An adapter starts from nothing and takes ten times as much. Lion's is a
fifth of AdamW's (3 to 10 times smaller: Chen et al., 2302.06675, section 5); SGD's, LOMO's and AdaLomo's those of
instruction tuning beside AdamW's 2e-5 (Lv et al., 2310.10195, section 4)."""


_NEEDS_ENGINE = Need("zero_stage", (1, 2, 3), "only DeepSpeed's engine keeps master weights in bf16")
_NEEDS_DEVICE = Need("offload", (Offload.NONE,), "on the host DeepSpeed keeps bf16 states for its own Adam alone")
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

_FACTORED = (
    "it factors the moments of whole matrices, and ZeRO's flat shares of the parameters have none; "
    "adalomo is the one with factored moments"
)


def _why_unusable(optimizer: Optimizer, settled: Values, conditions: Conditions) -> str | None:
    dtype, package = settled[DTYPE.name], PACKAGES.get(optimizer)
    if optimizer in BF16_MASTERS and dtype is not Dtype.BF16:
        return f"its master weights are bf16, and the training computes in {dtype.value}"
    return None if package is None else why_missing(package, conditions)


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
            gives_up="moments of 4 bits learn less in as many steps, and master weights are rounded at random to bf16",
            last_resort=LastResort.FEWER_BITS,
        ),
        Value(Optimizer.LION, "lion", "Lion", "lion", gives_up="the sign of one moment is the step"),
        Value(Optimizer.SGD, "sgd", "SGD", "sgd", gives_up="nothing adapts the step of a parameter"),
        Value(
            Optimizer.ADALOMO, "adalomo", "AdaLomo", "adalomo",
            needs=_NEEDS_WHOLE,
            gives_up="factored second moments alone adapt the step",
            last_resort=LastResort.FUSED_UPDATE,
        ),
        Value(
            Optimizer.LOMO, "lomo", "LOMO", "lomo",
            needs=_NEEDS_WHOLE,
            gives_up="nothing adapts the step of a parameter: plain SGD, not AdamW",
            last_resort=LastResort.FUSED_UPDATE,
        ),
    ),
    PinFlag(
        ("--optimizer",), "NAME",
        "adamw, or, only where pinned or allowed: adamw_8bit, adamw_8bit_bf16, adamw_4bit_bf16, lion, sgd, adalomo or "
        "lomo.",
    ),
    from_least_memory=(
        Optimizer.LOMO, Optimizer.ADALOMO, Optimizer.ADAMW_4BIT_BF16, Optimizer.ADAMW_8BIT_BF16, Optimizer.SGD,
        Optimizer.ADAMW_8BIT, Optimizer.LION, Optimizer.ADAMW,
    ),
    changes_training=True,
    refused=(("adafactor", _FACTORED),),
    why_unusable=_why_unusable,
)  # fmt: skip
