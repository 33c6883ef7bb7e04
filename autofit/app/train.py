"""The story: request → hardware + model shape → ladder → estimates → probes → choice → the full run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from autofit.app.choice_files import mend_choice_files, write_choice_files
from autofit.app.context import Context, Session, described, read_context
from autofit.app.disk_room import check_disk
from autofit.app.estimation import assumed_setting, ladder_of, prepare_setting
from autofit.app.full_training import Broke, LackedMemory, broken_error, run_training
from autofit.app.model_download import SharedScreen, downloading
from autofit.app.probe_specs import context_config
from autofit.app.resume import StartingPoint, check_rows, claim, find_start, follow_machine
from autofit.app.search_loop import SearchResult
from autofit.app.stepping_down import go_down
from autofit.app.timed_screen import TimedScreen
from autofit.app.tools import REAL_TOOLS, Tools
from autofit.app.tracing import TraceProvider
from autofit.app.training_search import search_training
from autofit.app.universal_start import make_loadable
from autofit.domain.errors import NothingFits, UsageError
from autofit.domain.event import Chosen, Event, GaveUp, LadderBuilt, Screen, TrainingEnded
from autofit.domain.objective import Objective
from autofit.domain.outcome import STRATEGY_FAULTS, FailedStart, Outcome
from autofit.domain.request import Request, SearchOptions
from autofit.domain.strategy import Strategy
from autofit.domain.timeline import Timeline
from autofit.domain.trial import Choice, GiveUp
from autofit.hardware.requirements import installed_here
from autofit.hardware.trackers import Surroundings, check_trackers
from autofit.inputs.data_files import check_source
from autofit.inputs.scoring_head import check_reward
from autofit.planning.answers import GATHERING
from autofit.planning.plan.baseline import check_asked_baseline
from autofit.planning.space.ladder_builder import check_asked
from autofit.planning.space.resumption import weights_text
from autofit.report.run_end_text import unprobed_failure_text
from autofit.runs.run_folder import RunFolder


def train(
    request: Request,
    *,
    output_dir: Path,
    screen: Screen,
    options: SearchOptions,
    tools: Tools = REAL_TOOLS,
) -> None:
    """Finds the fastest strategy that fits, and trains with it; goes on where an interrupted run stopped.

    Raises an AutofitError with what the user can do; NothingFits when no rung does.
    """
    timed = TimedScreen(screen, time.monotonic)
    session = Session(RunFolder(output_dir), SharedScreen(timed), tools)
    folder = session.folder
    start, context = _begin(request, session)
    if options.is_dry_run:
        _show_ladder(context, session)
        return
    for model in context.reward_models:
        check_reward(model)
    with folder.lock(session.tell):
        context = claim(context, request, start, folder, session.tell)
        result = folder.read_result()
        if result is not None and not folder.lost:
            _recall(session)
        else:
            result = _search_and_train(context, session, options, timed.timeline)
        session.screen.show(result)


def check(request: Request, *, output_dir: Path, tools: Tools) -> Context:
    """Checks what `train` checks before it starts anything, and shows nothing: what it would work with. Raises as it
    does."""
    _, context = _begin(request, Session(RunFolder(output_dir), _Nobody(), tools))
    return context


class _Nobody:
    """A screen that nobody looks at."""

    def show(self, event: Event) -> None: ...


def _begin(request: Request, session: Session) -> tuple[StartingPoint, Context]:
    """Where the training starts, and on what; UsageError, before anything is started, for what cannot be done."""
    session.folder.check()
    start = find_start(request, session.folder)
    start, context = follow_machine(start, _look(start, session), session.folder)
    for note in check_rows(context.request, start):
        session.tell(note)
    for source in (request.data, request.eval_data):
        check_source(source)
    check_trackers(request.training.report_to, Surroundings())
    _check_asked(context, session.tools)
    check_disk(context, session)
    return start, context


def _check_asked(context: Context, tools: Tools) -> None:
    """UsageError for what can be told of the request before anything is tried."""
    setting = assumed_setting(context, installed_here())
    check_asked(setting)
    check_asked_baseline(setting)
    if context.request.objective is Objective.ENERGY:
        tools.check_counted(context.hardware)


def _search_and_train(
    context: Context, session: Session, options: SearchOptions, timeline: Callable[[], Timeline]
) -> TrainingEnded:
    for path in session.folder.lost:
        session.tell(f"{path} of this finished run is gone: it is made anew")
    choice = session.folder.read_choice()
    tried: tuple[tuple[Strategy, Outcome], ...] = ()
    stand_by, folder = session.tools.stand_by, session.folder
    make_loadable(context, session)
    with stand_by(context.hardware.kind, folder.training_log) as standby:
        while True:
            with downloading(context, session) as wait_for_weights:
                if choice is None:
                    context, ended = search_training(context, session, options, standby, tried)
                    choice = _choose(ended, context, session)
                else:
                    context = mend_choice_files(choice, context, session)
                wait_for_weights()
            end = run_training(context, choice, session, timeline, standby)
            if isinstance(end, TrainingEnded):
                return end
            if (failed := _failed_start(choice, end, folder)) is not None:
                session.tell(unprobed_failure_text(choice.strategy, failed))
                tried, choice = (*tried, (choice.strategy, failed)), None
            elif isinstance(end, LackedMemory):
                context, choice = go_down(choice, end, context, session, options)
            else:
                raise broken_error(end, folder)


def _failed_start(choice: Choice, end: LackedMemory | Broke, folder: RunFolder) -> FailedStart | None:
    """What ended a choice that no probe of today had shown to train, if another strategy may do better: it is searched
    anew, for nothing is lost. None where there is a checkpoint, or any other would fail as well."""
    if not choice.is_unseen or choice.step_downs or folder.last_checkpoint is not None:
        return None
    if isinstance(end, LackedMemory):
        return end.end
    has_trained = bool(end.step)  # 0 is told when the first step begins
    return None if has_trained or end.is_ours or not isinstance(end.end, STRATEGY_FAULTS) else end.end


def _look(start: StartingPoint, session: Session) -> Context:
    try:
        return read_context(start.request, session)
    except UsageError as error:
        if start.checkpoint is None:
            raise
        offer = f"To start from the checkpoint's weights instead: {weights_text(start.request, start.checkpoint)}."
        raise UsageError(f"{error}\n{offer}") from error


def _show_ladder(context: Context, session: Session) -> None:
    tools, request = session.tools, context.request
    with (
        tools.open_store() as store,
        TraceProvider(request, store, tools.start_tracer, session.tell, session.tell) as tracing,
    ):
        if request.data or request.eval_data or request.training.extra_arguments:
            tracing.check_inputs()
        assumed = assumed_setting(described(context, tracing, session), installed_here())
        session.screen.show(LadderBuilt(ladder_of(prepare_setting(assumed, store, tracing))))


def _recall(session: Session) -> None:
    """Shows what was decided in a run that is finished already."""
    record = session.folder.read_record()
    assert record.choice is not None
    session.tell(f"{session.folder.root} is finished already; another --output-dir trains anew")
    session.screen.show(Chosen.after(record.trials, record.choice, 0.0, is_remembered=True))


def _choose(ended: SearchResult, context: Context, session: Session) -> Choice:
    """Searches and writes down what was chosen; NothingFits when no rung does."""
    if isinstance(ended.action, GiveUp):
        session.screen.show(GaveUp(ended.action))
        session.write_report()
        raise NothingFits
    choice = ended.action.choice
    config = context_config(choice.strategy, context)
    if config is not None and GATHERING in config:
        session.tell(
            "a device has no room for the whole model: to generate, ZeRO-3 gathers its layers anew for each token, "
            "which is slow"
        )
    write_choice_files(choice, context, session)
    session.write_report()
    session.screen.show(Chosen.after(ended.trials, choice, ended.decided_s))
    return choice
