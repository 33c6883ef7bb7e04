"""Where DeepSpeed's launcher would start ranks: its own `main`, stopped where it would start something.

Prints one JSON line, the Layout, behind whatever DeepSpeed says; ends with another code than 0 where DeepSpeed refuses.
"""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any, NoReturn

from autofit.domain.codec import to_json
from autofit.domain.deepspeed_line import HostSlots, Layout


class _Reached(BaseException):
    """The launcher is about to start its one child."""

    def __init__(self, command: list[str], **_: Any) -> None:
        super().__init__()
        self.command = command


def _start_nothing(command: list[str], **settings: Any) -> NoReturn:
    raise _Reached(command)


def layout_of(words: list[str]) -> Layout:
    """The layout for these words; SystemExit, ValueError, RuntimeError or AssertionError where DeepSpeed refuses them.
    Asks no other host."""
    from deepspeed.launcher import runner

    seen: list[dict[str, list[int]]] = []
    encode_world_info, parse_args = runner.encode_world_info, runner.parse_args

    def see_world(world: dict[str, list[int]]) -> str:
        seen.append(world)
        return str(encode_world_info(world))

    def parse(arguments: list[str]) -> Any:
        found = parse_args(arguments)
        found.autotuning = ""  # it would start a search of DeepSpeed's here
        return found

    silent = {
        "Popen": _start_nothing,
        "check_call": lambda command, **_: 0,  # whether ssh works
        "check_output": lambda command, **_: b"127.0.0.1",  # the first host's address
    }
    runner.subprocess = SimpleNamespace(**vars(subprocess) | silent)
    runner.encode_world_info, runner.parse_args = see_world, parse
    try:
        runner.main(words)
    except _Reached as reached:
        hosts = tuple(HostSlots(host, tuple(slots)) for host, slots in seen[0].items())
        return Layout(hosts, is_multi_node=reached.command[0] != sys.executable)
    raise AssertionError("DeepSpeed's launcher started nothing")


if __name__ == "__main__":
    print(to_json(layout_of(sys.argv[1:])), flush=True)
