"""The full run as a child: DeepSpeed's launcher and its ranks, started, watched and never left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from autofit.domain.codec import decode_union
from autofit.domain.event import RankEvent
from autofit.domain.hardware import Hardware
from autofit.domain.outcome import TimedOut
from autofit.probing.protocol import RankEnd
from autofit.process.child import Child
from autofit.process.python import SAFE_PATH, module_command, worker_environment
from autofit.process.rendezvous import free_port, remove_shared_memory
from autofit.process.signals import ShieldedExit
from autofit.running.rank_watch import RankWatch
from autofit.running.standby import WARM_LAUNCHER, Standby
from autofit.running.training_command import TrainingFiles, launcher_arguments, training_arguments

_POLL_S = 0.2  # how often the progress file is read
_POLITE_S = 5.0  # ranks that are asked to end have this long before they are killed

STALL_S = 1800.0  # a collective waits for longer; a save of a large model takes minutes


class Launcher(ShieldedExit):
    """One training from `with` to the end of `with`: whatever ends the block ends every rank too.

    `standby` may have a launcher that waits for it; without one `program`, which stands for DeepSpeed's, is started.
    Once `watch` is through, `ends` are those of its ranks, as they were when that was over, and `timed_out` is None
    unless they are to be ended since none of them moves.
    """

    def __init__(
        self,
        hardware: Hardware,
        files: TrainingFiles,
        log_path: Path,
        *,
        standby: Standby | None = None,
        program: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._standby = standby
        self._program = program or module_command(WARM_LAUNCHER)
        self._hardware = hardware
        self._files = files
        self._log_path = log_path
        self._clock = clock
        self._port = free_port()
        self._ranks = RankWatch(files.reports, hardware.rank_count)
        self.ends: tuple[RankEnd, ...] = ()
        self.timed_out: TimedOut | None = None

    def __enter__(self) -> Launcher:
        words = [
            *launcher_arguments(self._hardware, master_port=self._port),
            *training_arguments(self._hardware, self._files),
            *["--supervisor", str(os.getpid())],
        ]
        self._files.beat.touch()
        self._child = self._taken(words) or self._started(words)
        return self

    def _taken(self, words: Sequence[str]) -> Child | None:
        return None if self._standby is None else self._standby.take(words)

    def _started(self, words: Sequence[str]) -> Child:
        with self._log_path.open("ab") as log:
            environment = worker_environment(self._hardware.kind) | SAFE_PATH
            return Child([*self._program, *words], log, environment=environment)

    def _close(self) -> None:
        self._child.end(_POLITE_S, self._interrupt)
        remove_shared_memory(str(self._port))

    def _interrupt(self) -> None:
        if self._child.exit_code is None:
            self._child.send_signal(signal.SIGINT)  # the only one that DeepSpeed's launcher passes on to a whole group

    def watch(self) -> Iterator[RankEvent]:
        """Yields what the ranks tell, as it comes, until the launcher has ended, or no rank has moved for too long."""
        position, pulse = 0, _Pulse(self._files.beat, self._clock)
        while True:
            has_ended = self._child.has_ended(_POLL_S)
            self._ranks.poll()
            if not has_ended and pulse.silent_s() > STALL_S:
                self.timed_out = TimedOut(0, self._ranks.phase(0), STALL_S)
                self.ends = self._ranks.ends()  # what they say when they are ended is not what went wrong
                return
            lines, position = _new_lines(self._files.progress, position)
            for line in lines:
                yield decode_union(RankEvent, json.loads(line))
            if has_ended:
                self.ends = self._ranks.ends()
                return

    @property
    def exit_code(self) -> int:
        """The launcher's exit code, once `with` is through."""
        exit_code = self._child.exit_code
        assert exit_code is not None
        return exit_code


class _Pulse:
    """The pulse of the ranks, by a file that they touch. Its date says only that it was touched: their clock may be set
    anew."""

    def __init__(self, beat: Path, clock: Callable[[], float]) -> None:
        self._beat = beat
        self._clock = clock
        self._seen_ns = self._touched_ns()
        self._seen_at_s = clock()

    def silent_s(self) -> float:
        """Seconds since it was last seen touched."""
        if (touched_ns := self._touched_ns()) != self._seen_ns:
            self._seen_ns, self._seen_at_s = touched_ns, self._clock()
        return self._clock() - self._seen_at_s

    def _touched_ns(self) -> int:
        return self._beat.stat().st_mtime_ns


def _new_lines(path: Path, position: int) -> tuple[list[bytes], int]:
    """The whole lines after `position`, and where they end."""
    if not path.exists():
        return [], position
    with path.open("rb") as stream:
        stream.seek(position)
        whole, _, _ = stream.read().rpartition(b"\n")
    return (whole.split(b"\n"), position + len(whole) + 1) if whole else ([], position)
