"""A line of `deepspeed` that can be tuned, and what it is tuned by."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hjson

from autofit.domain.deepspeed_line import LaunchLine, LaunchSettings
from autofit.domain.hardware import Hardware
from autofit.domain.script import Script
from autofit.domain.shell import shell_line
from autofit.domain.training_length import SaidLength
from autofit.inputs.script_recipe import read_recipe
from autofit.planning.script.script_arguments import (
    CONFIG_KEYS_OF_RECIPES,
    INDIFFERENT_FLAGS,
    RECIPE_FLAGS,
    config_flags,
    find,
    is_config,
    without,
)
from autofit.planning.script.training_length import said_length
from autofit.planning.script.tunable_knobs import Config
from autofit.planning.script.zero_section import ZERO_KEY
from autofit.store.serialization import digest
from autofit.store.versions import versions


class NotTuned(Exception):
    """The line is DeepSpeed's launcher's alone. `note` says why; None where nobody needs to be told."""

    def __init__(self, note: str | None = None) -> None:
        super().__init__(note)
        self.note = note


@dataclass(frozen=True)
class TunableLine:
    """A line with the DeepSpeed config that its script's arguments name, and the folder that it is started in."""

    line: LaunchLine
    settings: LaunchSettings
    config: Config
    directory: str
    said: SaidLength = field(default_factory=SaidLength)

    @property
    def name(self) -> str:
        """The name of the script."""
        return Path(self.line.script).name

    @property
    def output_dir(self) -> Path:
        """The run folder: where the user wants it, or one of the line's own here, whatever else is in the script's
        folder: two lines of one script keep a choice each."""
        named = self.settings.output_dir or os.path.join("autofit-runs", f"{self._short_name}-{self._mark}")
        return Path(named).absolute()

    @property
    def _short_name(self) -> str:
        return self.line.script if self.line.options.is_module else Path(self.line.script).stem

    @property
    def _mark(self) -> str:
        """What tells the line from others of its script: how long it trains and where it writes does not."""
        line = self.line
        return digest([line.option_words, line.script, without(line.arguments, INDIFFERENT_FLAGS)])[:6]

    def script(self, arguments: tuple[str, ...]) -> Script:
        """The script with these arguments in place of the user's."""
        options = self.line.options
        return Script(
            self.line.script, arguments, self.directory, options.is_module, has_local_rank=not options.no_local_rank
        )

    def identity(self, hardware: Hardware) -> str:
        """A digest that is equal for two lines that would be tuned alike: the output folder or the learning rate does
        not count."""
        line, settings = self.line, self.settings
        parts = [
            line.option_words, line.script, without(line.arguments, INDIFFERENT_FLAGS), self.config,
            sorted(settings.override), settings.memory_limit_bytes, hardware.summary, versions(),
            _digest(line.script), _digest(line.options.hostfile),
        ]  # fmt: skip
        return digest(parts)


def read_tunable_line(line: LaunchLine, settings: LaunchSettings) -> TunableLine:
    """The line with its config read; NotTuned where there is nothing to tune."""
    if settings.is_off or line.is_refused:
        raise NotTuned
    if line.options.no_python:
        raise NotTuned("--no_python starts a program that nobody can look into: it runs as it is, unsearched.")
    if line.options.no_ssh:
        raise NotTuned("--no_ssh starts each node by hand, so nobody can search on all: it runs as it is, unsearched.")
    named = find(line.arguments, config_flags(line.arguments))
    if named is None:
        raise NotTuned(f"{_why_no_config(line)}: the script runs as it is, unsearched.")
    return TunableLine(line, settings, _read_config(named.text), os.getcwd(), _said(line.arguments))


def _why_no_config(line: LaunchLine) -> str:
    """Why there is none, with the line to type where a recipe names it: what stands on the line goes before that."""
    recipe = find(line.arguments, RECIPE_FLAGS)
    body = {} if recipe is None else read_recipe(recipe.text)
    key = next((key for key in CONFIG_KEYS_OF_RECIPES if isinstance(body.get(key), str)), None)
    if recipe is None or key is None:
        return "no DeepSpeed config is named on the command line"
    words = ["autofit", *line.words, f"--{key}", body[key]]
    return f"the DeepSpeed config stands in {recipe.text}; to have it tuned, type {shell_line(words)}"


def _said(arguments: tuple[str, ...]) -> SaidLength:
    named = find(arguments, RECIPE_FLAGS)
    recipe = {} if named is None else read_recipe(named.text)
    return said_length(arguments, recipe, "" if named is None else Path(named.text).name)


def _read_config(value: str) -> Config:
    """What the flag of a config names or holds; NotTuned where DeepSpeed would not read it."""
    inline = None if os.path.exists(value) else _inline_config(value)
    where = value if inline is None else "the DeepSpeed config on the command line"
    try:
        text = Path(value).read_text(encoding="utf-8") if inline is None else inline
        content = hjson.loads(text, object_pairs_hook=_with_each_key_once)  # as DeepSpeed does: comments are allowed
        json.dumps(content, allow_nan=False)  # as its copies are written
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error or "it is nested too deep"
        raise NotTuned(f"{where} cannot be read ({why}): the script runs as it is, unsearched.") from None
    if not is_config(content) or not isinstance(content.get(ZERO_KEY) or {}, (dict, bool)):
        raise NotTuned(f"{where} is no DeepSpeed config: the script runs as it is, unsearched.")
    config: Config = content
    return config


def _inline_config(value: str) -> str | None:
    """The text of a config that stands in the argument itself: as JSON, which transformers takes, or in base64, which
    DeepSpeed takes; None for what is a file's name."""
    if value.lstrip().startswith("{"):
        return value
    try:
        text = base64.b64decode(value, altchars=b"-_", validate=True).decode("utf-8")
    except ValueError:
        return None
    return text if text.lstrip().startswith("{") else None


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of `pairs`; ValueError for a key that stands there twice, which DeepSpeed refuses."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key} stands in it twice")
        found[key] = value
    return found


def _digest(name: str) -> str:
    """A digest of a file's content; empty where there is none, as for a module."""
    path = Path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
