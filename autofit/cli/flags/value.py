"""Kinds of values that flags take: words, names and folders."""

from __future__ import annotations

import math
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .quantity import Kind

if TYPE_CHECKING:  # the drop-in has no flag of these, and pays nothing for them
    from autofit.domain.knobs.knob import Knob
    from autofit.domain.request import Reward
    from autofit.domain.task import Task

_YES = {"on", "true", "yes", "1"}
_NO = {"off", "false", "no", "0"}


class RewardSource(Kind):
    """Reads `module:function`, a folder or a hub id, with its weight behind an `=`, 1 unless told."""

    name = "REWARD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Reward:
        from autofit.domain.request import Reward

        if isinstance(value, Reward):
            return value
        source, _, weight = str(value).partition("=")
        try:
            number = float(weight) if weight else 1.0
        except ValueError:
            number = math.nan
        if not source or not math.isfinite(number) or number == 0:
            self.fail(f"'{value}' is no reward with its weight; write it like rewards.py:brief=0.3.", param, ctx)
        return Reward(source, number)


def is_plain(text: str) -> bool:
    """Whether a name, path or word can be handed to the system and shown: no NUL is in it, and no half character."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


class Word(Kind):
    """A name or a path that is not empty, and that the system takes."""

    name = "WORD"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not text.strip():
            self.fail("an empty word names nothing; leave the flag out, or name something.", param, ctx)
        if not is_plain(text):
            self.fail(f"{text[:40]!a} holds a character that no name can; write it anew.", param, ctx)
        return text


class Folder(Kind):
    """A path that is not empty: an empty one would mean the folder in which one happens to be."""

    name = "FOLDER"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value).strip():
            self.fail("an empty name is no folder; write . for the one you are in.", param, ctx)
        return Path(str(value))


class Switch(Kind):
    """Reads `on`, `off`, and the spellings of yes and no that other launchers take."""

    name = "on|off"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        word = _switch_word(str(value))
        if word not in ("on", "off"):
            self.fail(f"'{value}' is not one of on, off.", param, ctx)
        return word == "on"


def is_switch(knob: Knob[Any]) -> bool:
    """Whether the knob's flag may stand without a value, which means on."""
    return {"on", "off"} <= {known.word for known in knob.values}


def _switch_word(text: str) -> str:
    """The word on or off where the text means it, else the text itself."""
    word = text.lower()
    return "on" if word in _YES else "off" if word in _NO else text


class Pinned(Kind):
    """A value of a knob by its word; `auto` (None) leaves the knob to the search."""

    def __init__(self, knob: Knob[Any]) -> None:
        self.name = "|".join(known.word for known in knob.values)
        self._knob = knob

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or isinstance(value, Enum):
            return value
        if value.lower() == "auto":
            return None
        try:
            return self._knob.read(_switch_word(value) if is_switch(self._knob) else value)
        except ValueError as error:
            is_known = value in dict(self._knob.refused)
            self.fail(f"{error}." if is_known else f"{error}, or auto.", param, ctx)


class Names(Kind):
    """Reads `a,b` as a tuple; `none` and nothing are the empty one."""

    name = "NAMES"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(word.strip() for word in str(value).split(",") if word.strip())
        return () if names == ("none",) else names


class Tasks(Names):
    """Reads `sft,dpo` as tasks, each once."""

    name = "TASKS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Task, ...]:
        from autofit.domain.task import Task

        words = super().convert(value, param, ctx)
        known = {task.value: task for task in Task}
        for word in words:
            if word not in known:
                self.fail(f"'{word}' is not one of {', '.join(known)}.", param, ctx)
        if not words:
            self.fail(f"name one at least of {', '.join(known)}.", param, ctx)
        return tuple(dict.fromkeys(known[word] for word in words))
