"""A recipe: a YAML file of flags, read as if they stood on the command line in front of its own words."""

from __future__ import annotations

from pathlib import Path

import click

from autofit.domain.errors import UsageError


def apply_recipe(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Makes the recipe's values the defaults of the other flags; UsageError for a key that is no flag."""
    if path is not None:
        flags = _flags(ctx.command, but=param)
        ctx.default_map = dict(_default(path, key, value, flags) for key, value in _read(path).items())


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


def _default(path: Path, key: str, value: object, flags: dict[str, click.Parameter]) -> tuple[str, object]:
    """What click's map of defaults takes: a parameter's name and its value."""
    flag = flags.get(str(key).replace("_", "-"))
    if flag is None or flag.name is None:
        raise UsageError(f"{path}: '{key}' is not a flag of autofit train{_nearest(str(key), flags)}.")
    values = value if isinstance(value, list) else [value]
    words = [one for one in values if isinstance(one, str) and one]
    if not words or words != values:
        raise UsageError(f"{path}: {key} needs one value or a list of them.")
    return flag.name, words if getattr(flag, "multiple", False) else ",".join(words)


def _nearest(key: str, flags: dict[str, click.Parameter]) -> str:
    import difflib

    near = difflib.get_close_matches(key.replace("_", "-"), flags, n=1, cutoff=0.0)
    return f"; the nearest is {near[0]}" if near else ""
