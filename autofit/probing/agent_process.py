"""The agent as a process: started, fed, and ended with all that it started."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO

from autofit.probing.protocol import Command, to_line
from autofit.process.child import Child
from autofit.process.connection import Lines
from autofit.process.python import module_command
from autofit.process.signals import wait

_AGENT = "autofit.worker.agent.server"
_POLITE_S = 3.0  # an agent that is asked to end has this long: in the middle of an import, it is not worth waiting for


class AgentProcess(Child):
    """The process of an agent: `messages` is the descriptor on which it speaks; what libraries print goes to `log`.

    `program` stands for the agent's; it is told the descriptor and the arguments after its own words.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: IO[bytes],
        arguments: Sequence[str] = (),
        program: Sequence[str] = (),
    ) -> None:
        self._lines = Lines()
        self._heard: deque[bytes] = deque()
        self.messages, sending = os.pipe()
        super().__init__(
            [*(program or module_command(_AGENT)), str(sending), *arguments],
            log,
            environment=environment,
            stdin=subprocess.PIPE,
            pass_fds=[sending],
        )
        os.close(sending)

    def send(self, command: Command) -> None:
        """Sends a command; BrokenPipeError when the process has ended."""
        self.write(to_line(command))

    def next_line(self, within_s: float) -> bytes | None:
        """The next of its messages, waiting for it; None once it has ended. TimeoutError when none comes in time."""
        deadline_s = time.monotonic() + within_s
        while not self._heard:
            if not wait([self.messages], max(0.0, deadline_s - time.monotonic())):
                raise TimeoutError
            chunk = os.read(self.messages, 65536)
            if not chunk:
                return None
            self._heard.extend(self._lines.split(chunk))
        return self._heard.popleft()

    def close(self, grace_s: float = _POLITE_S) -> int:
        """Asks the process to end. Its fork server, that one's helpers, a compiler: nothing of it runs afterwards."""
        exit_code = self.end(grace_s, self._hang_up)
        os.close(self.messages)
        return exit_code

    def _hang_up(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it ended before it had read everything
