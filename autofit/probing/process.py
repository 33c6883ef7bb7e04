"""The agent as a process: started, fed, and ended with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

from autofit.domain.hardware import DeviceKind
from autofit.probing.agent import worker_environment
from autofit.probing.protocol import Command, to_line

_POLITE_S = 3.0  # an agent that is asked to end has this long before it is killed


class AgentProcess:
    """`messages` is the descriptor on which it speaks; what libraries print goes to `log`."""

    def __init__(self, kind: DeviceKind, log: IO[bytes], arguments: Sequence[str] = ()) -> None:
        self.messages, sending = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "autofit.worker.agent", str(sending), *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[sending],
            env=worker_environment(kind),
            start_new_session=True,
        )
        os.close(sending)

    def send(self, command: Command) -> None:
        """BrokenPipeError when it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(to_line(command))
        self._process.stdin.flush()

    def end(self, patience_s: float = _POLITE_S) -> int:
        """Its exit code, negative for a signal; nothing of it runs afterwards."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it ended before it had read everything
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            pass  # it is in the middle of something that is not worth waiting for
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # the fork server, its helpers, a compiler
        except ProcessLookupError:
            pass  # all of them ended by themselves
        exit_code = self._process.wait()
        os.close(self.messages)
        return exit_code
