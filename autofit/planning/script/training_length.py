"""How many optimizer steps a script takes, by the surest of what says so, and for how long a kept choice holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import ceil, isfinite
from pathlib import PurePath
from typing import Any

from autofit.domain.line_decision import Settled
from autofit.domain.outcome import Measured
from autofit.domain.script import ScriptFacts
from autofit.domain.training_length import Said, SaidLength, TrainingLength
from autofit.domain.units import brief_seconds
from autofit.planning.probe_steps import MEASURE_S, MEMORY_STEPS, MIN_MEASURED_STEPS
from autofit.planning.search.payoff import UNKNOWN_LENGTH_S

from .script_arguments import EPOCH_FLAGS, STEP_FLAGS, find
from .tunable_knobs import Config

_DECAYING = {"WarmupDecayLR", "WarmupCosineLR"}  # DeepSpeed's schedules that end at a step
_STEPS_OF_A_SEARCH = 2 * (MEMORY_STEPS + MIN_MEASURED_STEPS)  # of a look and one probe, at the least
_SAVED_STEP = re.compile(r"(?:checkpoint-|global_step)(\d+)")  # as transformers and DeepSpeed name their checkpoints


def said_length(arguments: tuple[str, ...], recipe: Mapping[str, Any], recipe_name: str) -> SaidLength:
    """What the words say; the command line goes before the recipe, as HfArgumentParser and TrlParser have it."""
    return SaidLength(
        _said(arguments, STEP_FLAGS, recipe, recipe_name), _said(arguments, EPOCH_FLAGS, recipe, recipe_name)
    )


def _said(
    arguments: tuple[str, ...], flags: tuple[str, ...], recipe: Mapping[str, Any], recipe_name: str
) -> Said | None:
    for flag in flags:  # one after the other: the first name is the one that decides where a script has several
        value = find(arguments, (flag,))
        if value is not None and (number := _positive(value.text)) is not None:
            return Said(number, flag)
    for name in dict.fromkeys(flag[2:].replace("-", "_") for flag in flags):
        if (number := _positive(recipe.get(name))) is not None:
            return Said(number, f"{name} in {recipe_name}")
    return None


def _positive(value: object) -> float | None:
    """The number, None for what is none, and for -1, which says that something else decides."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number > 0 and isfinite(number) else None


def training_length(said: SaidLength, config: Config, facts: ScriptFacts | None = None) -> TrainingLength:
    """The length by the surest of what says it; without `facts`, before the script is looked at.

    transformers' Trainer counts for itself, whatever stands on the line. A schedule says least: it may be longer than
    the training.
    """
    seen = None if facts is None else facts.length
    if seen is not None and seen.trainer_steps is not None:
        return TrainingLength(seen.trainer_steps, _by_trainer(seen.trainer_steps, said))
    if said.steps is not None:
        return TrainingLength(ceil(said.steps.value), said.steps.by)
    if facts is not None and (length := _by_epochs(said, epoch_steps(facts))) is not None:
        return length
    if (steps := _scheduled(config)) is not None:
        return TrainingLength(steps, "scheduler.params.total_num_steps in its DeepSpeed config")
    if seen is not None and seen.scheduler_steps is not None:
        return TrainingLength(seen.scheduler_steps, "its learning-rate schedule")
    return TrainingLength()


def epoch_steps(facts: ScriptFacts) -> float | None:
    """The optimizer steps of an epoch, None where they cannot be counted."""
    rows = facts.length.epoch_rows
    return None if rows is None else rows / facts.rank_rows


CLAIMED_STEPS = 3
"""The measured steps that a claim of how much faster a choice is rests on, at least."""

_CHEAP = 0.01  # of a training


def rest_of(length: TrainingLength, facts: ScriptFacts) -> TrainingLength:
    """What is left of a training that goes on from a checkpoint; a loop of the script's own may begin to count anew."""
    if length.step_count is None or facts.checkpoint is None or facts.length.trainer_steps is None:
        return length
    done = _SAVED_STEP.fullmatch(PurePath(facts.checkpoint.path).name)
    return length if done is None else replace(length, step_count=max(1, length.step_count - int(done[1])))


def length_text(length: TrainingLength) -> str:
    """As people read it."""
    if length.step_count is None:
        return "an hour is assumed: nothing says how long the script trains"
    return f"the training takes {length.step_count:,} step{'' if length.step_count == 1 else 's'}, by {length.by}"


def why_too_short_to_look(length: TrainingLength) -> str | None:
    """Says why a script is not even looked at; None where it is.

    A look and one probe take six steps of it, beside two starts: they could win back their time only in a script that
    something makes more than three times as fast, and whose steps take longer than its starts.
    """
    if length.step_count is None or length.step_count > _STEPS_OF_A_SEARCH:
        return None
    return f"{length_text(length)}, and a search would take as many: it runs as it is, unsearched."


def why_nothing_pays(length: TrainingLength, own: Measured) -> str | None:
    """Says why the script is not started for a probe once more, after it was measured as it is; None where it may pay.

    Whatever a probe finds, it takes a start of the script.
    """
    if length.step_count is None or length.step_count * own.step_s > start_s(own):
        return None
    training, start = brief_seconds(length.step_count * own.step_s), brief_seconds(start_s(own))
    return f"stopped: another start of the script would cost {start}, and the training takes {training}"


def may_measure_again(length: TrainingLength, own: Measured, choice: Measured) -> bool:
    """Whether the user's own configuration may be measured once more, for what is said of the choice beside it: where
    that takes a hundredth of the training at most."""
    training_s = UNKNOWN_LENGTH_S if length.step_count is None else length.step_count * choice.step_s
    return own.total_s + CLAIMED_STEPS * own.step_s <= _CHEAP * training_s


def start_s(own: Measured) -> float:
    """What a probe took beside its steps: the script's start, and the engine's."""
    steps_s = MEMORY_STEPS * own.step_s + max(MEASURE_S, MIN_MEASURED_STEPS * own.step_s)
    return max(0.0, own.total_s - steps_s)


def holds_for(settled: Settled | None, asked: Settled, step_s: float) -> bool:
    """Whether a kept choice, one step of which takes `step_s`, serves what is `asked` now; None for one that was kept
    before lengths were: it was made for an hour."""
    if asked.tolerance is not None and (settled is None or (settled.tolerance or 1.0) > asked.tolerance):
        return False
    if settled is not None and (settled.said == asked.said or settled.reach_s is None):
        return True
    reach_s = UNKNOWN_LENGTH_S if settled is None else settled.reach_s
    length = asked.length
    if length.step_count is None and settled is not None:
        length = _by_epochs(asked.said, settled.epoch_steps) or length
    needed_s = UNKNOWN_LENGTH_S if length.step_count is None else length.step_count * step_s
    return reach_s is None or needed_s <= reach_s


def _by_trainer(steps: int, said: SaidLength) -> str:
    if said.steps is not None and ceil(said.steps.value) == steps:
        return said.steps.by
    return "its trainer" if said.epochs is None else f"{said.epochs.by} and its data"


def _by_epochs(said: SaidLength, steps: float | None) -> TrainingLength | None:
    if said.epochs is None or steps is None:
        return None
    return TrainingLength(ceil(said.epochs.value * steps), f"{said.epochs.by} and its data")


def _scheduled(config: Config) -> int | None:
    scheduler = config.get("scheduler")
    kind, parameters = (scheduler.get("type"), scheduler.get("params")) if isinstance(scheduler, dict) else (None, None)
    if not isinstance(kind, str) or kind not in _DECAYING or not isinstance(parameters, dict):
        return None
    steps = _positive(parameters.get("total_num_steps"))
    return None if steps is None else ceil(steps)
