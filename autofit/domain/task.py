"""What a model is trained for: each task declared once, with what all others need to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .metric import MetricName
from .workload import Learned


class Task(str, Enum):
    SFT = "sft"
    REWARD = "reward"
    DPO = "dpo"
    KTO = "kto"
    GRPO = "grpo"

    @property
    def traits(self) -> Traits:
        return _TRAITS[self]


@dataclass(frozen=True)
class Traits:
    """What tells a task from the others. A row of the global batch is what the trainer of trl calls an example."""

    text: str  # as people read it
    config: str  # trl's class of training arguments
    page: str  # of trl's documentation
    sample: str  # the file that ships, written by examples/make_dialogues.py or make_preferences.py
    sample_text: str  # what it is a sample of
    learned: Learned | None = None  # None: the rows themselves tell
    cuts_rows: bool = True  # those that are too long; else they are left out
    sequences_per_row: int = 1  # that go through the model together: 2 for a chosen and a rejected answer
    scores: bool = False  # the model has a head of one number in place of the one of the vocabulary
    has_reference: bool = False  # beside a model of which all parameters train stands a frozen copy
    compares_rows: bool = False  # rows of a micro-batch are held against each other
    disables_dropout: bool = False  # trl's trainer turns the model's dropout off unless it is told not to
    generates: bool = False  # answers are the model's own, and rewarded
    learning_rate_factor: float = 1.0  # the default learning rate, by that of supervised fine-tuning
    told: tuple[MetricName, ...] = ()  # beside the loss

    @property
    def arguments_url(self) -> str:
        """Where people read of the training arguments that follow after `--`."""
        return f"https://huggingface.co/docs/trl/{self.page}#trl.{self.config}"


_TRAITS = {
    Task.SFT: Traits("supervised fine-tuning", "SFTConfig", "sft_trainer", "sample.jsonl", "dialogues"),
    Task.REWARD: Traits(
        "a reward model", "RewardConfig", "reward_trainer", "sample-preferences.jsonl", "preferences",
        Learned.PREFERENCES, cuts_rows=False,
        sequences_per_row=2, scores=True, disables_dropout=True,
        told=(MetricName("accuracy", "accuracy"), MetricName("margin", "margin")),
    ),
    Task.DPO: Traits(
        "direct preference optimization", "DPOConfig", "dpo_trainer", "sample-preferences.jsonl", "preferences",
        Learned.PREFERENCES,
        sequences_per_row=2, has_reference=True, disables_dropout=True, learning_rate_factor=0.05,
        told=(MetricName("rewards/accuracies", "accuracy"), MetricName("rewards/margins", "margin")),
    ),
    Task.KTO: Traits(
        "Kahneman-Tversky optimization", "KTOConfig", "kto_trainer", "sample-judged.jsonl", "judged answers",
        Learned.JUDGEMENTS,
        has_reference=True, compares_rows=True, disables_dropout=True, learning_rate_factor=0.05,
        told=(MetricName("rewards/margins", "margin"),),
    ),
    Task.GRPO: Traits(
        "group relative policy optimization", "GRPOConfig", "grpo_trainer", "sample-prompts.jsonl", "questions",
        Learned.REWARDS, cuts_rows=False,
        generates=True, learning_rate_factor=0.05, told=(MetricName("reward", "reward"),),
    ),
}  # fmt: skip
"""The factors give trl 1.16's own 1e-6 for all parameters; a reward model keeps supervised fine-tuning's rate, for
trl's 1e-4 is one for adapters."""
