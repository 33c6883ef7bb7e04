"""A line of `deepspeed`, tuned and handed over to DeepSpeed's own launcher."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from autofit.domain.deepspeed_line import LaunchLine, LaunchSettings
from autofit.domain.errors import AutofitError, HostFailed, InternalError, NothingFits
from autofit.domain.shell import shell_line
from autofit.running.handover import hand_over

if TYPE_CHECKING:
    from autofit.domain.event import Event


class LaunchScreen(AbstractContextManager["LaunchScreen"], Protocol):
    """A screen that is gone when the training takes the terminal."""

    def show(self, event: Event) -> None: ...


def launch(
    line: LaunchLine, settings: LaunchSettings, *, screen: LaunchScreen, log_crash: Callable[[Exception], str]
) -> int:
    """The exit code, or -n for an end by signal n. `log_crash` writes down our own bug, and says where.

    NothingFits when no configuration does, HostFailed when a host cannot take part: then nothing is started.
    """
    with screen:
        words = _words(line, settings, screen, log_crash)
        if settings.is_dry_run or (line.options.autotuning == "tune" and words):
            _tell(screen, f"not started: deepspeed {shell_line(words or line.words)}")
            return 0
    return hand_over(words or line.words, master_port=line.options.master_port).exit_code


def _words(
    line: LaunchLine, settings: LaunchSettings, screen: LaunchScreen, log_crash: Callable[[Exception], str]
) -> tuple[str, ...]:
    """What is given to DeepSpeed's launcher instead of the line; empty where the line goes on word for word."""
    if settings.is_off or line.is_refused:
        return ()
    from autofit.hardware.requirements import find_unmet_requirements

    if lacking := find_unmet_requirements():  # before anything of it is imported
        needs = f"a search needs {lacking.wants} ({lacking.how_to_get})"
        _tell(screen, f"{needs}: the script runs as it is, unsearched.")
        return ()
    from autofit.app.script.tunable_line import NotTuned
    from autofit.app.tune import tune

    if line.options.autotuning:
        _tell(screen, "--autotuning: autofit's search takes the place of DeepSpeed's")
    try:
        is_dry_run = settings.is_dry_run or line.options.autotuning == "tune"
        return tune(line.without_autotuning, replace(settings, is_dry_run=is_dry_run), screen=screen)
    except NotTuned as found:
        if found.note is not None:
            _tell(screen, found.note)
    except (NothingFits, HostFailed):
        raise
    except Exception as error:  # whatever is wrong with the search, the job is not to wait for it
        is_bug = not isinstance(error, AutofitError) or error.exit_code == InternalError.exit_code
        log = f" {log_crash(error)}".rstrip() if is_bug else ""
        _tell(screen, f"AUTOFIT COULD NOT SEARCH: {str(error).rstrip('.')}.{log} THE JOB RUNS AS IT WAS WRITTEN.")
    return ()


def _tell(screen: LaunchScreen, text: str) -> None:
    from autofit.domain.event import Note  # a job that is handed over at once pays nothing for it

    screen.show(Note(text))
