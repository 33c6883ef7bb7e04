"""The full run as a child: DeepSpeed's launcher and its ranks, started, watched and never left behind."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from autofit.domain.codec import decode_union
from autofit.domain.ending import PLACES
from autofit.domain.event import Note, RankEvent
from autofit.domain.hardware import Hardware
from autofit.domain.outcome import Phase, TimedOut
from autofit.domain.run_end import Unsaved
from autofit.probing.protocol import RankEnd
from autofit.process import signals
from autofit.process.child import Child
from autofit.process.python import SAFE_PATH, module_command, worker_environment
from autofit.process.rendezvous import free_port, remove_shared_memory
from autofit.process.signals import ShieldedExit
from autofit.process.stacks import Asked, write_stacks
from autofit.running.rank_signs import RankSigns
from autofit.running.rank_watch import RankWatch
from autofit.running.stall_judge import StallJudge
from autofit.running.standby import WARM_LAUNCHER, Standby
from autofit.running.stop_request import Demand, StopRequest, TrainingPreempted
from autofit.running.supervision import USUAL, Supervision
from autofit.running.training_command import TrainingFiles, launcher_arguments, training_arguments

_POLL_S = 0.2  # how often the progress file is read
_POLITE_S = 5.0  # ranks that are asked to end have this long before they are killed


class Launcher(ShieldedExit):
    """One training from `with` to the end of `with`: whatever ends the block ends every rank too.

    `standby` may have a launcher that waits for it; without one `program`, which stands for DeepSpeed's, is started.
    Once `watch` is through, `ends` are those of its ranks, as they were when that was over, and `timed_out` is None
    unless they are to be ended since none of them moves: then their stacks are in the log.
    """

    def __init__(
        self,
        hardware: Hardware,
        files: TrainingFiles,
        log_path: Path,
        *,
        standby: Standby | None = None,
        program: Sequence[str] = (),
        supervision: Supervision = USUAL,
    ) -> None:
        self._standby = standby
        self._program = program or module_command(WARM_LAUNCHER)
        self._hardware = hardware
        self._files = files
        self._log_path = log_path
        self._clock = supervision.clock
        self._port = free_port()
        self._ranks = RankWatch(files.reports, hardware.rank_count)
        self._signs = RankSigns(files.reports, self._clock)
        self._stall = StallJudge(least_s=supervision.least_stall_s, step_s=supervision.step_s)
        self.stop = StopRequest(supervision.grace_s, self._clock)
        self.ends: tuple[RankEnd, ...] = ()
        self.timed_out: TimedOut | None = None

    def __enter__(self) -> Launcher:
        words = [
            *launcher_arguments(self._hardware, master_port=self._port),
            *training_arguments(self._hardware, self._files),
            *["--supervisor", str(os.getpid())],
        ]
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
        """Yields what the ranks tell, as it comes, until the launcher has ended, or no rank has moved for too long.

        A signal for us has the ranks save and end, within the grace. Raises KeyboardInterrupt or Terminated for one
        with which they are to end at once, TrainingPreempted where the grace is over.
        """
        position = 0
        while True:
            has_ended = self._child.has_ended(_POLL_S)
            self._ranks.poll()
            if not has_ended:
                yield from self._obey()
                if self._has_stalled():
                    return
            lines, position = _new_lines(self._files.progress, position)
            for line in lines:
                yield decode_union(RankEvent, json.loads(line))
            if has_ended:
                self.ends = self._ranks.ends()
                return

    def _obey(self) -> Iterator[RankEvent]:
        """Does what a signal asks for that has come since the last look."""
        if (number := signals.take()) is not None:
            demand = self.stop.hear(number, can_save=self._can_save)
            if demand is Demand.END:
                signals.raise_for(number)
            if demand is Demand.SAVE:
                self._ask_to_save()
                yield Note(self.stop.text)
        if self.stop.is_over and self.stop.signal is not None:
            raise TrainingPreempted(Unsaved(self.stop.signal, self.stop.grace_s))

    @property
    def _can_save(self) -> bool:
        """Whether there is a step to save, or the trained model is being saved."""
        places = self._ranks.places().values()
        return any(place.step > 0 or place.phase is Phase.SAVE for place in places)

    def _ask_to_save(self) -> None:
        for place in self._ranks.places().values():
            try:
                os.kill(place.process_id, signal.SIGUSR1)
            except ProcessLookupError:
                pass  # it has ended by itself: what it left tells of that

    def _has_stalled(self) -> bool:
        """Whether no rank has moved for too long. Then the stacks of all are in the log."""
        places = self._ranks.places()
        self.timed_out = self._stall.take(self._signs.look(places), self._clock())
        if self.timed_out is None:
            return False
        self.ends = self._ranks.ends()  # what they say when they are ended is not what went wrong
        asked = [Asked(one.process_id, f"rank {rank}, in {PLACES[one.phase]}") for rank, one in places.items()]
        write_stacks(asked, self._log_path)
        return True

    @property
    def exit_code(self) -> int:
        """The launcher's exit code, once `with` is through."""
        exit_code = self._child.exit_code
        assert exit_code is not None
        return exit_code


def _new_lines(path: Path, position: int) -> tuple[list[bytes], int]:
    """The whole lines after `position`, and where they end."""
    if not path.exists():
        return [], position
    with path.open("rb") as stream:
        stream.seek(position)
        whole, _, _ = stream.read().rpartition(b"\n")
    return (whole.split(b"\n"), position + len(whole) + 1) if whole else ([], position)
