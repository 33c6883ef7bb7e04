"""The flags in which two requests differ: a run folder goes on only with the request that began it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import is_dataclass
from enum import Enum

from autofit.domain.codec import fields_of
from autofit.domain.knobs.pins import PINNABLE
from autofit.domain.request import Request

FLAGS = {
    "model": "--model",
    "task": "--task",
    "objective": "--optimize",
    "sequence_length": "--seq",
    "generation.count": "--num-generations",
    "generation.completion_tokens": "--completion-tokens",
    "generation.rewards": "--reward",
    "global_batch": "--batch-size",
    "data": "--data",
    "eval_data": "--eval-data",
    "eval_fraction": "--eval-fraction",
    "learn": "--learn",
    "lora.r": "--lora-r",
    "lora.alpha": "--lora-alpha",
    "lora.target_modules": "--lora-target-modules",
    "lora.exclude_modules": "--lora-exclude-modules",
    **{f"pins.{knob.name}": knob.flag.name for knob in PINNABLE if knob.flag is not None},
    "pins.micro_batch": "--micro-batch",
    "training.epochs": "--epochs",
    "training.max_steps": "--max-steps",
    "training.learning_rate": "--learning-rate",
    "training.save_steps": "--save-steps",
    "training.seed": "--seed",
    "training.report_to": "--report-to",
    "training.merge": "--merge",
    "training.extra_arguments": "the arguments after --",
    "allow": "--allow",
    "memory_limit_bytes": "--memory-limit",
    "ranks": "--ranks",
}
# "baseline", "training.resume", "training.on_divergence", "training.max_lost_minutes", "training.grace_s",
# "allowed_drop" and "trust_remote_code" say what to compare with, where to go on, whether to, and what to put up with:
# not what to train.


def differences(old: Request, new: Request, among: Collection[str] = FLAGS) -> tuple[str, ...]:
    """What differs: one `--seq (2048, now 4096)` for each field of `among` that differs, in the order of Request."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return tuple(
        f"{FLAGS[name]} ({_spelt(before.get(name))}, now {_spelt(after.get(name))})"
        for name in {**before, **after}
        if name in among and before.get(name) != after.get(name)
    )


def _leaves(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, item in fields_of(value).items():
        if is_dataclass(item):
            yield from _leaves(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def _spelt(value: object) -> str:
    if value is None or value == ():
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Enum):
        return str(value.value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
