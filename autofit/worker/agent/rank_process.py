"""One rank of a probe, as the one who forked it sees it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from autofit.domain.outcome import Phase
from autofit.probing.protocol import RankReport, read_report

_PASSES = (Phase.FORWARD, Phase.REFERENCE, Phase.BACKWARD, Phase.STEP)
"""Where nobody else's code takes as long as it likes, as a reward does."""


@dataclass
class RankProcess:
    rank: int
    process: BaseProcess
    heartbeats: Connection
    report_path: Path
    silence_s: float  # that it is given
    heard_at_s: float  # time.monotonic
    step_silence_s: float | None = None  # the same within a step, where it is less
    phase: Phase = Phase.START
    has_started: bool = False
    was_killed: bool = False

    @property
    def deadline_s(self) -> float:
        """The time at which it will have been silent for too long (time.monotonic)."""
        return self.heard_at_s + self.patience_s

    @property
    def patience_s(self) -> float:
        """How long it may be silent where it is now."""
        if self.phase not in _PASSES or self.step_silence_s is None:
            return self.silence_s
        return min(self.silence_s, self.step_silence_s)

    @property
    def is_running(self) -> bool:
        return self.process.exitcode is None

    @property
    def has_failed(self) -> bool:
        return self.process.exitcode not in (None, 0)

    def kill(self) -> None:
        """Ends the rank and whatever it started: it leads a session of its own."""
        if not self.is_running:
            return
        self.was_killed = True
        try:
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()  # it has not become a leader yet

    def report(self) -> RankReport | None:
        return read_report(self.report_path.read_bytes()) if self.report_path.exists() else None
