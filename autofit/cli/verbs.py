"""The verbs; the file of one is imported only when it is called."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

import click

from autofit import __version__

from .flags.other_launchers import line_instead

_LAUNCH = "launch"
_ASIDE = ("--help", "-h", "--version")
_VERBS = {
    "train": "Find the fastest configuration that fits, and train with it.",
    _LAUNCH: "What `deepspeed` starts, with the configuration that fits and runs fastest.",
    "plan": "What would fit and how fast, before anything is tried; any machine.",
    "compare": "What each optimization alone is worth, task by task; any machine.",
    "doctor": "What this machine has, and what is missing.",
    "show": "The trials and the choice of a run.",
    "cache": "What is remembered of earlier runs.",
}


class Verbs(click.Group):
    """Finds a verb by its name; the one place that decides what the first word means."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """A first word that is neither a verb nor a flag of autofit begins a command line of `deepspeed`."""
        if args and args[0] not in (*_VERBS, *_ASIDE):
            if (instead := line_instead(args)) is not None:
                raise click.UsageError(f"autofit takes the place of {args[0]} in a line. Type\n  {instead}", ctx)
            if not args[0].startswith("-") and not _is_script(args[0]):
                raise click.UsageError(
                    f"'{args[0]}' is neither a verb of autofit ({', '.join(_VERBS)}) nor a script here.", ctx
                )
            args = [_LAUNCH, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        return cast(click.Command, import_module(f"autofit.cli.{cmd_name}").command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))


def _is_script(word: str) -> bool:
    return Path(word).is_file() or Path(word, "__main__.py").is_file()


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    options_metavar="",
    subcommand_metavar="VERB [FLAGS]",
    epilog="autofit VERB --help tells what a verb takes.",
    context_settings={
        "max_content_width": 80,
        "token_normalize_func": lambda word: word.replace("_", "-"),
        "help_option_names": ["--help", "-h"],
    },
)
@click.version_option(__version__, message="autofit %(version)s")
@click.pass_context
def autofit(context: click.Context, /) -> None:
    """Fine-tune a language model on the GPUs that you have.

    autofit looks at the machine, tries the configurations that may fit with a few real training steps each, picks the
    fastest one and trains with it.

    \b
        autofit train --model meta-llama/Llama-2-13b-hf --data chats.jsonl

    It also stands where `deepspeed` stood, and tunes your own script and its DeepSpeed config:

    \b
        autofit --num_gpus 8 train.py --deepspeed ds_config.json
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)  # as `deepspeed` without a word
