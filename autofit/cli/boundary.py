"""The one place where errors end: each becomes a sentence on stderr and an exit code, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import click

from autofit.domain.errors import AutofitError, NothingFits
from autofit.domain.masking import masked
from autofit.process.best_effort_stream import BestEffortStream, leave
from autofit.process.signals import Terminated

INTERRUPTED = 130
_SIGNALLED = 128
_USAGE = 2
_OUR_BUG = 3
_PREFIX = "autofit: "


def die_of(number: int) -> NoReturn:
    """Ends this process by the signal, as one that does not handle it: whoever waits for it sees the signal itself."""
    for stream in (sys.stdout, sys.stderr):
        BestEffortStream(stream).flush()
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    raise AssertionError("a signal that ends nothing")


def guarded(action: Callable[[], None], words: list[str]) -> int:
    """The exit code of `action`; `words` are the command line, for the log of a crash."""
    try:
        action()
        BestEffortStream(sys.stdout).flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        print_error(_click_sentence(error))
        return _USAGE
    except AutofitError as error:
        return _expected(error, words)
    except Terminated as ended:
        print_error("interrupted." if ended.number == signal.SIGINT else "terminated.")
        return _SIGNALLED + ended.number
    except (KeyboardInterrupt, click.Abort):
        print_error("interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        leave(sys.stdout)
    except Exception as error:
        return _unexpected(error, words)
    return 0


def print_error(message: str) -> None:
    """Prints `autofit: …` on stderr, further lines under the first, without the environment's secrets; nothing when
    nobody can read it."""
    lines = masked(message, os.environ).splitlines()
    try:
        click.echo(_PREFIX + f"\n{' ' * len(_PREFIX)}".join(lines), err=True)
    except OSError:
        leave(sys.stderr)


def _expected(error: AutofitError, words: list[str]) -> int:
    if error.exit_code == _OUR_BUG:
        return _crashed(error, words)
    if not isinstance(error, NothingFits):  # the screen has told it
        print_error(str(error))
    return error.exit_code


def _unexpected(error: Exception, words: list[str]) -> int:
    """The last net: what the machine refuses is no bug of ours, wherever it did so."""
    from .system_error import system_sentence

    if (sentence := system_sentence(error)) is None:
        return _crashed(error, words)
    print_error(sentence)
    return AutofitError.exit_code


def _crashed(error: Exception, words: list[str]) -> int:
    first = (str(error).splitlines() or [""])[0]
    print_error(
        f"{type(error).__name__}: {first}\nThis is a bug of autofit, not of your command. {log_crash(error, words)}"
    )
    return _OUR_BUG


def log_crash(error: Exception, words: list[str]) -> str:
    """Writes our own bug down; gives the sentence that says where."""
    from .crash_log import write_crash_log

    try:
        return f"Please send this log with a report:\n{write_crash_log(error, words, os.environ)}"
    except OSError as reason:
        return f"Its log could not be written ({reason.strerror})."


def _click_sentence(error: click.ClickException) -> str:
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else "autofit"
    return f"{error.format_message().strip()}\n{command} --help tells more."
