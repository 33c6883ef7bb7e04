"""DeepSpeed's launcher, in this process, as `deepspeed` runs it; one that was killed is not reported as a success.

With pdsh it leaves the ranks on the nodes to whoever started it, and tells them in a file how it has called pdsh.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from types import SimpleNamespace
from typing import Any

from autofit.domain.codec import to_json
from autofit.process.pdsh_call import PdshCall

_SIGNALLED = 128


class _Child(subprocess.Popen[bytes]):
    """What the launcher starts: its launch.py, or the back end of several nodes."""

    last: _Child | None = None
    tell_to: int  # the file's descriptor

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        command = _with_first_pid(command)
        call = PdshCall.of(command, env, f"autofit={uuid.uuid4().hex}")
        if call is None:
            super().__init__(command, env=env)
        else:
            os.write(_Child.tell_to, to_json(call).encode())
            super().__init__(call.words, env=env, start_new_session=True)  # out of reach of the terminal's Ctrl-C
        _Child.last = self


def _with_first_pid(command: list[str]) -> list[str]:
    """The words with the process that `--save_pid` names, the first that invoked `deepspeed`: the one above this
    one."""
    own, at = ["--save_pid", str(os.getpid())], range(len(command) - 1)
    found = next((i for i in at if command[i : i + 2] == own), None)
    return command if found is None else [*command[: found + 1], str(os.getppid()), *command[found + 2 :]]


def _die_of(number: int, _: Any) -> None:
    """Dies of a signal, in place of DeepSpeed's handlers with pdsh, which end whatever it has started on the nodes,
    other jobs too."""
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


def main() -> None:
    """Runs the launcher and leaves with the code of `deepspeed`, and with 128 + n where it would take an end by signal
    n for a success.

    The first argument is the descriptor of the file to tell to, the others are those of `deepspeed`.
    """
    _Child.tell_to = int(sys.argv.pop(1))
    sys.argv[0] = "deepspeed"
    from deepspeed.launcher import runner

    runner.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": _Child})
    runner.signal = SimpleNamespace(**vars(signal) | {"signal": _die_of})
    runner.main()
    if _Child.last is not None and _Child.last.returncode < 0:
        sys.exit(_SIGNALLED - _Child.last.returncode)


if __name__ == "__main__":
    main()
