"""SIGINT, SIGTERM, SIGHUP and their like: noted when they come, and raised only where we wait or ask for them."""

from __future__ import annotations

import os
import select
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn, TypeVar

_ALWAYS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STUCK_S = 5.0  # when nobody has asked for a signal after so long, we are in code that may never return
_SIGNALLED = 128


class Terminated(KeyboardInterrupt):
    """SIGTERM or its like came: the command is left in the same good order as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return f"ended by {signal.Signals(self.number).name}"


Source = TypeVar("Source")  # a descriptor, or what has one


class _Process:
    """What this process has noted; there is one."""

    def __init__(self) -> None:
        self.numbers: tuple[signal.Signals, ...] = _ALWAYS
        self.noted: int | None = None
        self.shields = 0
        self.holds = 0
        self.waker: int | None = None  # becomes readable when a signal comes, to whatever thread


_process = _Process()


def note_signals(*others: signal.Signals) -> None:
    """Notes these signals, and `others`, from now on; one that is ignored from the start (nohup) stays so. For the main
    thread."""
    _process.numbers = (*_ALWAYS, *others)
    if _process.waker is None:
        _process.waker, writing = os.pipe()
        for descriptor in (_process.waker, writing):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    _install()


def ignore_signals() -> None:
    """Lets whatever comes from now on change nothing: this process ends, with the exit code that it has."""
    for number in _process.numbers:
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0.0)


def check() -> None:
    """Raises KeyboardInterrupt, or Terminated, when a signal was noted; each is raised once, and none within a shield
    or a hold."""
    if not _process.shields and not _process.holds and (number := take()) is not None:
        raise_for(number)


def take() -> int | None:
    """The signal that was noted, None without one: it is the caller's now, and is not raised."""
    number, _process.noted = _process.noted, None
    if number is not None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    return number


def put_back(number: int) -> None:
    """Has the next `check` raise what was taken."""
    _process.noted = number


def raise_for(number: int) -> NoReturn:
    """Raises what `check` raises for this signal."""
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


@contextmanager
def held() -> Iterator[None]:
    """Raises no signal within it: whoever has an answer of their own to one takes it, again and again."""
    _process.holds += 1
    try:
        yield
    finally:
        _process.holds -= 1


def wait(sources: Sequence[Source], timeout_s: float | None = None) -> list[Source]:
    """The ones of `sources` that can be read, none after `timeout_s`; raises as `check` when a signal comes
    meanwhile."""
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    waker = [] if _process.waker is None or _process.shields else [_process.waker]
    watched: list[Any] = [*waker, *sources]
    while True:
        check()
        left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
        ready, _, _ = select.select(watched, [], [], left_s)
        if ready != waker or not waker:
            return [source for source in ready if source not in waker]
        os.read(waker[0], 4096)  # a signal came; which one is noted


@contextmanager
def shielded() -> Iterator[None]:
    """Lets no wait within it be cut short by a signal: for putting processes away. The signal is raised afterwards.

    Where nobody handles signals, their own handlers get them afterwards.
    """
    before = _install()
    _process.shields += 1
    try:
        yield
    finally:
        _process.shields -= 1
        _give_back(before)
        check()


def _install() -> dict[signal.Signals, Any]:
    """The handlers from before, of those signals that are noted only from now on."""
    all_of_them = {number: signal.getsignal(number) for number in _process.numbers}
    theirs = {number: one for number, one in all_of_them.items() if one not in (signal.SIG_IGN, _note)}
    for number in theirs:
        signal.signal(number, _note)
    return theirs


def _give_back(before: dict[signal.Signals, Any]) -> None:
    """Gives the handlers from before what was noted meanwhile."""
    if not before:
        return
    number, _process.noted = _process.noted, None
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    for one, handler in before.items():
        signal.signal(one, handler)
    if number is not None:
        signal.raise_signal(number)


def _note(number: int, frame: FrameType | None) -> None:
    if _process.noted is None:
        _process.noted = number
        signal.signal(signal.SIGALRM, _leave)
        signal.setitimer(signal.ITIMER_REAL, _STUCK_S)


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends this process at once: what we have started ends with us, as after a kill."""
    if _process.noted is not None and not _process.shields:
        os._exit(_SIGNALLED + _process.noted)
    signal.setitimer(signal.ITIMER_REAL, _STUCK_S if _process.shields else 0.0)


class ShieldedExit(ABC):
    """A context whose end is not cut short by a signal: that arrives afterwards."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with shielded():
            self._close()

    @abstractmethod
    def _close(self) -> None:
        """Leaves nothing behind."""
