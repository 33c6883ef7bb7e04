"""Which activations are computed twice, or lie in host memory, instead of being kept.

A checkpointed layer keeps its input alone, 2 bytes for each of s·b·h elements (s tokens of b rows, hidden size h),
instead of the s·b·h·(34 + 5·a·s/h) bytes that its backward pass reads (a heads, scores written out; Korthikanti et al.,
Reducing Activation Recomputation, 2022, eq. 2 and section 5). The price is one more forward pass: a step that trains
all parameters computes four times what a forward pass does, and three times without (Kaplan et al., 2020, section 2.1).

Between every layer and none: every second layer (`every_n_layers` of transformers 5.23, which checkpoints the layers
whose number it divides), and attention's output kept beside the input, for what attends again costs more the longer
the row is (Korthikanti et al., section 5; `selective` of trl 1.16). Below every layer: the inputs in pinned host memory
(`offload` of transformers 5.23).

The formulas stand in `planning/memory/closed_activations.py` and `planning/speed/work.py`; where the real model was
traced, its trace says both instead.
"""

from __future__ import annotations

from enum import Enum

from autofit.domain.knobs.knob import Conditions, Knob, Need, PinFlag, Value, Values

from .attention import ATTENTION, Attention


class GradientCheckpointing(Enum):
    """Which activations are computed twice. Files have said `true` and `false` since there were but two."""

    OFF = False
    EVERY_2 = "every-2"
    SELECTIVE = "selective"
    ON = True
    OFFLOAD = "offload"

    @property
    def recomputes(self) -> bool:
        """Whether any layer is run again in the backward pass."""
        return self is not GradientCheckpointing.OFF

    @property
    def every_n_layers(self) -> int:
        """Of so many layers one is checkpointed, the first; ValueError where none is."""
        if not self.recomputes:
            raise ValueError("no layer is checkpointed")
        return 2 if self is GradientCheckpointing.EVERY_2 else 1

    @property
    def share(self) -> float:
        """The share of the layers that are checkpointed."""
        return 1 / self.every_n_layers if self.recomputes else 0.0

    @property
    def is_between(self) -> bool:
        """Whether it is none of the two ends, every layer and none."""
        return self not in (GradientCheckpointing.ON, GradientCheckpointing.OFF)

    def __bool__(self) -> bool:
        raise TypeError("one of several values: ask what it does")

    def __lt__(self, other: GradientCheckpointing) -> bool:
        order = list(GradientCheckpointing)
        return order.index(self) < order.index(other)


_OFF, _ON = GradientCheckpointing.OFF, GradientCheckpointing.ON
_EVERY_2, _SELECTIVE = GradientCheckpointing.EVERY_2, GradientCheckpointing.SELECTIVE
_OFFLOAD = GradientCheckpointing.OFFLOAD
_FUSED = (Attention.FLASH_2, Attention.SDPA)


def _why_unusable(checkpointing: GradientCheckpointing, settled: Values, conditions: Conditions) -> str | None:
    """Why a value does not work there. trl 1.16 knows attention by the operators of fused kernels alone
    (models/selective_activation_checkpointing.py)."""
    if checkpointing.is_between and (why := _why_none(conditions)) is not None:
        return why
    if checkpointing is _OFFLOAD and conditions.hardware.is_cpu:
        return "without a GPU activations lie in host memory already"
    attention = settled.get(ATTENTION.name, Attention.SDPA)
    if checkpointing is _SELECTIVE and attention not in _FUSED:
        return f"the attention kernel {ATTENTION.of(attention).word} is no single operation whose output could be kept"
    return None


def _why_none(conditions: Conditions) -> str | None:
    """Why the model has no checkpointing at all, which is told of every layer's."""
    mine = (one for one in conditions.lacking if one.knob == GRADIENT_CHECKPOINTING.name)
    return next((one.why for one in mine if one.word == GRADIENT_CHECKPOINTING.of(_ON).word), None)


GRADIENT_CHECKPOINTING: Knob[GradientCheckpointing] = Knob(
    "gradient_checkpointing",
    (
        Value(_OFF, "off", "no gradient checkpointing"),
        Value(_EVERY_2, "every-2", "gradient checkpointing of every second layer", "gc-every-2"),
        # torch 2.13 wants each operator as often in what is computed again as before, and ZeRO-3 gathers among them.
        Value(
            _SELECTIVE, "selective", "gradient checkpointing of all but attention", "gc-selective",
            needs=(Need("zero_stage", (0, 1, 2), "ZeRO-3 gathers weights in between, not in each pass alike"),),
        ),
        Value(_ON, "on", "gradient checkpointing", "gc"),
        Value(_OFFLOAD, "offload", "gradient checkpointing with activations on the host", "gc-offload"),
    ),
    PinFlag(
        ("--gradient-checkpointing",),
        "auto|VALUE",
        "off, every-2, selective, on or offload: what is computed twice instead of being kept.",
    ),
    from_least_memory=(_OFFLOAD, _ON, _SELECTIVE, _EVERY_2, _OFF),
    adds_work=True,
    beside_others=(_SELECTIVE,),
    why_unusable=_why_unusable,
)  # fmt: skip
