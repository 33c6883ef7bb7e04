"""The verb `autofit plan`: what is predicted is printed, and nothing is trained."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from autofit.process.best_effort_stream import BestEffortStream

from .flags.flag import SectionedCommand, rest_of
from .flags.train_flags import TRAIN_ONLY, plan_flags

if TYPE_CHECKING:
    from autofit.domain.plan import Plan
    from autofit.report.line import Line
    from autofit.report.plan.plan_figures import Terms

_WORDS = "autofit.plan.words"
_OWN = ("--on", "--tokens", "--price")
_OWN_SWITCHES = ("--json", "--rehearse")
_WIDEST = 100  # columns: longer lines are harder to read


class _PlanCommand(SectionedCommand):
    """Keeps the words that train takes too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_WORDS] = tuple(_shared(args))
        return super().parse_args(ctx, args)


@click.command(
    cls=_PlanCommand,
    options_metavar="--model MODEL [--on MACHINE] [FLAGS]",
    epilog="""Needs no GPU. Every flag of autofit train is taken; those that change no prediction are not shown here.

    \b
    Examples:
      autofit plan --model ./my-model --seq 4096
      autofit plan --model meta-llama/Llama-2-7b-hf --on 8xA100-80GB --tokens 1e9
      autofit plan --model ./my-model --on 4xL40S --on 2xH100 --tokens 300M
    """,
)
@plan_flags
@click.pass_context
def command(context: click.Context, /, **flags: Any) -> None:
    """Predict what fits, how fast, and what it takes; on this machine or any.

    With --json and several machines: the plan of the best one, and all of them, best first, under "machines".
    """
    from autofit.hardware.requirements import check_requirements

    check_requirements()  # the tracer needs what a training needs
    from autofit.app import plan
    from autofit.app.rehearsals import rehearse
    from autofit.report.json_screen import write_json
    from autofit.report.plan.plan_figures import Terms
    from autofit.report.plan.plan_json import plans_body

    from .boundary import print_error
    from .request_builder import build_request

    request = build_request(flags, rest_of(context), lambda ranks: _count_ranks(ranks, flags["on"]))
    told: list[str] = []
    with _waiting(f"planning {flags['model']}", is_quiet=flags["json"]):
        plans = plan.plan(request, flags["on"], tell=told.append)
    for note in told:
        print_error(note)
    if flags["rehearse"]:
        with _waiting("rehearsing", is_quiet=flags["json"]):
            plans = rehearse(plans, tell=print_error, heartbeat_timeout_s=flags["probe_timeout"])
    if flags["json"]:
        write_json(sys.stdout, plans_body(plans))
    else:
        _show(plans, Terms(flags["tokens"], flags["price"]), context.meta[_WORDS])


for _parameter in command.params:
    if isinstance(_parameter, click.Option) and _parameter.name in TRAIN_ONLY:
        _parameter.hidden = True


def _shared(words: Iterable[str]) -> Iterator[str]:
    """The words without the flags that only a plan has, and their values."""
    rest = iter(words)
    for word in rest:
        if word in _OWN:
            next(rest, None)
        elif word not in _OWN_SWITCHES and not word.startswith(tuple(f"{own}=" for own in _OWN)):
            yield word


def _count_ranks(ranks: int | None, on: tuple[str, ...]) -> int:
    """The number of ranks that accumulation is multiplied with."""
    if not on:
        from .request_builder import count_ranks_here

        return count_ranks_here(ranks)
    from autofit.domain.errors import UsageError
    from autofit.hardware.machine_spec import parse_machine

    counts = {parse_machine(text).rank_count for text in on}
    if len(counts) > 1:
        raise UsageError("--gradient-accumulation-steps means another batch on each machine: give --batch-size.")
    return counts.pop()


def _waiting(what: str, *, is_quiet: bool) -> Any:
    """Shows a sign of life on a terminal: the first plan of a model takes seconds, and so does a rehearsal."""
    from contextlib import nullcontext

    if is_quiet or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(file=cast(TextIO, BestEffortStream(sys.stderr))).status(what)


def _show(plans: tuple[Plan, ...], terms: Terms, words: tuple[str, ...]) -> None:
    import shlex

    from autofit.report.plan.plan_comparison import comparison_lines
    from autofit.report.plan.plan_screen import plan_lines

    next_command = shlex.join(["autofit", "train", *words])
    width = _width()
    if len(plans) == 1:
        lines = plan_lines(plans[0], terms, next_command, width=width)
    else:
        lines = comparison_lines(plans, terms, next_command, width=width)
    _print(lines)


def _width() -> int:
    import shutil

    from autofit.report.line import WIDTH

    return max(WIDTH, min(shutil.get_terminal_size().columns, _WIDEST)) if sys.stdout.isatty() else WIDTH


def _print(lines: list[Line]) -> None:
    """Prints the lines, in colours on a terminal."""
    from autofit.report.line import plain

    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        click.echo(plain(lines))
        return
    from rich.console import Console
    from rich.text import Text

    rows = [Text.assemble(*((text, style.value) for text, style in line)) for line in lines]
    Console(highlight=False).print(Text("\n", no_wrap=True, overflow="ellipsis").join(rows))
