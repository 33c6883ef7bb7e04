"""The full run of a choice: trained, merged where that is asked for, and its result written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from autofit.app.context import Context, Session
from autofit.app.probe_specs import training_files
from autofit.app.resume import next_start
from autofit.domain.errors import AutofitError, InternalError, TrainingFailed
from autofit.domain.event import RankEvent, Screen, TrainingEnded, TrainingProgress, TrainingStarted
from autofit.domain.knobs.method import Method
from autofit.domain.outcome import Crashed, OutOfMemory
from autofit.domain.run_end import NoModel, RunFailure
from autofit.domain.timeline import Timeline
from autofit.domain.trial import Choice
from autofit.process import universal_checkpoint
from autofit.report.run_end_text import run_failure_text
from autofit.running.standby import Standby
from autofit.running.supervision import Supervision
from autofit.runs.run_folder import RunFolder, has_weights


@dataclass(frozen=True)
class LackedMemory:
    """A full run that ran out of memory; `step` is the last that was done, None before any could be."""

    end: OutOfMemory
    step: int | None


@dataclass(frozen=True)
class Broke:
    """A full run that failed otherwise."""

    end: RunFailure
    step: int | None

    @property
    def is_ours(self) -> bool:
        return isinstance(self.end, Crashed) and self.end.is_ours


def run_training(
    context: Context, choice: Choice, session: Session, timeline: Callable[[], Timeline], standby: Standby
) -> TrainingEnded | LackedMemory | Broke:
    """Trains; gives what it came to, with what was trained in an earlier run and is still there, or why it came to no
    end.

    `timeline` is asked when the model is saved; `standby` has a launcher that waits where a search went before.
    """
    folder = session.folder
    result = folder.read_result()
    if result is None or str(folder.model) in folder.lost:
        trained = _train(context, choice, session, standby)
        if not isinstance(trained, TrainingEnded):
            return trained
        if result is None or trained.first_loss is not None:  # else no step was left: it was saved again
            result = replace(trained, timeline=timeline())
    if context.request.training.merge and choice.strategy.rung.method is Method.LORA:
        _merge(context, choice, session)
        result = replace(result, merged_path=str(folder.merged))
    folder.write_result(result)
    session.write_report()
    return result


def _train(
    context: Context, choice: Choice, session: Session, standby: Standby
) -> TrainingEnded | LackedMemory | Broke:
    folder = session.folder
    resumed_from = next_start(context.request, folder)
    session.screen.show(TrainingStarted(choice.strategy, resumed_from, str(folder.training_log)))
    files, steps = training_files(folder, choice.strategy.rung), _Steps(session.screen, folder.checkpoints)
    run, supervision = session.tools.run_training, _supervision(context, choice)
    end = run(context.hardware, files, folder.training_log, steps.show, standby=standby, supervision=supervision)
    if isinstance(end, OutOfMemory):
        return LackedMemory(end, steps.last)
    if isinstance(end, TrainingEnded) and not has_weights(folder.model):
        end = NoModel(str(folder.model))
    return end if isinstance(end, TrainingEnded) else Broke(end, steps.last)


def broken_error(broke: Broke, folder: RunFolder) -> AutofitError:
    """The error that says why it ended."""
    text = run_failure_text(broke.end, folder.training_log)
    return InternalError(text) if broke.is_ours else TrainingFailed(text)


class _Steps:
    """Passes on what the ranks tell, and keeps the last step that they have done. What was made universal to begin
    from is removed once there is a checkpoint of their own."""

    def __init__(self, screen: Screen, checkpoints: Path) -> None:
        self._screen = screen
        self._checkpoints = checkpoints
        self.last: int | None = None

    def show(self, event: RankEvent) -> None:
        if isinstance(event, TrainingProgress):
            self.last = event.step
            if event.saved_step is not None:
                universal_checkpoint.drop(self._checkpoints)
        self._screen.show(event)


def _supervision(context: Context, choice: Choice) -> Supervision:
    step_s = None if choice.measured is None else choice.measured.step_s
    return Supervision(grace_s=context.request.training.grace_s, step_s=step_s)


def _merge(context: Context, choice: Choice, session: Session) -> None:
    session.tell("merging the adapter into the base model")
    folder = session.folder
    unmerged = session.tools.merge(
        context.hardware,
        context.request,
        adapter=folder.model,
        out=folder.merged,
        dtype=choice.strategy.rung.dtype,
        log_path=folder.merge_log,
    )
    if unmerged is not None:
        raise TrainingFailed(run_failure_text(unmerged, folder.merge_log))
