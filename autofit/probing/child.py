"""A process that is started here, and ended with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO


class Child:
    """It leads a session of its own, so Ctrl-C reaches it through us alone. What it prints goes to `log`."""

    def __init__(
        self,
        command: Sequence[str],
        log: IO[bytes],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=log,
            stderr=log,
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal; None while it runs."""
        return self._process.poll()

    def has_ended(self, within_s: float) -> bool:
        """Waits for its end, for so long."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send_signal(self, number: signal.Signals) -> None:
        """To it and to all of its group that still runs."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass  # all of them have ended by themselves

    def kill(self) -> int:
        """Nothing of its group runs afterwards; its exit code, negative for a signal."""
        self.send_signal(signal.SIGKILL)
        return self._process.wait()

    def end(self, patience_s: float) -> int:
        """Lets it end by itself for so long, then kills what is left of its group; its exit code."""
        self.has_ended(patience_s)
        return self.kill()
