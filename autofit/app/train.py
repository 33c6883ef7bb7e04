"""The story: request → hardware + model shape → ladder → estimates → probes → choice → the full run."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from autofit.app.context import Context, look
from autofit.app.estimation import TraceProvider, ladder_of, prepare_setting
from autofit.app.probe_specs import AgentProbeRunner, ProbeSpecs, training_files
from autofit.app.resume import StartingPoint, check_rows, claim, find_start
from autofit.app.search_loop import SearchLoop, SearchResult
from autofit.app.tools import REAL_TOOLS, Tools
from autofit.domain.errors import NothingFits, TrainingFailed, UsageError
from autofit.domain.event import (
    Chosen,
    DataRead,
    GaveUp,
    LadderBuilt,
    Note,
    Screen,
    TrainingEnded,
    TrainingStarted,
    teller,
)
from autofit.domain.knobs.method import Method
from autofit.domain.ladder import Ladder
from autofit.domain.request import Request
from autofit.domain.run_end import NoModel
from autofit.domain.trial import Choice, GiveUp
from autofit.domain.workload import DataProfile
from autofit.hardware.requirements import installed_here
from autofit.planning.data.cut import check_lost_rows
from autofit.planning.export.deepspeed_config import deepspeed_config
from autofit.planning.memory.calibration import calibrate_memory
from autofit.planning.plan.rehearsal import how_many
from autofit.planning.setting import Setting
from autofit.planning.space.resumption import weights_text
from autofit.planning.speed.step_time import calibrate_speed
from autofit.probing.prober import TrainingProber
from autofit.process.python import DEEPSPEED_MODULE, module_command, package_folders
from autofit.report.html import report_html
from autofit.report.run_end_text import run_failure_text
from autofit.running.training_command import command_script
from autofit.runs.run_folder import RunFolder, has_weights
from autofit.store import Store
from autofit.store.machine_kind import DeviceKey
from autofit.store.trial_key import TrialKey
from autofit.store.versions import versions


def train(
    request: Request,
    *,
    output_dir: Path,
    screen: Screen,
    dry_run: bool = False,
    is_exhaustive: bool = False,
    probe_timeout_s: float = 600.0,
    tools: Tools = REAL_TOOLS,
) -> None:
    """Finds the fastest strategy that fits, and trains with it; goes on where an interrupted run stopped.

    Raises an AutofitError with what the user can do; NothingFits when no rung does.
    """
    folder = RunFolder(output_dir)
    folder.check()
    start = find_start(request, folder)
    context = _look(start, output_dir, screen, tools)
    for note in check_rows(context.request, start):
        screen.show(Note(note))
    ladder_of(_untried(context))  # what cannot be asked for is said before anything is started
    if dry_run:
        screen.show(LadderBuilt(_predicted_ladder(context, screen, tools)))
        return
    with folder.lock(teller(screen)):
        context = claim(context, request, start, folder, teller(screen))
        result = folder.read_result()
        if result is not None and not folder.lost:
            _recall(folder, screen)
        else:
            for path in folder.lost:
                screen.show(Note(f"{path} of this finished run is gone: it is made anew"))
            choice = folder.read_choice() or _search(context, folder, screen, tools, probe_timeout_s, is_exhaustive)
            result = _run(context, choice, folder, screen, tools)
        screen.show(result)


def _look(start: StartingPoint, output_dir: Path, screen: Screen, tools: Tools) -> Context:
    try:
        return look(start.request, output_dir, screen, tools)
    except UsageError as error:
        if start.checkpoint is None:
            raise
        offer = f"To start from the checkpoint's weights instead: {weights_text(start.request, start.checkpoint)}."
        raise UsageError(f"{error}\n{offer}") from error


def _recall(folder: RunFolder, screen: Screen) -> None:
    """What was decided in a run that is finished already."""
    record = folder.record()
    assert record.choice is not None
    screen.show(Note(f"{folder.root} is finished already; another --output-dir trains anew"))
    screen.show(Chosen.after(record.trials, record.choice, 0.0, is_remembered=True))


def _untried(context: Context) -> Setting:
    """By the request alone: rows as long as it allows."""
    tokens = context.request.sequence_length
    return Setting(context.request, context.hardware, context.shape, tokens, installed=installed_here())


def _predicted_ladder(context: Context, screen: Screen, tools: Tools) -> Ladder:
    with (
        tools.open_store() as store,
        TraceProvider(context.request, store, tools.start_tracer, teller(screen)) as tracing,
    ):
        return ladder_of(_prepared(context, None, store, tracing))


def _prepared(context: Context, profile: DataProfile | None, store: Store, tracing: TraceProvider) -> Setting:
    """With what the data brings; without a profile some rows are taken to be shorter than the request allows."""
    request = context.request
    lengths = (request.sequence_length,) if profile is None else profile.sampled_lengths_tokens
    return prepare_setting(
        request,
        context.hardware,
        context.shape,
        worst_tokens=request.sequence_length if profile is None else profile.longest_tokens,
        is_padded=profile is None or lengths[0] < profile.longest_tokens,
        mean_tokens=sum(lengths) / len(lengths),
        installed=installed_here(),
        store=store,
        tracing=tracing,
    )


def _search(
    context: Context, folder: RunFolder, screen: Screen, tools: Tools, probe_timeout_s: float, is_exhaustive: bool
) -> Choice:
    """The machine is free again when it returns; NothingFits when no rung does."""
    with (
        tools.start_agent(
            kind=context.hardware.kind,
            log_path=folder.logs / "agent.log",
            tell=teller(screen),
        ) as agent,
        tools.open_store() as store,
        tempfile.TemporaryDirectory(prefix="scratch-", dir=folder.root) as scratch,
    ):
        profile = agent.survey(context.request, log_path=folder.logs / "survey.log")
        folder.write_profile(profile)
        screen.show(DataRead(context.request, profile))
        check_lost_rows(context.request, profile)
        setting = _setting(context, profile, store, agent, screen)
        key = TrialKey.of(context.request, context.shape, profile.lengths, context.hardware, versions())
        specs = ProbeSpecs(context, profile, folder, Path(scratch), probe_timeout_s)
        ladder = ladder_of(setting)
        setting = _with_rehearsals(setting, ladder)
        runner = AgentProbeRunner(agent, specs)
        loop = SearchLoop(
            setting, ladder, folder, screen, runner, rehearsals=runner,
            remembered=store.recall(key), keep=lambda trial: store.remember(trial, key),
        )  # fmt: skip
        ended = loop.run(is_exhaustive=is_exhaustive)
        _learn(ended, loop, setting, key, store, screen)
    return _decided(ended, context, folder, screen)


def _setting(context: Context, profile: DataProfile, store: Store, agent: TrainingProber, screen: Screen) -> Setting:
    """The agent is warm already: it is the tracer, too."""
    with TraceProvider(context.request, store, lambda log_path: nullcontext(agent), teller(screen)) as tracing:
        return _prepared(context, profile, store, tracing)


def _with_rehearsals(setting: Setting, ladder: Ladder) -> Setting:
    """Where there are neighbours to be played and something to rehearse."""
    estimates = [step.estimates[0] for step in ladder.steps]
    if not setting.is_divided or not estimates:
        return setting
    return replace(setting, rehearsal_count=how_many(estimates, setting, setting.hardware))


def _learn(
    ended: SearchResult, loop: SearchLoop, setting: Setting, key: TrialKey, store: Store, screen: Screen
) -> None:
    """What the trials say of this kind of device, for the next search."""
    if loop.is_contradicted:
        store.forget(key)
        for trial in ended.trials:
            store.remember(trial, key)
    constants = calibrate_speed(calibrate_memory(setting.constants, ended.trials, setting), ended.trials, setting)
    if constants.fitted_from:
        store.put_constants(DeviceKey.of(setting.hardware.devices[0], key.versions), constants)
    if store.trouble is not None:
        screen.show(Note(store.trouble))


def _decided(ended: SearchResult, context: Context, folder: RunFolder, screen: Screen) -> Choice:
    if isinstance(ended.action, GiveUp):
        screen.show(GaveUp(ended.action))
        folder.write_report(report_html(folder.record()))
        raise NothingFits
    choice = ended.action.choice
    folder.write_ds_config(deepspeed_config(choice.strategy, context.request, context.shape, context.hardware.kind))
    launcher = module_command(DEEPSPEED_MODULE)
    folder.write_command(command_script(context.hardware, launcher, package_folders=package_folders()))
    folder.write_choice(choice)
    folder.write_report(report_html(folder.record()))
    screen.show(Chosen.after(ended.trials, choice, ended.decided_s))
    return choice


def _run(context: Context, choice: Choice, folder: RunFolder, screen: Screen, tools: Tools) -> TrainingEnded:
    result = folder.read_result()
    if result is None or str(folder.model) in folder.lost:
        trained = _train(context, choice, folder, screen, tools)
        if result is None or trained.first_loss is not None:  # else no step was left: it was saved again
            result = trained
    if context.request.training.merge and choice.strategy.rung.method is Method.LORA:
        screen.show(Note("merging the adapter into the base model"))
        unmerged = tools.merge(
            context.hardware,
            base=context.request.model,
            adapter=folder.model,
            out=folder.merged,
            dtype=choice.strategy.rung.dtype,
            log_path=folder.merge_log,
        )
        if unmerged is not None:
            raise TrainingFailed(run_failure_text(unmerged, folder.merge_log))
        result = replace(result, merged_path=str(folder.merged))
    folder.write_result(result)
    folder.write_report(report_html(folder.record()))
    return result


def _train(context: Context, choice: Choice, folder: RunFolder, screen: Screen, tools: Tools) -> TrainingEnded:
    resumed_from = folder.last_checkpoint or context.request.training.resume
    screen.show(TrainingStarted(choice.strategy, resumed_from, str(folder.training_log)))
    end = tools.run_training(context.hardware, training_files(folder), folder.training_log, screen.show)
    if isinstance(end, TrainingEnded) and not has_weights(folder.model):
        end = NoModel(str(folder.model))
    if not isinstance(end, TrainingEnded):
        raise TrainingFailed(run_failure_text(end, folder.training_log))
    return end
