"""The flags of each training of a recipe with `tasks:`, a list of them that share what stands above it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from autofit.domain.errors import UsageError
from autofit.domain.task import Task

from .flag import words_of

ReadFlags = Callable[[str, Mapping[str, object]], dict[str, Any]]
"""Reads keys and values of the place that it is told into names of parameters and their defaults."""

PREVIOUS = "previous"
"""The name of the phase before, as a phase says it."""

ARGUMENTS = "arguments"
"""The key of what would stand after `--` if a phase were a training of its own: trl's configurations differ by task."""

_PHASES = "autofit.phases"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # it is a folder's, too
_OF_ONE = ("task", "resume")
_OF_ALL = ("output_dir", "dry_run", "json")


@dataclass(frozen=True)
class PhaseFlags:
    """One phase of the file `recipe`: its flags by parameter name, with those of the command line and those that it
    shares, what the recipe has for it alone, and trl's arguments of its own."""

    recipe: str
    name: str
    flags: Mapping[str, Any]
    own: Mapping[str, Any]
    arguments: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Where it is written, as a message begins."""
        return _where(self.recipe, self.name)


def phases_of(ctx: click.Context) -> tuple[PhaseFlags, ...]:
    """The phases of the recipe that the command line names; none where it has no tasks."""
    phases: tuple[PhaseFlags, ...] = ctx.meta.get(_PHASES, ())
    return phases


def read_phases(
    ctx: click.Context, recipe: str, tasks: object, shared: Mapping[str, Any], read_flags: ReadFlags
) -> dict[str, Any]:
    """Keeps the phases of a recipe for `phases_of`, and gives the defaults of the first one; UsageError, with the file
    and the phase, for what cannot be read."""
    if not isinstance(tasks, list) or not tasks:
        raise UsageError(f"{recipe}: tasks needs a list of trainings, such as `- task: sft`.")
    _refuse(_OF_ONE, shared, f"{recipe}: {{}} is of one training: write it below tasks.")
    phases: list[PhaseFlags] = []
    for name, body in [_entry(recipe, task) for task in tasks]:
        arguments = _arguments(_where(recipe, name), body.pop(ARGUMENTS, []))
        own = read_flags(_where(recipe, name), body)
        _refuse(_OF_ALL, own, f"{_where(recipe, name)}: {{}} is of all trainings: write it above tasks.")
        # What the first one starts from is the model above the list or of the command line; the others go on from it.
        model = {"model": own.get("model", PREVIOUS)} if phases else {}
        flags = _parsed(ctx, recipe, name, {**shared, **own, **model})
        phases.append(PhaseFlags(recipe, name, {**flags, **model}, own, arguments))
    ctx.meta[_PHASES] = tuple(phases)
    return {**shared, **phases[0].own}


def _where(recipe: str, name: str) -> str:
    return f"{recipe}, phase {name}"


def _refuse(names: Iterable[str], given: Mapping[str, Any], sentence: str) -> None:
    for name in names:
        if name in given:
            raise UsageError(sentence.format(name.replace("_", "-")))


def _entry(recipe: str, task: object) -> tuple[str, dict[str, object]]:
    """A phase's name, its task's unless it has one of its own, and its flags."""
    body = {"task": task} if isinstance(task, str) and task else task
    if not isinstance(body, dict) or not body:
        raise UsageError(f"{recipe}: each of tasks needs flags, such as `- task: sft`.")
    rest = {key: value for key, value in body.items() if key != "name"}
    name = body.get("name", rest.get("task", Task.SFT.value))
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == PREVIOUS:
        raise UsageError(f"{recipe}: {name!r} is no name for a phase: write a word that may be a folder's.")
    return name, rest


def _arguments(where: str, words: object) -> tuple[str, ...]:
    """The words of a phase's own arguments, which are written in a line, as after `--`, or as a list."""
    given = words if isinstance(words, list) else [words]
    lines = [line for line in given if isinstance(line, str)]
    if lines != given:
        raise UsageError(f"{where}: {ARGUMENTS} needs words as after --, such as `--weight_decay 0.1`.")
    try:
        return tuple(word for line in lines for word in shlex.split(line))
    except ValueError as error:  # a quote that is not closed
        raise UsageError(f"{where}: {ARGUMENTS} {' '.join(lines)!r}: {str(error).lower()}.") from error


def _parsed(ctx: click.Context, recipe: str, name: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """The flags of a phase, as if the recipe were its own."""
    try:
        phase = ctx.command.make_context(ctx.info_name, list(words_of(ctx)), ctx.parent, default_map=defaults)
    except click.UsageError as error:
        if _is_of_the_line(error):
            raise
        raise UsageError(f"{_where(recipe, name)}: {error.format_message().strip()}") from error
    for parameter in _OF_ONE:
        if phase.params[parameter] and phase.get_parameter_source(parameter) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{parameter} is of one training, and {recipe} has several: write it below its tasks.")
    return dict(phase.params)


def _is_of_the_line(error: click.UsageError) -> bool:
    """Whether the error is about a word of the command line, and not about the recipe."""
    parameter = getattr(error, "param", None)
    if error.ctx is None or parameter is None or parameter.name is None:
        return True
    return error.ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
