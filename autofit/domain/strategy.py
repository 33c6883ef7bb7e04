"""One point of the search: what is turned, and how it is written on one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
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
        return "+".join(value.syllable for _, value in self.values() if value.syllable)

    def values(self) -> Iterator[tuple[Knob[Any], Value[Any]]]:
        """Each knob with what is declared of its value here."""
        return ((knob, knob.of(getattr(self, knob.name))) for knob in KNOBS)

    @property
    def settled_name(self) -> str:
        """The end of its name, which its settled knobs add: the same for all rungs of a ladder that are tried."""
        return "".join(f"+{value.syllable}" for knob, value in self.values() if knob.is_settled and value.syllable)

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
