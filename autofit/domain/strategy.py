"""One point of the search: what is turned, and how it is written on one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import cached_property
from typing import Any

from .knobs.attention import ATTENTION, Attention
from .knobs.dtype import DTYPE, Dtype
from .knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from .knobs.knob import Knob, Value
from .knobs.method import METHOD, Method
from .knobs.offload import OFFLOAD, Offload
from .knobs.optimizer import OPTIMIZER, Optimizer
from .knobs.quantization import QUANTIZATION, Quantization
from .knobs.zero_stage import ZERO_STAGE


class Change(IntEnum):
    """What a rung changes of the plain training of all parameters, from the least."""

    NOTHING = 0
    ADAPTERS = 1  # LoRA, as it is
    NUMERICS = 2  # something is given up: another optimizer, other numbers


LESS: Mapping[Change, tuple[Change, ...]] = {one: tuple(less for less in Change if less < one) for one in Change}
"""What changes less than each, from the least: what stands beside it."""


@dataclass(frozen=True, order=True, kw_only=True)
class Rung:
    """A Strategy but for its micro-batch: a value for every knob, in the order in which its name tells them."""

    zero_stage: int = field(metadata={"knob": ZERO_STAGE})
    method: Method = field(metadata={"knob": METHOD})
    quantization: Quantization = field(default=Quantization.NONE, metadata={"knob": QUANTIZATION})
    gradient_checkpointing: GradientCheckpointing = field(metadata={"knob": GRADIENT_CHECKPOINTING})
    offload: Offload = field(metadata={"knob": OFFLOAD})
    dtype: Dtype = field(metadata={"knob": DTYPE})
    optimizer: Optimizer = field(default=Optimizer.ADAMW, metadata={"knob": OPTIMIZER})
    attention: Attention = field(metadata={"knob": ATTENTION})

    def __str__(self) -> str:
        return self._name

    @cached_property
    def _name(self) -> str:
        return "+".join(value.syllable for _, value in self.values() if value.syllable)

    def values(self) -> Iterator[tuple[Knob[Any], Value[Any]]]:
        """Each knob with what is declared of its value here."""
        return ((knob, knob.of(getattr(self, knob.name))) for knob in KNOBS)

    @property
    def settled_name(self) -> str:
        """The end of its name, which its settled knobs add: the same for all rungs of a ladder that are tried."""
        return "".join(f"+{value.syllable}" for knob, value in self.values() if knob.is_settled and value.syllable)

    @property
    def changed(self) -> tuple[tuple[Knob[Any], Value[Any]], ...]:
        """The knobs with which it is not the plain training of all parameters, each with its value."""
        turned = ((knob, value) for knob, value in self.values() if value is not knob.values[0])
        return tuple((knob, value) for knob, value in turned if knob.changes_training and not knob.is_settled)

    @property
    def change(self) -> Change:
        values = [value for _, value in self.changed]
        if any(value.gives_up for value in values):
            return Change.NUMERICS
        return Change.ADAPTERS if values else Change.NOTHING

    @property
    def by_name(self) -> Mapping[str, Any]:
        """The rung's values by the names of their knobs."""
        return {knob.name: value.value for knob, value in self.values()}


KNOBS: tuple[Knob[Any], ...] = tuple(one.metadata["knob"] for one in fields(Rung))


@dataclass(frozen=True, order=True)
class Strategy:
    """A Rung with its micro-batch; micro_batch * gradient_accumulation * ranks is the request's global batch."""

    rung: Rung
    micro_batch: int
    gradient_accumulation: int

    def __str__(self) -> str:
        return f"{self.rung} mb{self.micro_batch}"
