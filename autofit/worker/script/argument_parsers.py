"""What a script's own parser of arguments shows: a flag that it takes, and what it says of a line that it refuses."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import click


def watch_parsers(flags: tuple[str, ...], take_flag: Callable[[str], None], complain: Callable[[str], None]) -> None:
    """Patches this process, before the script runs: argparse, of which transformers' and trl's parsers are, and click.

    `take_flag` hears the first of `flags` that a parser knows; `complain` hears what one says before it ends the
    script.
    """
    _watch_argparse(flags, take_flag, complain)
    _watch_click(flags, take_flag, complain)


def _watch_argparse(flags: tuple[str, ...], take_flag: Callable[[str], None], complain: Callable[[str], None]) -> None:
    parse, error = argparse.ArgumentParser.parse_known_args, argparse.ArgumentParser.error

    @functools.wraps(parse)
    def parsed(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        _tell_first(flags, self._option_string_actions, take_flag)
        return parse(self, *args, **kwargs)

    @functools.wraps(error)
    def told(self: argparse.ArgumentParser, message: str) -> Any:
        complain(message)
        return error(self, message)

    argparse.ArgumentParser.parse_known_args = parsed  # type: ignore[method-assign]
    argparse.ArgumentParser.error = told  # type: ignore[method-assign]


def _watch_click(flags: tuple[str, ...], take_flag: Callable[[str], None], complain: Callable[[str], None]) -> None:
    parse, show = click.Command.parse_args, click.UsageError.show

    @functools.wraps(parse)
    def parsed(self: click.Command, context: click.Context, args: list[str]) -> list[str]:
        known = {name for parameter in self.get_params(context) for name in parameter.opts}
        _tell_first(flags, known, take_flag)
        return parse(self, context, args)

    @functools.wraps(show)
    def told(self: click.UsageError, *args: Any, **kwargs: Any) -> None:
        complain(self.format_message())
        show(self, *args, **kwargs)

    click.Command.parse_args = parsed  # type: ignore[method-assign,assignment]
    click.UsageError.show = told  # type: ignore[method-assign]


def _tell_first(flags: tuple[str, ...], known: Any, take_flag: Callable[[str], None]) -> None:
    for flag in flags:
        if flag in known:
            take_flag(flag)
            return
