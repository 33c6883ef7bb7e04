"""The words of a script's command line that name its DeepSpeed configuration and its batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_TRAINER_CONFIG_FLAGS = ("--deepspeed",)  # Hugging Face's; in a plain script it is a switch
_CONFIG_KEYS = frozenset(
    {"train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "zero_optimization"}
)
CONFIG_KEYS_OF_RECIPES = ("deepspeed", "deepspeed_config", "ds_config")
"""What a recipe calls the file of a DeepSpeed config: Hugging Face's name, DeepSpeed's own, and what people say."""

MICRO_BATCH_FLAGS = ("--per_device_train_batch_size", "--per-device-train-batch-size")
ACCUMULATION_FLAGS = ("--gradient_accumulation_steps", "--gradient-accumulation-steps")


def _spelled(*names: str) -> tuple[str, ...]:
    """The flags of these names, with underscores and with dashes."""
    return tuple(f"--{spelling}" for name in names for spelling in dict.fromkeys((name, name.replace("_", "-"))))


_CONFIG_FLAGS = _spelled("deepspeed_config", "ds_config", "deepspeed_config_file", "ds_config_file", "ds_config_path")

STEP_FLAGS = _spelled(
    "max_steps", "max_train_steps", "num_train_steps", "num_training_steps", "train_steps", "train_iters",
    "total_steps", "max_iters", "steps",
)  # fmt: skip
"""Flags of a training's optimizer steps: transformers', those of accelerate's examples, Megatron's, and plain ones."""

EPOCH_FLAGS = _spelled("num_train_epochs", "num_epochs", "max_epochs", "epochs")

RECIPE_FLAGS = _spelled("config", "config_file")
"""Flags that name a file of further arguments: TrlParser's, and what people call it with HfArgumentParser."""

INDIFFERENT_FLAGS = _spelled(
    "output_dir", "save_dir", "logging_dir", "checkpoint_dir", "run_name", "resume_from_checkpoint", "resume",
    "load_checkpoint", "seed", "learning_rate", "lr", "weight_decay", "warmup_steps", "warmup_ratio",
    "logging_steps", "save_steps", "report_to",
) + STEP_FLAGS + EPOCH_FLAGS  # fmt: skip
"""Flags that decide nothing of memory or speed: where it goes to, how long it trains, how fast it learns."""


@dataclass(frozen=True)
class FlagValue:
    """A value on a command line: `text` stands in the word at `index`, which `prefix` begins (`--flag=`, or
    nothing)."""

    index: int
    prefix: str
    text: str


def config_flags(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The flags that name the DeepSpeed config: `--deepspeed` only where `--deepspeed_config` has no value."""
    return _TRAINER_CONFIG_FLAGS if find(arguments, _CONFIG_FLAGS) is None else _CONFIG_FLAGS


def is_config(content: object) -> bool:
    """Whether a file's content is a DeepSpeed config: each one says something of the batch or of ZeRO."""
    return isinstance(content, dict) and not _CONFIG_KEYS.isdisjoint(content)


def find(arguments: tuple[str, ...], flags: tuple[str, ...]) -> FlagValue | None:
    """The last value that one of `flags` has, as argparse takes it: `--flag value` or `--flag=value`."""
    return max(_values(arguments, flags), key=lambda value: value.index, default=None)


def put(arguments: tuple[str, ...], flags: tuple[str, ...], text: str) -> tuple[str, ...]:
    """The arguments with the last value that one of `flags` has replaced; unchanged where none has one."""
    value = find(arguments, flags)
    if value is None:
        return arguments
    return (*arguments[: value.index], value.prefix + text, *arguments[value.index + 1 :])


def without(arguments: tuple[str, ...], flags: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments without `flags` and their values."""
    dropped = {value.index for value in _values(arguments, flags)}
    dropped |= {index for index, word in enumerate(arguments) if word in flags}
    return tuple(word for index, word in enumerate(arguments) if index not in dropped)


def _values(arguments: tuple[str, ...], flags: tuple[str, ...]) -> Iterator[FlagValue]:
    for index, word in enumerate(arguments):
        name, equals, text = word.partition("=")
        if name not in flags:
            continue
        if equals:
            yield FlagValue(index, f"{name}=", text)
        elif index + 1 < len(arguments) and not arguments[index + 1].startswith("-"):
            yield FlagValue(index + 1, "", arguments[index + 1])
