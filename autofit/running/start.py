"""How a line of `deepspeed` is started once it is decided: with other words, or under the entry that turns more."""

from __future__ import annotations

import shlex

from autofit.domain.hardware import DeviceKind
from autofit.domain.launch import Decision, LaunchLine, Start
from autofit.planning.turning import worded
from autofit.probing.agent import CPU_ALLOCATOR
from autofit.probing.protocol import ENTRY_MODULE, Entry, encode_entry


def start_of(line: LaunchLine, decision: Decision, *, memory_limit_bytes: int | None, kind: DeviceKind) -> Start:
    """The user's words but for the config and the batch's flags; under the entry where more is turned, or memory is
    limited."""
    arguments = line.arguments
    if decision.config_path is not None:
        arguments = worded(arguments, decision.config_path, decision.flags)
    if decision.turns.is_nothing and memory_limit_bytes is None:
        return Start((*line.option_words, line.script, *arguments))
    entry = encode_entry(Entry(decision.turns, kind, line.options.is_module, memory_limit_bytes))
    module = () if line.options.is_module else ("--module",)
    is_limited_cpu = kind is DeviceKind.CPU and memory_limit_bytes is not None
    return Start(
        (*line.option_words, *module, ENTRY_MODULE, entry, line.script, *arguments),
        tuple(CPU_ALLOCATOR.items()) if is_limited_cpu else (),  # the heap stands for the device, as in a probe
    )


def command_script(start: Start, directory: str) -> str:
    """A shell script for the run folder that starts the same again, without a search."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in start.environment)
    return f"""#!/bin/sh
# Starts the script with the configuration that autofit chose: plain DeepSpeed, no search.
set -eu
cd {shlex.quote(directory)}
{exports}exec deepspeed {shlex.join(start.words)}
"""
