"""A training script that somebody else wrote: how it is started, what it shows of itself, what is turned in it."""

from __future__ import annotations

from dataclasses import dataclass

from .strategy import Attention, Dtype, Offload
from .trace import ParameterGroup


@dataclass(frozen=True)
class Script:
    """As DeepSpeed's launcher would start it on every rank."""

    name: str  # a path, or a module's name
    arguments: tuple[str, ...]
    directory: str  # the working directory
    is_module: bool = False
    has_local_rank: bool = True  # whether `--local_rank=N` stands before the arguments


@dataclass(frozen=True)
class Turns:
    """What is changed within the script's process, at `deepspeed.initialize`; None leaves it as the script has it."""

    gradient_checkpointing: bool | None = None
    attention: Attention | None = None

    @property
    def is_nothing(self) -> bool:
        return self == Turns()


@dataclass(frozen=True)
class ScriptFacts:
    """What the script showed on rank 0: the model at `deepspeed.initialize`, the batch at the first forward pass.

    Sizes of batches are rows of one rank's micro-batch; `rows` and `tokens` are None before the first forward pass.
    """

    model_class: str
    model_config: str | None  # a Hugging Face model's config as JSON
    parameters: tuple[ParameterGroup, ...]
    buffers_bytes: int
    optimizer: str | None  # the class, or the type that the config names
    dtype: Dtype
    zero_stage: int
    offload: Offload
    micro_batch: int  # the engine's
    gradient_accumulation: int
    rank_count: int
    gradient_checkpointing: bool | None  # None where it cannot be turned: no Hugging Face model
    attention: Attention | None  # None where it cannot be told
    rows: int | None = None
    tokens: int | None = None  # width of a row, padding included; None where a batch has no tokens

    @property
    def global_batch(self) -> int:
        return self.micro_batch * self.gradient_accumulation * self.rank_count
