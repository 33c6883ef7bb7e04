"""The full run of a choice: trained, merged where that is asked for, and its result written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from autofit.app.context import Context, Session
from autofit.app.probe_specs import training_files
from autofit.domain.errors import InternalError, TrainingFailed
from autofit.domain.event import TrainingEnded, TrainingStarted
from autofit.domain.knobs.method import Method
from autofit.domain.outcome import Crashed, OutOfMemory, Place
from autofit.domain.run_end import NoModel
from autofit.domain.timeline import Timeline
from autofit.domain.trial import Choice
from autofit.report.run_end_text import run_failure_text
from autofit.running.standby import Standby
from autofit.running.supervision import Supervision
from autofit.runs.run_folder import has_weights


def run_training(
    context: Context, choice: Choice, session: Session, timeline: Callable[[], Timeline], standby: Standby
) -> TrainingEnded | OutOfMemory:
    """Trains; gives what it came to, with what was trained in an earlier run and is still there; TrainingFailed says
    why it ended.

    OutOfMemory where no probe of today had shown that the choice fits, and nothing is lost by another one. `timeline`
    is asked when the model is saved; `standby` has a launcher that waits where a search went before.
    """
    folder = session.folder
    result = folder.read_result()
    if result is None or str(folder.model) in folder.lost:
        trained = _train(context, choice, session, standby)
        if isinstance(trained, OutOfMemory):
            return trained
        if result is None or trained.first_loss is not None:  # else no step was left: it was saved again
            result = replace(trained, timeline=timeline())
    if context.request.training.merge and choice.strategy.rung.method is Method.LORA:
        _merge(context, choice, session)
        result = replace(result, merged_path=str(folder.merged))
    folder.write_result(result)
    session.write_report()
    return result


def _train(context: Context, choice: Choice, session: Session, standby: Standby) -> TrainingEnded | OutOfMemory:
    folder = session.folder
    resumed_from = folder.last_checkpoint or context.request.training.resume
    session.screen.show(TrainingStarted(choice.strategy, resumed_from, str(folder.training_log)))
    files = training_files(folder, choice.strategy.rung)
    run, show = session.tools.run_training, session.screen.show
    supervision = _supervision(context, choice)
    end = run(context.hardware, files, folder.training_log, show, standby=standby, supervision=supervision)
    is_unseen = choice.is_unseen and folder.last_checkpoint is None
    if isinstance(end, OutOfMemory) and end.place is not Place.SHARED and is_unseen:
        return end
    if isinstance(end, TrainingEnded) and not has_weights(folder.model):
        end = NoModel(str(folder.model))
    if not isinstance(end, TrainingEnded):
        is_bug = isinstance(end, Crashed) and end.is_ours
        raise (InternalError if is_bug else TrainingFailed)(run_failure_text(end, folder.training_log))
    return end


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
