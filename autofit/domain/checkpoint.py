"""A checkpoint of a training, as its own files tell of it."""

from __future__ import annotations

from dataclasses import dataclass

from .knobs.dtype import Dtype
from .knobs.method import Method
from .request import Lora


@dataclass(frozen=True)
class Checkpoint:
    """None for what its files do not tell."""

    path: str
    step: int
    rank_count: int
    zero_stage: int | None
    dtype: Dtype | None
    lora: Lora | None  # None: all parameters were trained
    sequence_length: int | None = None  # tokens
    global_batch: int | None = None
    seed: int | None = None
    learning_rate: float | None = None

    @property
    def method(self) -> Method:
        return Method.FULL if self.lora is None else Method.LORA
