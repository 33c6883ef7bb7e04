"""The verbs; the file of one is imported only when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import cast

import click

from autofit import __version__

_VERBS = {
    "train": "Find the fastest configuration that fits, and train with it.",
    "plan": "What would fit and how fast, before anything is tried; any machine.",
    "doctor": "What this machine has, and what is missing.",
    "show": "The trials and the choice of a run.",
    "cache": "What is remembered of earlier runs.",
}


class Verbs(click.Group):
    """Finds a verb by its name; the one place that decides what the first word means."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        return cast(click.Command, import_module(f"autofit.cli.{cmd_name}").command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        command = self.get_command(ctx, word)
        if command is None and not word.startswith("-"):
            raise click.UsageError(f"'{word}' is not a verb of autofit: there are {', '.join(_VERBS)}.", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    options_metavar="",
    subcommand_metavar="VERB [FLAGS]",
    epilog="autofit VERB --help tells what a verb takes.",
    context_settings={"max_content_width": 80, "token_normalize_func": lambda word: word.replace("_", "-")},
)
@click.version_option(__version__, message="autofit %(version)s")
@click.pass_context
def autofit(context: click.Context, /) -> None:
    """Fine-tune a language model on the GPUs that you have.

    autofit looks at the machine, tries the configurations that may fit with a few real training steps each, picks the
    fastest one and trains with it.

    \b
        autofit train --model meta-llama/Llama-2-13b-hf --data chats.jsonl
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
