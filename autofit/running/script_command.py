"""How a line of `deepspeed` is started once it is decided: with other words, or under the entry that turns more."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from autofit.domain.deepspeed_line import LaunchLine
from autofit.domain.line_decision import Decision
from autofit.planning.script.config_rewriter import rewrite_arguments
from autofit.probing.protocol import ENTRY_MODULE, ScriptEntry, encode_entry


def starting_words(line: LaunchLine, decision: Decision, *, memory_limit_bytes: int | None) -> tuple[str, ...]:
    """The words that follow `deepspeed`: the user's own but for the config and the batch's flags; under the entry where
    something is patched, or memory is limited."""
    arguments = line.arguments
    if decision.config_path is not None:
        arguments = rewrite_arguments(arguments, decision.config_path, decision.flags)
    if decision.turns.is_nothing and memory_limit_bytes is None:
        return (*line.option_words, line.script, *arguments)
    entry = encode_entry(ScriptEntry(decision.turns, decision.kind, line.options.is_module, memory_limit_bytes))
    module = () if line.options.is_module else ("--module",)
    return (*line.option_words, *module, ENTRY_MODULE, entry, line.script, *arguments)


def command_script(launcher: Sequence[str], words: Sequence[str], directory: str, config: Path) -> str:
    """A shell script for the run folder that starts the same again, without a search.

    `launcher` is the command of DeepSpeed's launcher: the name `deepspeed` may have become autofit's own. `config` is
    the run folder's own: the script names it beside itself, wherever the folder comes to lie.
    """
    return f"""#!/bin/sh
# Starts the script with the configuration that autofit chose: plain DeepSpeed, no search.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cd {shlex.quote(directory)}
export AUTOFIT_OFF=1
exec {shlex.join(launcher)} {" ".join(_quoted(word, config) for word in words)}
"""


def _quoted(word: str, config: Path) -> str:
    """Quotes a word for the shell, with the folder of `config` as `$here`."""
    before, path, after = word.partition(str(config))
    if not path:
        return shlex.quote(word)
    return (shlex.quote(before) if before else "") + f'"$here"/{config.name}' + (shlex.quote(after) if after else "")
