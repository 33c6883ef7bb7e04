"""The hand-over to DeepSpeed's launcher: its ranks see what they would see, and none of them outlives the command."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from tempfile import TemporaryFile

from autofit.domain.job_end import Completed, Interrupted, JobEnd
from autofit.domain.outcome import Failure, Phase
from autofit.process.build_locks.stale_locks import drop_abandoned, taking_locks_of
from autofit.process.orphans import adopt_orphans
from autofit.process.python import module_command
from autofit.process.rendezvous import SharedMemory
from autofit.process.signals import check

GRACE_S = 30.0  # as long as DeepSpeed's launcher leaves the ranks that it ends
_POLITE_S = 5.0  # what outlives the launcher has this long
_SIGNALLED = 128
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LAUNCHER = "autofit.worker.deepspeed.launcher_main"
# After days, when they may have changed.
_NEEDED_LATER = ("autofit.running.signal_forwarding", "autofit.running.node_ranks", "autofit.probing.evidence")


@dataclass(frozen=True)
class _Seen:
    """What was seen of the job: the launcher's exit code, -n for signal n, and the signal that we were sent."""

    code: int
    signalled: int | None
    oom_kills: int
    total_s: float


def hand_over(
    words: Sequence[str],
    *,
    master_port: int,
    command: Sequence[str] = (),
    grace_s: float = GRACE_S,
) -> JobEnd:
    """Runs `deepspeed` with `words` to its end, whatever that is.

    `command` stands for DeepSpeed's launcher. For the main thread of a process that has neither other threads nor
    children: from here on every process below it belongs to the job.
    """
    shared_memory = SharedMemory(master_port)
    drop_abandoned()  # with one of them the job would wait for ever
    adopt_orphans()
    with TemporaryFile() as told, _held_signals() as (handled, mask):

        def restore_mask() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

        program = command or [*module_command(_LAUNCHER), str(told.fileno())]
        process = subprocess.Popen([*program, *words], pass_fds=[told.fileno()], preexec_fn=restore_mask)
        seen = _watched(process.pid, told.fileno(), handled, grace_s)
        process.returncode = seen.code
        shared_memory.clean()  # before a signal that came meanwhile is heard
    return JobEnd(_exit_code(seen.code, seen.signalled), _end(seen))


@contextmanager
def _held_signals() -> Iterator[tuple[set[signal.Signals], set[signal.Signals]]]:
    """Holds signals within it until they are asked for. Gives those that are handled, and the mask from before, for the
    child.

    One that is ignored from the start on, as under nohup, stays ignored.
    """
    handled = {number for number in _HANDLED if signal.getsignal(number) is not signal.SIG_IGN}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled | {signal.SIGCHLD})
    try:
        check()  # one that came before, and that nobody has asked for yet
        yield handled, {signal.Signals(number) for number in mask}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _watched(pid: int, told: int, handled: set[signal.Signals], grace_s: float) -> _Seen:
    from autofit.hardware.cgroup import oom_kill_count  # imported while the launcher is starting

    began_at_s, kills_before = time.monotonic(), oom_kill_count() or 0
    code, signalled = _see_out(pid, told, handled, grace_s)
    return _Seen(code, signalled, (oom_kill_count() or 0) - kills_before, time.monotonic() - began_at_s)


def _see_out(pid: int, told: int, handled: set[signal.Signals], grace_s: float) -> tuple[int, int | None]:
    """Waits for the end of the launcher and of everything that it has started: its exit code, and the signal that we
    were sent.

    `told` is the file in which it says what it has started on other nodes.
    """
    from autofit.process.process_tree import end_all  # imported while the launcher is starting

    for name in _NEEDED_LATER:
        import_module(name)
    code, heard = _end_or_signal(pid, handled)
    if heard is not None:
        return _pass_on(heard, pid, told, handled, grace_s), heard.si_signo
    if code != 0:
        _end_on_nodes(told, signal.SIGTERM, _POLITE_S, handled)
    end_all(_POLITE_S)
    return code, None


def _end_or_signal(pid: int, handled: set[signal.Signals]) -> tuple[int, signal.struct_siginfo | None]:
    """Waits for the launcher's exit code, unless a signal for us comes first."""
    from autofit.process.process_tree import reap

    while pid not in (ended := reap()):
        heard = signal.sigwaitinfo(handled | {signal.SIGCHLD})
        if heard.si_signo != signal.SIGCHLD:
            return 0, heard
    return ended[pid], None


def _pass_on(heard: signal.struct_siginfo, pid: int, told: int, handled: set[signal.Signals], grace_s: float) -> int:
    """Forwards a signal, waits until nothing is left, and gives the launcher's exit code."""
    from autofit.process.process_tree import end_all, living
    from autofit.running.grace_period import GracePeriod
    from autofit.running.signal_forwarding import forward_signal

    grace_period = GracePeriod(handled, grace_s)
    with taking_locks_of(os.getpid()):
        forward_signal(heard, pid)
        grace_period.wait_until(lambda: pid in grace_period.ended)  # now it starts nothing any more
        _end_on_nodes(told, heard.si_signo, grace_s, handled)
        grace_period.wait_until(lambda: not living())
        return (end_all(0.0) | grace_period.ended).get(pid, -signal.SIGKILL)


def _end_on_nodes(told: int, number: int, grace_s: float, handled: set[signal.Signals]) -> None:
    """Ends the ranks on the nodes, where the launcher has come to call pdsh."""
    if os.fstat(told).st_size == 0:
        return
    from autofit.running.node_ranks import NodeRanks

    NodeRanks.read_from(told).end(number, grace_s, handled)


def _end(seen: _Seen) -> Completed | Interrupted | Failure:
    from autofit.probing.evidence import Evidence, failure

    if seen.signalled is not None:
        return Interrupted(seen.signalled)
    if seen.code == 0:
        return Completed()
    return failure(Evidence((), seen.oom_kills, None, seen.total_s, exit_code=seen.code, unseen=Phase.SCRIPT))


def _exit_code(code: int, signalled: int | None) -> int:
    """The exit code of the launcher; where it died of what was sent to us, or had to be killed for it, we die of the
    same."""
    if code >= 0:
        return code
    return -signalled if signalled is not None else _SIGNALLED - code
