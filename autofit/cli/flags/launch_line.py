"""A command line of `deepspeed` with autofit's own options in it, taken apart."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from autofit.domain.deepspeed_line import LauncherOptions, LaunchLine, LaunchSettings

from .deepspeed_options import HelpAsked, LineRefused, launcher_parser
from .launch_flags import PREFIX, read_settings, takes_value


def parse_launch(words: list[str]) -> tuple[LaunchLine, LaunchSettings]:
    """The line without autofit's own options, and what these ask for.

    click.UsageError for an option of ours that is wrong, HelpAsked where a help option stands before the script. What
    DeepSpeed would refuse becomes a line that is refused.
    """
    own, theirs = _split(words)
    settings = read_settings(own)
    if settings is None:
        raise HelpAsked
    line = _line(theirs)
    return replace(line, tuned_option_words=_without_autotuning(line)), settings


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Autofit's own words, which stand before the script, and all the others."""
    own: list[str] = []
    theirs: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.replace("_", "-").startswith(PREFIX):
            theirs.append(word)
        elif _has_script(theirs):
            return own, [*theirs, word, *rest]
        else:
            own.append(word)
            if takes_value(word) and rest:
                own.append(rest.pop(0))
    return own, theirs


def _has_script(words: list[str]) -> bool:
    """Whether these words have come to the script; also where they make no sense: what comes after them is then
    nobody's."""
    if "--" in words:
        return True  # no option stands after it
    try:
        return launcher_parser(is_script_required=False).parse_args(words).user_script is not None
    except (HelpAsked, LineRefused):
        return False


def _line(words: list[str]) -> LaunchLine:
    try:
        found = launcher_parser().parse_args(words)
    except LineRefused:
        return LaunchLine(tuple(words))
    if not found.user_script:
        return LaunchLine(tuple(words))  # an empty word; Python will say that it is no file
    at = _script_index(words, found)
    option_words = words[:at]
    if len(words) - at - 1 > len(found.user_args):
        option_words += ["--"]  # argparse takes one away behind the script; before it, it means the same
    return LaunchLine(tuple(option_words), found.user_script, tuple(found.user_args), _options(found))


def _without_autotuning(line: LaunchLine) -> tuple[str, ...] | None:
    """The option words without `--autotuning`, which is one word of them or two; None where it is not there, or
    twice."""
    if not line.options.autotuning:
        return None
    words, wanted = line.option_words, (line.script, line.arguments, replace(line.options, autotuning=""))
    shorter = (words[:at] + words[at + size :] for size in (1, 2) for at in range(len(words)))
    lines = (_line([*rest, line.script, *line.arguments]) for rest in shorter)
    like = (line.option_words for line in lines if (line.script, line.arguments, line.options) == wanted)
    return next(like, None)


def _script_index(words: list[str], found: Namespace) -> int:
    at = len(words) - len(found.user_args) - 1
    while words[at] != found.user_script:
        at -= 1
    return at


def _options(found: Namespace) -> LauncherOptions:
    return LauncherOptions(
        hostfile=found.hostfile,
        include=found.include,
        exclude=found.exclude,
        num_nodes=found.num_nodes,
        num_gpus=found.num_gpus,
        master_addr=found.master_addr,
        master_port=found.master_port,
        launcher=found.launcher,
        is_module=found.module,
        no_python=found.no_python,
        no_local_rank=found.no_local_rank,
        no_ssh=found.no_ssh,
        autotuning=found.autotuning,
    )
