"""The agent as a process: started, fed, and ended with all that it started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

from autofit.domain.hardware import DeviceKind
from autofit.probing.child import Child
from autofit.probing.environment import worker_environment
from autofit.probing.protocol import Command, to_line

_POLITE_S = 3.0  # an agent that is asked to end has this long: in the middle of an import, it is not worth waiting for


class AgentProcess(Child):
    """`messages` is the descriptor on which it speaks; what libraries print goes to `log`."""

    def __init__(self, kind: DeviceKind, log: IO[bytes], arguments: Sequence[str] = ()) -> None:
        self.messages, sending = os.pipe()
        super().__init__(
            [sys.executable, "-m", "autofit.worker.agent", str(sending), *arguments],
            log,
            environment=worker_environment(kind),
            stdin=subprocess.PIPE,
            pass_fds=[sending],
        )
        os.close(sending)

    def send(self, command: Command) -> None:
        """BrokenPipeError when it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(to_line(command))
        self._process.stdin.flush()

    def end(self, patience_s: float = _POLITE_S) -> int:
        """Asks it to end. Its fork server, that one's helpers, a compiler: nothing of it runs afterwards."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it ended before it had read everything
        exit_code = super().end(patience_s)
        os.close(self.messages)
        return exit_code
