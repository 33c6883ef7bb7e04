"""A recipe: a YAML file of flags, read as if they stood on the command line in front of its own words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from autofit.domain.errors import UsageError
from autofit.domain.shell import path_word

from .phase_flags import read_phases

_TASKS = "tasks"
_VERB = "train"  # that takes a recipe with tasks


def apply_recipe(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Makes the recipe's values the defaults of the other flags; UsageError for a key that is no flag.

    Of a recipe with tasks these are the first one's, and `phases_of` has all of them.
    """
    if path is None or ctx.default_map is not None:  # the context of a task has its flags already
        return
    read_flags = partial(_defaults, flags=_flags(ctx.command, but=param))
    body = _read(path)
    tasks = body.pop(_TASKS, None)
    if tasks is not None and ctx.info_name != _VERB:
        raise UsageError(
            f"{path} has tasks, several trainings, and autofit {ctx.info_name} is of one: give the flags of one of "
            f"them, or see all ladders here by `autofit train --recipe {path_word(path)} --dry-run`."
        )
    shared = read_flags(str(path), body)
    ctx.default_map = shared if tasks is None else read_phases(ctx, str(path), tasks, shared, read_flags)


def _defaults(where: str, body: Mapping[str, object], flags: Mapping[str, click.Parameter]) -> dict[str, Any]:
    """What click's map of defaults takes of `body`, by names of parameters."""
    return dict(_default(where, key, value, flags) for key, value in body.items())


def _read(path: Path) -> dict[str, object]:
    import yaml

    try:
        # The base loader leaves every value a text, as on the command line: `on` stays a word and 2e-4 needs no dot.
        body = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(body, dict):
        raise UsageError(f"{path} holds no flags: write one a line, like `seq: 2048`.")
    return body


def _flags(command: click.Command, *, but: click.Parameter) -> dict[str, click.Parameter]:
    """The flags by their names without the leading dashes, aliases included."""
    own = [parameter for parameter in command.params if parameter is not but]
    return {name.lstrip("-"): parameter for parameter in own for name in parameter.opts}


def _default(where: str, key: str, value: object, flags: Mapping[str, click.Parameter]) -> tuple[str, object]:
    flag = flags.get(str(key).replace("_", "-"))
    if flag is None or flag.name is None:
        raise UsageError(f"{where}: '{key}' is not a flag of autofit train{_nearest(str(key), flags)}.")
    values = value if isinstance(value, list) else [value]
    words = [one for one in values if isinstance(one, str) and one]
    if not words or words != values:
        raise UsageError(f"{where}: {key} needs one value or a list of them.")
    return flag.name, words if getattr(flag, "multiple", False) else ",".join(words)


def _nearest(key: str, flags: Mapping[str, click.Parameter]) -> str:
    import difflib

    near = difflib.get_close_matches(key.replace("_", "-"), flags, n=1, cutoff=0.0)
    return f"; the nearest is {near[0]}" if near else ""
