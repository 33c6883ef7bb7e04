"""The verb `autofit plan`: what is predicted is printed, and nothing is trained."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from .flags.flag import SectionedCommand, rest_of
from .flags.train_flags import CHEAPEST, TRAIN_ONLY, plan_flags

if TYPE_CHECKING:
    from autofit.domain.plan import Plan
    from autofit.report.plan.plan_figures import Terms

_WORDS = "autofit.plan.words"
_OWN = ("--on", "--tokens", "--price")
_OWN_SWITCHES = ("--json", "--rehearse")
_OPTIMIZE = "--optimize"


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
      autofit plan --model ./my-model --on 4xL40S --on 2xH100 --tokens 300M \\
        --optimize cost --price L40S=1 --price H100=3
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
    from autofit.app.machine_order import MachineOrder
    from autofit.app.rehearsals import rehearse
    from autofit.domain.objective import Objective
    from autofit.report.json_screen import write_json
    from autofit.report.plan.plan_figures import Terms
    from autofit.report.plan.plan_json import plans_body

    from .boundary import print_error
    from .printing import waiting
    from .request_builder import build_request, count_ranks

    order = MachineOrder(flags["price"], is_cheapest_first=_is_cost(flags))
    flags["optimize"] = Objective.SPEED.value if order.is_cheapest_first else flags["optimize"]
    request = build_request(flags, rest_of(context), lambda ranks: count_ranks(ranks, flags["on"]))
    told: list[str] = []
    with waiting(f"planning {flags['model']}", is_quiet=flags["json"]):
        plans = plan.plan(request, flags["on"], tell=told.append, order=order)
    for note in told:
        print_error(note)
    if flags["rehearse"]:
        with waiting("rehearsing", is_quiet=flags["json"]):
            plans = rehearse(plans, tell=print_error, heartbeat_timeout_s=flags["probe_timeout"], order=order)
    if flags["json"]:
        write_json(sys.stdout, plans_body(plans))
    else:
        terms = Terms(flags["tokens"], order.price_per_device_hour, is_cheapest_first=order.is_cheapest_first)
        _show(plans, terms, context.meta[_WORDS])


for _parameter in command.params:
    if isinstance(_parameter, click.Option) and _parameter.name in TRAIN_ONLY:
        _parameter.hidden = True


def _is_cost(flags: Mapping[str, Any]) -> bool:
    """Whether the cheapest machine is asked for; UsageError where nobody said for how many tokens."""
    from autofit.domain.errors import UsageError

    is_cost: bool = flags["optimize"] == CHEAPEST
    if is_cost and flags["tokens"] is None:
        raise UsageError("--optimize cost needs the length of the training: give --tokens, like 300M or 1e9.")
    return is_cost


def _shared(words: Iterable[str]) -> Iterator[str]:
    """The words without the flags that only a plan has, and their values."""
    rest = iter(words)
    for word in rest:
        if word in _OWN:
            next(rest, None)
        elif word == _OPTIMIZE:
            goal = next(rest, "")
            yield from () if goal == CHEAPEST else (word, goal)
        elif word not in (*_OWN_SWITCHES, f"{_OPTIMIZE}={CHEAPEST}") and not word.startswith(
            tuple(f"{own}=" for own in _OWN)
        ):
            yield word


def _show(plans: tuple[Plan, ...], terms: Terms, words: tuple[str, ...]) -> None:
    from autofit.domain.shell import shell_word
    from autofit.report.plan.plan_comparison import comparison_lines
    from autofit.report.plan.plan_screen import plan_lines

    from .printing import print_lines, screen_width

    next_command = [shell_word(word) for word in ("autofit", "train", *words)]
    width = screen_width()
    if len(plans) == 1:
        lines = plan_lines(plans[0], terms, next_command, width=width)
    else:
        lines = comparison_lines(plans, terms, next_command, width=width)
    print_lines(lines)
