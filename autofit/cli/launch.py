"""The verb `autofit launch`, and every command line whose first word is no verb."""

from __future__ import annotations

import signal

import click

from autofit.process.signals import Terminated

from .boundary import die_of, log_crash, print_error
from .flags.deepspeed_options import LAUNCHER_OPTIONS, HelpAsked, LauncherOption
from .flags.flag import SectionedCommand
from .flags.launch_flags import OWN_FLAGS
from .flags.launch_line import parse_launch
from .screen import LateScreen
from .system_error import system_sentence


class LaunchCommand(SectionedCommand):
    """Takes its words as they are; its help has autofit's own options and one line for each of DeepSpeed's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["words"] = tuple(args)
        return []

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        with formatter.section("Of DeepSpeed's launcher, as it has them"):
            formatter.write_dl([(_names(option), option.help) for option in LAUNCHER_OPTIONS])


def _names(option: LauncherOption) -> str:
    names = ", ".join(option.names)
    return names if option.is_switch else f"{names} {_metavar(option)}"


def _metavar(option: LauncherOption) -> str:
    if option.choices is not None and len(option.choices) < 3:
        return "|".join(option.choices)
    return "N" if option.kind is int else "X"


@click.command(
    cls=LaunchCommand,
    params=OWN_FLAGS,
    add_help_option=False,
    options_metavar="[OPTIONS] SCRIPT [THE SCRIPT'S OWN]",
    epilog="""\b
    Examples:
      autofit --num_gpus 8 train.py --deepspeed ds.json
      autofit launch --autofit-memory-limit 24GiB train.py --deepspeed ds.json
      autofit --autofit-off --hostfile hosts train.py --deepspeed ds.json
    """,
)
@click.pass_context
def command(context: click.Context, /, words: tuple[str, ...]) -> None:
    """What `deepspeed` starts, with the configuration that fits and runs fastest.

    The script stays as it is, and DeepSpeed's own launcher starts it, with a copy of its DeepSpeed config.
    """
    try:
        line, settings = parse_launch(list(words))
    except HelpAsked:
        click.echo(context.get_help())
        return
    try:
        from autofit.app.launch import launch

        code = launch(line, settings, screen=LateScreen(), log_crash=lambda error: _logged(error, list(words)))
    except Terminated as ended:
        print_error("terminated.")
        die_of(ended.number)
    except KeyboardInterrupt:
        print_error("interrupted.")
        die_of(signal.SIGINT)
    if code < 0:
        die_of(-code)
    context.exit(code)


def _logged(error: Exception, words: list[str]) -> str:
    """Writes our own bug down; what the machine refused is none."""
    return "" if system_sentence(error) is not None else log_crash(error, ["launch", *words])
