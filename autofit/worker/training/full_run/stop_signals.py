"""The signals that ask a rank to save and end: a scheduler's, a closed terminal's, and the supervisor's."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
_TO_END = {signal.SIGINT, signal.SIGTERM}  # both, in whatever order they arrive
_SIG_DFL = 0

_before_fork = threading.local()  # .mask: what this thread held back anyway


class StopSignals:
    """Notes the first of these signals, whatever the main thread is at: a collective may hold it for long.

    launch.py sends SIGTERM as well where another rank has failed, to ranks that would wait for that one for ever:
    `has_lost_neighbour` tells the two apart, and the rank dies of it as any process does; so it does after SIGINT, with
    which whoever supervises it has it end at once.
    """

    def __init__(self, has_lost_neighbour: Callable[[], bool]) -> None:
        self._has_lost_neighbour = has_lost_neighbour
        self._reading, self._writing = os.pipe()
        self._all_heard: set[int] = set()
        self.heard: int | None = None

    def listen(self) -> None:
        """Listens from now on; a signal that is ignored (nohup) stays so. For the main thread, once."""
        os.set_blocking(self._writing, False)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_forget)
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _wake)
        threading.Thread(target=self._hear, name="signals", daemon=True).start()

    def _hear(self) -> None:
        while True:
            select.select([self._reading], [], [])
            for number in os.read(self._reading, 4096):
                self._note(number)

    def _note(self, number: int) -> None:
        self._all_heard.add(number)
        if self._all_heard.issuperset(_TO_END) or (number == signal.SIGTERM and self._has_lost_neighbour()):
            _die_of(signal.SIGTERM)
        if number in STOP_SIGNALS and self.heard is None:
            self.heard = number


def _wake(number: int, frame: FrameType | None) -> None:
    """Does nothing: that there is a handler has Python write the number to the pipe."""


def _hold_back() -> None:
    """Until a child has forgotten, a signal to it would be told to the rank through the pipe, and the child live on."""
    _before_fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*STOP_SIGNALS, signal.SIGINT})


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before_fork.mask)


def _forget() -> None:
    """Has a child of this rank's, such as a worker that loads data, die of these signals and tell nobody."""
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is _wake:
            signal.signal(number, signal.SIG_DFL)
    _let_through()


def _die_of(number: int) -> None:
    ctypes.CDLL(None).signal(number, _SIG_DFL)  # Python's own is for the main thread alone
    os.kill(os.getpid(), number)
