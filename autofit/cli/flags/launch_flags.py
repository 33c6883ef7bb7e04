"""The `--autofit-` options: their names, their kind and one line of help."""

from __future__ import annotations

import click

from autofit.domain.deepspeed_line import LaunchSettings, Override

from .flag import Flag
from .quantity import Amount, Count, Share, Size
from .value import Folder, Names

PREFIX = "--autofit-"
_SECTION = "Of autofit, before the script"


class Overrides(Names):
    """Reads `stage,buckets` as a set; `all` is every one."""

    name = "LIST"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[Override]:  # type: ignore[override]
        if isinstance(value, frozenset):
            return value
        words = super().convert(value, param, ctx)
        if words == ("all",):
            return frozenset(Override)
        known = {knob.value: knob for knob in Override}
        for word in words:
            if word not in known:
                self.fail(f"'{word}' is not one of {', '.join(known)}, or all.", param, ctx)
        return frozenset(known[word] for word in words)


def _own(name: str, **settings: object) -> Flag:
    return Flag([name, PREFIX + name.replace("_", "-")], section=_SECTION, **settings)


OWN_FLAGS: list[click.Parameter] = [
    _own("off", is_flag=True, envvar="AUTOFIT_OFF", help="No search: what `deepspeed` would do. Also AUTOFIT_OFF=1."),
    _own("dry_run", is_flag=True, help="Search, show the choice, and do not train."),
    _own("memory_limit", metavar="SIZE", type=Size(), help="Use no more than this on each device: 24GiB, 900MB."),
    _own("steps", metavar="N", type=Count(min=1), help="Steps that a probe measures; as many as a good figure needs."),
    _own("timeout", metavar="SECONDS", type=Amount(min=0, max=1e6, min_open=True), default=600.0,
         help="Give a probe up that shows no progress for so long; 600."),
    _own("tolerance", metavar="SHARE", type=Share(min=0, max=1, min_open=True),
         help="Search until nothing left can be faster by more than this, 1%, whatever it costs."),
    _own("override", metavar="LIST", type=Overrides(), default="none",
         help=f"What may change although it is a number in the config: {', '.join(Override)}, all."),
    _own("output_dir", metavar="DIR", type=Folder(),
         help="The folder of the search; autofit-runs/SCRIPT-MARK, one for each line."),
    _own("help", is_flag=True, is_eager=True, help="This text."),
]  # fmt: skip

_READER = click.Command(
    "launch",
    params=OWN_FLAGS,
    add_help_option=False,
    context_settings={"token_normalize_func": lambda word: word.replace("_", "-")},
)


def takes_value(word: str) -> bool:
    """Whether the word after `word` belongs to it; one that nobody knows takes none."""
    name = word.replace("_", "-")
    return any(name in flag.opts and not flag.is_flag for flag in OWN_FLAGS if isinstance(flag, Flag))


def read_settings(words: list[str]) -> LaunchSettings | None:
    """The settings that `words` ask for, None when the help was asked for; click.UsageError says what is wrong."""
    with _READER.make_context("autofit launch", words) as context:
        flags = context.params
    if flags["help"]:
        return None
    return LaunchSettings(
        is_off=flags["off"],
        is_dry_run=flags["dry_run"],
        memory_limit_bytes=flags["memory_limit"],
        steps=flags["steps"],
        timeout_s=flags["timeout"],
        override=flags["override"],
        tolerance=flags["tolerance"],
        output_dir=None if flags["output_dir"] is None else str(flags["output_dir"]),
    )
