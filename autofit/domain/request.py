"""What the user asked for. Never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, get_type_hints

from .knobs.pins import Pins
from .objective import Objective
from .task import Task


class Learn(str, Enum):
    """The ones whose words the loss counts, in chats and in pairs of a prompt and its answer."""

    ASSISTANT = "assistant"
    ALL = "all"


COMPLETION_TOKENS = 512
"""The most tokens of a generated answer where nobody says one."""

AUTO_TARGETS = "auto"
ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class Lora:
    """Adapters by their rank, their scale and the modules that get one.

    A target is the end of a module's name, a glob of it, `all-linear` (all linear layers but the head) or `auto` (what
    PEFT's table names for the family, else all-linear but for lists of experts).
    """

    r: int = 64
    alpha: int = 32
    target_modules: tuple[str, ...] = (AUTO_TARGETS,)
    exclude_modules: tuple[str, ...] = ()  # ends or globs of names, taken out of the targets

    @property
    def names_modules(self) -> bool:
        """Whether the targets are names alone, so that they are the same for every model."""
        words = self.target_modules
        is_pattern = any(word in (AUTO_TARGETS, ALL_LINEAR) or set("*?[") & set(word) for word in words)
        return not is_pattern and not self.exclude_modules

    def as_fields(self) -> Mapping[str, Any]:
        """The adapters as files have them: without exclusions where there are none, as before there could be any."""
        written = {"r": self.r, "alpha": self.alpha, "target_modules": self.target_modules}
        return {**written, "exclude_modules": self.exclude_modules} if self.exclude_modules else written

    @classmethod
    def field_kinds(cls) -> Mapping[str, Any]:
        """The types of what `as_fields` writes."""
        return get_type_hints(cls)


@dataclass(frozen=True)
class Reward:
    """What rewards an answer, and how much it weighs: a function, `module:function` or `file.py:function`, or a reward
    model, a folder or a hub id."""

    source: str
    weight: float = 1.0

    @property
    def is_function(self) -> bool:
        """Whether a function rewards: a folder or a hub id has no colon."""
        return ":" in self.source

    def __str__(self) -> str:
        return self.source if self.weight == 1 else f"{self.source}={self.weight:g}"


@dataclass(frozen=True)
class Generation:
    """How answers are generated that are rewarded: `count` of each prompt, each of at most `completion_tokens`, which
    are a part of the sequence length."""

    count: int = 8
    completion_tokens: int | None = None  # None: 512, and half of the sequence length where that is less
    rewards: tuple[Reward, ...] = ()


class OnDivergence(str, Enum):
    """What is done when loss or gradients are no longer finite, or explode."""

    STOP = "stop"
    WARN = "warn"


@dataclass(frozen=True)
class Training:
    """The part of the request that says how long and how: it does not decide what fits."""

    epochs: float = 3.0  # 0 where a script decides by itself
    max_steps: int | None = None
    learning_rate: float | None = None  # None: the optimizer's own (knobs/optimizer.py)
    save_steps: int = 500
    seed: int = 42
    report_to: tuple[str, ...] = ()
    merge: bool = False
    resume: str | None = None  # a checkpoint folder to start from; None: the last one in the run folder
    extra_arguments: tuple[str, ...] = ()  # Hugging Face training arguments after `--`
    on_divergence: OnDivergence = OnDivergence.STOP
    max_lost_minutes: float = 15.0  # of training that an end at any moment may cost
    grace_s: float = 90.0  # from the signal that ends a run to the kill


@dataclass(frozen=True)
class Request:
    model: str  # a local folder or a hub id
    sequence_length: int  # tokens
    task: Task = Task.SFT
    objective: Objective = Objective.SPEED
    baseline: str | None = None  # a strategy's name, what ratios are of; None: the plainest one
    generation: Generation = Generation()
    global_batch: int = 32  # rows of one optimizer step; of a task that generates: answers
    data: str | None = None  # a local file or folder or a hub id; None: the sample that ships
    eval_data: str | None = None
    eval_fraction: float = 0.0
    learn: Learn = Learn.ASSISTANT
    allowed_drop: float = 0.05  # the share of a source's rows that may be lost without asking
    lora: Lora = Lora()
    pins: Pins = field(default_factory=Pins)
    training: Training = Training()
    allow: tuple[str, ...] = ()  # words of values that change the training and may be tried (knobs/allowance.py)
    memory_limit_bytes: int | None = None  # per device
    ranks: int | None = None  # None: one per device
    trust_remote_code: bool = False  # whether code that lies beside the model's weights may run

    @property
    def completion_tokens(self) -> int:
        """The most tokens of an answer that is generated; 0 where none is."""
        if not self.task.traits.generates:
            return 0
        return self.generation.completion_tokens or min(COMPLETION_TOKENS, self.sequence_length // 2)

    @property
    def has_evaluation(self) -> bool:
        """Whether there is data to evaluate on."""
        return self.eval_data is not None or self.eval_fraction > 0

    def sequences(self, rows: int) -> int:
        """The sequences that so many rows of the task's data are, such as two for a pair of answers."""
        return rows * self.task.traits.sequences_per_row


@dataclass(frozen=True)
class SearchOptions:
    """How one command searches: no part of the request, and the next one may search otherwise."""

    is_dry_run: bool = False  # the ladder is shown, and nothing is started
    is_exhaustive: bool = False  # everything that may fit is probed
    tolerance: float | None = None  # 0.01: until nothing left can be faster by 1 %; None: as long as it pays
    probe_timeout_s: float = 600.0  # the silence that ends a probe
    may_step_down: bool = True  # a run that lacks memory goes on by a rung that needs less
