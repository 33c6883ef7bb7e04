"""What DeepSpeed's launcher starts as `python -m module`, forked from a process that has imported everything."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import ClassVar, NoReturn

from autofit.process.process_state import is_exiting

OnEnd = Callable[[Mapping[str, str], int], None]

_LOOK_S = 0.02
_EXITING_S = 30.0  # a killed process with a large part of a host's memory takes seconds


def _ignore(env: Mapping[str, str], exit_code: int, /) -> None:
    pass


class ForkedModule:
    """A child as the launcher sees it: what it uses of a `subprocess.Popen` on one node.

    `command` is a Python's with `-m`, and `env` all of the child's environment. `on_end` hears of that and of the exit
    code before the child is gone from /proc.
    """

    started: ClassVar[list[ForkedModule]] = []  # by this process

    def __init__(self, command: Sequence[str], env: Mapping[str, str], *, on_end: OnEnd = _ignore) -> None:
        at = command.index("-m")
        self.returncode: int | None = None
        self._tell_end = partial(on_end, dict(env))  # launch.py writes the next rank into the same one
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else the child would print it again
        self.pid = os.fork()
        if self.pid == 0:
            ForkedModule.started.clear()
            _run(command[at + 1], command[at + 1 :], env)
        ForkedModule.started.append(self)

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._waited(os.WNOHANG)

    def wait(self) -> int | None:
        """Waits for its end."""
        return self._waited(0)

    def has_done_well(self) -> bool:
        """Whether it has ended with 0; whoever polls it sees its end afterwards as before."""
        if self.returncode is not None:
            return self.returncode == 0
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None and ended.si_code == os.CLD_EXITED and ended.si_status == 0

    def _waited(self, options: int) -> int | None:
        if self.returncode is None and (ended := os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | options)):
            exit_code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            self._tell_end(exit_code)
            os.waitpid(self.pid, 0)
            self.returncode = exit_code
        return self.returncode


def sleep(seconds: float) -> None:
    """Sleeps, until all that was started has done well and nobody is left to wait for.

    launch.py looks once a second. Where a rank has failed it stays so: in that second one can see which was the first.
    """
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0 and not all(one.has_done_well() for one in ForkedModule.started):
        time.sleep(min(_LOOK_S, left_s))


def fork_modules_of(module: ModuleType, on_end: OnEnd = _ignore) -> None:
    """Has one of the launcher's modules fork what it would start, sleep no longer than there is a reason to, and look
    at all before it ends one of them."""
    start = partial(ForkedModule, on_end=on_end)
    for name, own in (("subprocess", {"Popen": start}), ("time", {"sleep": sleep})):
        setattr(module, name, SimpleNamespace(**vars(getattr(module, name)) | own))
    if (end := getattr(module, "terminate_process_tree", None)) is not None:
        module.terminate_process_tree = partial(_look_and_end, end)  # type: ignore[attr-defined]


def _look_and_end(end: Callable[[int], None], pid: int) -> None:
    """Ends a process and all below it. Who has ended until then, or is about to, has done so by itself, which is told
    now: psutil, with which launch.py waits for their ends, keeps their exit codes for itself."""
    until_s = time.monotonic() + _EXITING_S
    for one in ForkedModule.started:
        with suppress(ChildProcessError):  # it was ended here before
            while one.poll() is None and is_exiting(one.pid) and time.monotonic() < until_s:
                time.sleep(_LOOK_S)
    end(pid)


def _run(name: str, words: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Runs the `main` of a module, and ends this process as Python would."""
    code: object = 1
    try:
        _forget_handlers()
        os.environ.clear()
        os.environ.update(env)
        sys.argv = list(words)
        importlib.import_module(name).main()
        code = 0
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
    leave(code)


def _forget_handlers() -> None:
    """Handles no signal that the launcher does, as after an exec."""
    for number in signal.valid_signals():
        if callable(handler := signal.getsignal(number)) and handler is not signal.default_int_handler:
            signal.signal(number, signal.SIG_DFL)


def leave(code: object) -> NoReturn:
    """Ends this process at once with what `sys.exit` was given: an interpreter with torch in it takes half a second to
    be taken apart."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
