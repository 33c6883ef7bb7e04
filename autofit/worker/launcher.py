"""DeepSpeed's launcher, in this process, as `deepspeed` runs it; one that was killed is not reported as a success."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType, SimpleNamespace
from typing import Any

_SIGNALLED = 128


class _Child(subprocess.Popen):
    """What the launcher starts: its launch.py, or the back end of several nodes."""

    last: _Child | None = None

    def __init__(self, command: list[str], **settings: Any) -> None:
        super().__init__(_with_first_pid(command), **settings)
        _Child.last = self


def _with_first_pid(command: list[str]) -> list[str]:
    """`--save_pid` names the first process that invoked `deepspeed`: the one above this one."""
    own, at = ["--save_pid", str(os.getpid())], range(len(command) - 1)
    found = next((i for i in at if command[i : i + 2] == own), None)
    return command if found is None else [*command[: found + 1], str(os.getppid()), *command[found + 2 :]]


def _hang_up(number: int, frame: FrameType | None) -> None:
    """With pdsh SIGTERM ends the ranks on all nodes, and SIGHUP would not."""
    on_terminate = signal.getsignal(signal.SIGTERM)
    if callable(on_terminate):
        on_terminate(signal.SIGTERM, frame)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def main() -> None:
    """Leaves with the code of `deepspeed`, and with 128 + n where it would take an end by signal n for a success."""
    sys.argv[0] = "deepspeed"
    from deepspeed.launcher import runner

    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _hang_up)
    runner.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": _Child})
    runner.main()
    if _Child.last is not None and _Child.last.returncode < 0:
        sys.exit(_SIGNALLED - _Child.last.returncode)


if __name__ == "__main__":
    main()
