"""A process that is started here, and ended with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from autofit.process.build_locks.stale_locks import taking_locks_of
from autofit.process.host_processes import kill_sessions
from autofit.process.signals import shielded, wait

_FIRST_POLL_S, _LONGEST_POLL_S = 0.001, 0.05
_GONE_S = 60.0  # a killed process may take as long to give its device's memory back; then nobody can do more


class Child:
    """A process that leads a session of its own, so that Ctrl-C reaches it through us alone. What it prints goes to
    `log`, or what it complains of to `errors`.

    When it is ended, the locks of the builds that it or anything below it is at are taken away.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: IO[bytes],
        *,
        environment: Mapping[str, str] | None = None,
        errors: IO[bytes] | None = None,
        stdin: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=log,
            stderr=errors or log,
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def write(self, line: bytes) -> None:
        """Writes to its standard input, which must be a pipe; BrokenPipeError when it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def has_ended(self, within_s: float) -> bool:
        """Waits for its end, for so long, or until a signal for us comes (see signals)."""
        deadline_s, poll_s = time.monotonic() + within_s, _FIRST_POLL_S
        while self._process.poll() is None:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            wait((), min(poll_s, left_s))
            poll_s = min(2 * poll_s, _LONGEST_POLL_S)
        return True

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to it and to all of its group that still runs."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass  # all of them have ended by themselves

    def kill(self) -> int:
        """Kills it, so that nothing of its session runs afterwards; gives its exit code, negative for a signal."""
        with taking_locks_of(self.pid):
            self.send_signal(signal.SIGKILL)
            kill_sessions((self.pid,))
            with shielded():
                self.has_ended(_GONE_S)
        exit_code = self.exit_code
        return -signal.SIGKILL if exit_code is None else exit_code

    def end(self, grace_s: float, ask: Callable[[], None] = lambda: None) -> int:
        """Asks it to end and lets it do so for so long, then kills what is left of its session; its exit code."""
        with taking_locks_of(self.pid):  # while one can still see what it has started
            ask()
            self.has_ended(grace_s)
            return self.kill()


def run_to_end(
    command: Sequence[str],
    log: IO[bytes],
    *,
    errors: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs a command to its end, and gives its exit code. A signal for us ends it, with all that it started."""
    child = Child(command, log, errors=errors, environment=environment)
    try:
        while not child.has_ended(_GONE_S):
            pass
    finally:
        exit_code = child.kill()
    return exit_code
