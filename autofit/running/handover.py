"""The hand-over to DeepSpeed's launcher: its ranks see what they would see, and none of them outlives the command."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from autofit.running.python import module_command
from autofit.running.shared_memory import SharedMemory

GRACE_S = 30.0  # as long as DeepSpeed's launcher leaves the ranks that it ends
_POLITE_S = 5.0  # what outlives the launcher has this long
_REPEAT_S = 1.0  # a signal that comes twice within this time is one: `timeout` and a closed terminal send two
_LOOK_S = 0.05
_SIGNALLED = 128
_HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LAUNCHER = "autofit.worker.launcher"


def hand_over(
    words: Sequence[str],
    *,
    master_port: int,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
    grace_s: float = GRACE_S,
) -> int:
    """Runs `deepspeed` with `words` to its end: its exit code, or -n for signal n, of which the caller should die.

    `environment` stands for this process's, `command` for DeepSpeed's launcher. For the main thread of a process that
    has neither other threads nor children: from here on every process below it belongs to the job.
    """
    shared_memory = SharedMemory(master_port)
    with _held_signals() as (heeded, mask):

        def restore_mask() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

        process = subprocess.Popen(
            [*(command or module_command(_LAUNCHER)), *words], env=environment, preexec_fn=restore_mask
        )
        process.returncode, signalled = _see_out(process.pid, heeded, grace_s)
    shared_memory.clean()
    return _exit_code(process.returncode, signalled)


@contextmanager
def _held_signals() -> Iterator[tuple[set[signal.Signals], set[signal.Signals]]]:
    """Within, signals wait until they are asked for: those that are heeded, and the mask from before, for the child.

    One that is ignored from the start on, as under nohup, stays ignored.
    """
    heeded = {number for number in _HEEDED if signal.getsignal(number) is not signal.SIG_IGN}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, heeded | {signal.SIGCHLD})
    try:
        yield heeded, {signal.Signals(number) for number in mask}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _see_out(pid: int, heeded: set[signal.Signals], grace_s: float) -> tuple[int, int | None]:
    """The launcher's end, and that of everything below us: its exit code, and the signal that we were sent."""
    from autofit.running.passing_on import pass_on  # imported while the launcher is starting
    from autofit.running.process_tree import adopt_orphans, end_all, reap

    adopt_orphans()
    signalled = None
    while pid not in (ended := reap()):
        heard = signal.sigwaitinfo(heeded | {signal.SIGCHLD})
        if heard.si_signo != signal.SIGCHLD:
            signalled = heard.si_signo
            pass_on(heard, pid)
            ended = _wait_for_all(heeded, grace_s)
            break
    ended |= end_all(_POLITE_S if signalled is None else 0.0)
    return ended.get(pid, -signal.SIGKILL), signalled


def _wait_for_all(heeded: set[signal.Signals], grace_s: float) -> dict[int, int]:
    """Until nothing is left, the grace is over, or a second signal cuts it short; the exit codes by process id."""
    from autofit.running.process_tree import living, reap

    began_s, ended = time.monotonic(), reap()
    while living() and time.monotonic() - began_s < grace_s:
        heard = signal.sigtimedwait(heeded, _LOOK_S)
        ended |= reap()
        if heard is not None and time.monotonic() - began_s > _REPEAT_S:
            break
    return ended


def _exit_code(code: int, signalled: int | None) -> int:
    """The launcher's; where it died of what was sent to us, or had to be killed for it, we die of the same."""
    if code >= 0:
        return code
    return -signalled if signalled is not None else _SIGNALLED - code
