"""Lines of other launchers behind the word `autofit`: what to type instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autofit.domain.shell import shell_line


@dataclass(frozen=True)
class _Launcher:
    """Another launcher by its words: the switches that take no value, and the flags that say how many devices."""

    name: tuple[str, ...]
    switches: frozenset[str] = frozenset()
    device_flags: frozenset[str] = frozenset()


_MODULE = ("-m", "--module")
_TORCHRUN = _Launcher(
    ("torchrun",), frozenset({"standalone", "no-python", "run-path"}), frozenset({"nproc-per-node"})
)  # torch 2.13, torch/distributed/run.py
_ACCELERATE = _Launcher(
    ("accelerate", "launch"),
    frozenset({
        "quiet", "q", "cpu", "multi-gpu", "tpu", "use-mps-device", "use-deepspeed", "use-fsdp", "use-megatron-lm",
        "use-xpu", "no-python", "enable-cpu-affinity", "debug", "use-parallelism-config",
    }),
    frozenset({"num-processes"}),
)  # accelerate 1.15, commands/launch.py  # fmt: skip
_MODULES = {
    "torch.distributed.run": _TORCHRUN.name,
    "torch.distributed.launch": _TORCHRUN.name,
    "accelerate.commands.launch": _ACCELERATE.name,
    "deepspeed.launcher.runner": ("deepspeed",),
}
_PYTHON_SWITCHES = frozenset("bBdEhiIOPqsSuvVx")  # python(1); -c, -m, -W and -X take a value


def line_instead(words: Sequence[str]) -> str | None:
    """The line of autofit that does what another launcher's does; None where the words are no such line."""
    name = Path(words[0]).name if words else ""
    if name == "deepspeed":
        return shell_line(["autofit", *words[1:]])
    if re.fullmatch(r"python(3(\.\d+)?)?", name):
        return _of_python(words[1:])
    for launcher in (_TORCHRUN, _ACCELERATE):
        count = len(launcher.name)
        if (name, *words[1:count]) == launcher.name:
            return _of_launcher(launcher, list(words[count:]))
    return None


def _of_python(words: Sequence[str]) -> str | None:
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "-m" and rest:
            return _of_module(rest)
        if word in ("-W", "-X") and rest:
            rest.pop(0)
        elif not set(word[1:]) <= _PYTHON_SWITCHES:
            return None
    return shell_line(["autofit", *rest]) if rest else None


def _of_module(words: Sequence[str]) -> str | None:
    launcher = _MODULES.get(words[0])
    return shell_line(["autofit", "--module", *words]) if launcher is None else line_instead([*launcher, *words[1:]])


def _of_launcher(launcher: _Launcher, rest: list[str]) -> str | None:
    """The line with the same script and as many devices; what else the launcher is told is for DeepSpeed's own."""
    options: list[str] = []
    while rest and rest[0].startswith("-"):
        word, equals, value = rest.pop(0).partition("=")
        name = word.lstrip("-").replace("_", "-")
        if word in _MODULE:
            options.append("--module")
        elif name not in launcher.switches:
            value = value if equals else rest.pop(0) if rest else ""
            if name in launcher.device_flags and value.isdigit():
                options += ["--num_gpus", value]
    return shell_line(["autofit", *options, *rest]) if rest else None
