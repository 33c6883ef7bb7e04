"""What goes wrong on the user's side, each with a sentence that says what, where and what to do."""

from __future__ import annotations


class AutofitError(Exception):
    """Expected failure; the message is shown as it is. Exit code 1 unless a subclass says otherwise."""

    exit_code = 1


class UsageError(AutofitError):
    """The command, the data, the model or a folder is not usable as given. Exit code 2."""

    exit_code = 2


class TrainingFailed(AutofitError):
    """The full run ended before its end; `anew` are the words with which the same command starts another that may come
    further. Exit code 1."""

    def __init__(self, message: str, anew: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.anew = anew


class NothingFits(AutofitError):
    """No rung fits; what was found is on the screen already. Exit code 1."""


class HostFailed(AutofitError):
    """A host of the job cannot take part; the sentence names it. Exit code 1."""


class HostLost(HostFailed):
    """The connection to a host broke. Exit code 1."""

    def __init__(self, host: str, sentence: str) -> None:
        super().__init__(sentence)
        self.host = host


class InternalError(AutofitError):
    """Our own bug, seen where nobody could have done better. Exit code 3."""

    exit_code = 3


def error_text(error: BaseException, most_characters: int = 500) -> str:
    """What an exception says, on one line and cut short; its type's name where it says nothing."""
    return " ".join(str(error).split())[:most_characters] or type(error).__name__
