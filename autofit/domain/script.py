"""A training script that somebody else wrote: how it is started, what it shows of itself, what is turned in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from .knobs.attention import Attention
from .knobs.dtype import Dtype
from .knobs.offload import Offload
from .model import ParameterGroup
from .training_length import SeenLength


@dataclass(frozen=True)
class Script:
    """A script as DeepSpeed's launcher would start it on every rank."""

    name: str  # a path, or a module's name
    arguments: tuple[str, ...]
    directory: str  # the working directory
    is_module: bool = False
    has_local_rank: bool = True  # whether `--local_rank=N` stands before the arguments


@dataclass(frozen=True)
class RuntimePatches:
    """The changes within the script's process, at `deepspeed.initialize`; None leaves it as the script has it."""

    gradient_checkpointing: bool | None = None
    attention: Attention | None = None

    @property
    def is_nothing(self) -> bool:
        return self == RuntimePatches()


class Ask(str, Enum):
    """What a script is seen to ask, by which it knows how its micro-batches become optimizer steps."""

    STEPS = "global_steps"  # compared with something: where the loop ends
    BOUNDARY = "is_gradient_accumulation_boundary"
    ACCUMULATION = "gradient_accumulation_steps"
    TRAINER = "Trainer"  # transformers' own loop, with as many steps in an epoch whatever the micro-batch is


class Tie(str, Enum):
    """What ties what a trainer of trl learns to the size of its micro-batches."""

    LOSS = "loss"  # of which a part is made of the rows of a micro-batch together
    STEPS_PER_GENERATION = "steps_per_generation"  # a number of micro-batches
    GENERATION_BATCH = "generation_batch_size"  # a number of rows that is no whole number of global batches


@dataclass(frozen=True)
class Counting:
    """What a script showed of how it counts: `epoch_rows` are those of one rank in an epoch of its loader, None where
    that does not tell; `learning_rates` those of its first optimizer steps."""

    asks: tuple[Ask, ...] = ()
    epoch_rows: int | None = None
    learning_rates: tuple[float, ...] = ()
    has_rate_of_batches: bool = False  # the learning rate moved where no optimizer step was


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint of DeepSpeed's that a script loads, by the names of its files. Only `zero_stages` can load it."""

    path: str
    zero_stages: tuple[int, ...]
    rank_count: int | None  # None where the names do not tell
    is_universal: bool = False  # or will be when the training starts: its ranks do not matter
    offload: Offload | None = None  # of the configuration that wrote it, where that can be read


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
    counting: Counting = Counting()
    loads_from: str | None = None  # the folder that it loads a checkpoint from, whatever is there
    checkpoint: LoadedCheckpoint | None = None  # what is there
    optimizer_options: tuple[str, ...] = ()  # what it was given that makes it keep more, such as momentum
    escaped: tuple[str, ...] = ()  # paths that a probe could not but change for real
    length: SeenLength = field(default_factory=SeenLength)
    tie: Tie | None = None  # None: a micro-batch of any size teaches the same
    accumulation_flag: str | None = None  # by which its own parser takes gradient accumulation; None: none was seen
    generates: bool = False  # its rows are answers that the model gives to many prompts at once

    @property
    def global_batch(self) -> int:
        return self.micro_batch * self.gradient_accumulation * self.rank_count

    @property
    def rank_rows(self) -> int:
        """The rows of one rank in an optimizer step."""
        return self.micro_batch * self.gradient_accumulation
