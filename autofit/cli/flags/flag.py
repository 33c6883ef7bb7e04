"""Flags in sections, and what stands after `--`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_REST = "autofit.rest"
_WORDS = "autofit.words"


class Flag(click.Option):
    """An option with one name in the help; its aliases are taken in silence."""

    def __init__(self, names: list[str], *, section: str, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.section = section

    def get_error_hint(self, ctx: click.Context | None) -> str:
        return f"'{self.opts[0]}'"

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Name and value on the left, the help on the right."""
        if self.hidden:
            return None
        name = self.opts[0] if self.is_flag else f"{self.opts[0]} {self.make_metavar(ctx)}"
        return name, self.help or ""


def flag(*names: str, section: str, **settings: Any) -> Callable[[F], F]:
    """A Flag as a decorator; the first dashed name is the one that is shown."""
    return click.option(*names, cls=Flag, section=section, **settings)


class SectionedCommand(click.Command):
    """Shows its flags by section, and keeps the words after `--` apart from its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, rest = _split(args)
        ctx.meta[_REST], ctx.meta[_WORDS] = tuple(rest), tuple(args)
        return super().parse_args(ctx, own)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Output"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def rest_of(ctx: click.Context) -> tuple[str, ...]:
    """The words of the command line that stand after `--`."""
    rest: tuple[str, ...] = ctx.meta[_REST]
    return rest


def words_of(ctx: click.Context) -> tuple[str, ...]:
    """The words of the command line behind the verb."""
    words: tuple[str, ...] = ctx.meta[_WORDS]
    return words


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]
