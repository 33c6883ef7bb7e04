"""The trainings that a recipe with `tasks:` asks for, and which of them needs the model of which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.request import Learn, Request
from autofit.domain.task import Task
from autofit.domain.training_phase import TrainingPhase

from .flags.phase_flags import PREVIOUS, PhaseFlags
from .generation_builder import GENERATION_FLAGS
from .request_builder import CountRanks, build_request, model_name, search_options


def build_phases(
    phases: Sequence[PhaseFlags], extra_arguments: tuple[str, ...], count_ranks: CountRanks
) -> tuple[TrainingPhase, ...]:
    """The phases in their order; UsageError, with the file, the phase and the key, for what they cannot be.

    A phase whose model a later one needs has its adapter merged, where it comes to train one.
    """
    names = [phase.name for phase in phases]
    for phase in phases:
        if names.count(phase.name) > 1:
            raise UsageError(f"{phase.where}: there are two of this name: tell them apart by `name: WORD`.")
    built: list[TrainingPhase] = []
    for phase in _spared(phases):
        earlier = _Earlier(phase.where, tuple(built), frozenset(names))
        built.append(_linked(phase, _request(phase, extra_arguments, count_ranks), earlier))
    needed = {name for one in built for name in one.uses}
    return tuple(_merging(one) if one.name in needed else one for one in built)


def default_phases_dir(phases: Sequence[PhaseFlags]) -> Path:
    """The folder of phases that name none: `autofit-runs/Llama-2-13b-hf-three-phases`, by model and recipe."""
    first = phases[0]
    return Path("autofit-runs") / f"{model_name(first.flags['model'])}-{Path(first.recipe).stem}"


def _request(phase: PhaseFlags, extra_arguments: tuple[str, ...], count_ranks: CountRanks) -> Request:
    try:
        return build_request(phase.flags, (*phase.arguments, *extra_arguments), count_ranks)
    except UsageError as error:
        raise UsageError(f"{phase.where}: {error}") from error


def _spared(phases: Sequence[PhaseFlags]) -> Sequence[PhaseFlags]:
    """The phases, each without the shared flags that are for tasks of others."""
    phases = _sparing(
        phases, frozenset(task for task in Task if task.traits.generates), dict.fromkeys(GENERATION_FLAGS)
    )
    return _sparing(phases, frozenset((Task.SFT,)), {"learn": Learn.ASSISTANT.value})


def _sparing(phases: Sequence[PhaseFlags], tasks: frozenset[Task], unset: Mapping[str, Any]) -> Sequence[PhaseFlags]:
    """The phases, of which those of other tasks go without the shared flags that `unset` has the values of when nobody
    gives them; all as they are where none is of `tasks`, for then nobody could have meant another."""
    theirs = [Task(phase.flags["task"]) in tasks for phase in phases]
    if not any(theirs):
        return phases
    return [phase if is_theirs else _without(phase, unset) for phase, is_theirs in zip(phases, theirs, strict=True)]


def _without(phase: PhaseFlags, unset: Mapping[str, Any]) -> PhaseFlags:
    shared = {name: value for name, value in unset.items() if name not in phase.own}
    return replace(phase, flags={**phase.flags, **shared})


@dataclass(frozen=True)
class _Earlier:
    """The phases before the one that is written at `where`; `names` are those of all."""

    where: str
    phases: tuple[TrainingPhase, ...]
    names: frozenset[str]

    def model(self, word: str, *, scores: bool) -> str | None:
        """The phase whose model is to be trained on, by a task that `scores` or one that writes text; None for a folder
        or a hub id."""
        text = [phase for phase in self.phases if scores or not phase.request.task.traits.scores]
        return self._phase("model", word, text, "trains a model that writes text")

    def reward(self, word: str) -> str | None:
        """The phase whose model is a reward; None for anything else."""
        scoring = [phase for phase in self.phases if phase.request.task.traits.scores]
        return self._phase("reward", word, scoring, "trains a reward model")

    def _phase(self, key: str, word: str, fit: Sequence[TrainingPhase], what: str) -> str | None:
        names = [phase.name for phase in fit]
        if word == PREVIOUS and names:
            return names[-1]
        if word not in (PREVIOUS, *self.names):
            return None
        if word not in names:
            raise UsageError(
                f"{self.where}: {key} {word} needs a phase before this one that {what}, and "
                f"{'there is none' if word == PREVIOUS else f'phase {word} is none'}: name another, or what is "
                "trained already."
            )
        return word


def _linked(phase: PhaseFlags, request: Request, earlier: _Earlier) -> TrainingPhase:
    """The phase, with the names of phases where its flags said `previous`."""
    model = earlier.model(request.model, scores=request.task.traits.scores)
    sources = {reward.source: earlier.reward(reward.source) for reward in request.generation.rewards}
    rewards = tuple(replace(one, source=sources[one.source] or one.source) for one in request.generation.rewards)
    request = replace(request, model=model or request.model, generation=replace(request.generation, rewards=rewards))
    rewarded_by = tuple(name for name in sources.values() if name)
    return TrainingPhase(phase.name, request, search_options(phase.flags), model, rewarded_by)


def _merging(phase: TrainingPhase) -> TrainingPhase:
    request = phase.request
    return replace(phase, request=replace(request, training=replace(request.training, merge=True)))
