"""What can be known of trainings that come later, before the first one starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from autofit.app.context import Context
from autofit.app.phase_order import in_order
from autofit.app.tools import Tools
from autofit.app.train import check
from autofit.domain.errors import UsageError
from autofit.domain.event import PhaseStarted, Tell
from autofit.domain.training_phase import TrainingPhase
from autofit.inputs.scoring_head import check_reward
from autofit.planning.data.survey_cores import survey_cores
from autofit.planning.data.truncation import check_lost_rows
from autofit.runs.phases_folder import PhasesFolder
from autofit.runs.run_folder import RunFolder


def check_phases(phases: Sequence[TrainingPhase], folder: PhasesFolder, tell: Tell, tools: Tools) -> None:
    """Checks their folder and all phases, and reads what only a survey sees of all but the first, which its own
    training looks at at once; UsageError with the one that is wrong.

    `tell` hears what is looked at that takes its time.
    """
    folder.check()
    _check_models(phases, folder)
    unread: list[tuple[PhaseStarted, Context]] = []
    for begun, request in in_order(phases, folder):
        with _named(begun):
            context = check(request, output_dir=Path(begun.output_dir), tools=tools)
            _check_rewards(begun.phase, context)
        if begun.number > 1 and _is_unread(begun, context):
            unread.append((begun, context))
    if unread:
        _survey(unread, folder, tell, tools)


def _check_models(phases: Sequence[TrainingPhase], folder: PhasesFolder) -> None:
    """Checks that nothing was trained on a model that is yet to be trained."""
    runs = {phase.name: folder.of(number, phase.name) for number, phase in enumerate(phases, 1)}
    for phase in phases:
        for name in phase.uses:
            if runs[phase.name].has_training and runs[name].read_result() is None:
                raise UsageError(
                    f"{runs[phase.name].root} was trained from another model of phase {name}, which is not finished "
                    f"in {runs[name].root}: remove the former, or name another folder with --output-dir."
                )


def _check_rewards(phase: TrainingPhase, context: Context) -> None:
    """Checks the reward models that no phase trains: for one that is yet to be trained another stands in."""
    named = [reward.source for reward in phase.request.generation.rewards if not reward.is_function]
    for name, model in zip(named, context.reward_models, strict=True):
        if name not in phase.rewarded_by:
            check_reward(model)


def _is_unread(begun: PhaseStarted, context: Context) -> bool:
    """Whether there is something of the user's own that no survey has read: rows, functions that reward, or words after
    `--`. Rows are read by the model's tokenizer, which must be here."""
    request = context.request
    rewards = any(reward.is_function for reward in request.generation.rewards)
    own = request.data or request.eval_data or rewards or request.training.extra_arguments
    if not own or begun.phase.options.is_dry_run or context.download is not None:
        return False
    profile = RunFolder(Path(begun.output_dir)).read_profile()
    return profile is None or profile.is_foreseen


def _survey(unread: Sequence[tuple[PhaseStarted, Context]], folder: PhasesFolder, tell: Tell, tools: Tools) -> None:
    """Looks at it, as each training does before its search."""
    tell(f"data and arguments of {', '.join(begun.phase.name for begun, _ in unread)} are looked at first")
    folder.logs.mkdir(parents=True, exist_ok=True)
    kind = unread[0][1].hardware.kind
    with tools.start_agent(kind=kind, log_path=folder.logs / "agent.log", tell=tell) as agent:
        for begun, context in unread:
            with _named(begun):
                profile = agent.survey(
                    context.request,
                    log_path=folder.logs / "survey.log",
                    most_processes=survey_cores(context.hardware).process_count,
                )
                check_lost_rows(context.request, profile)


@contextmanager
def _named(begun: PhaseStarted) -> Iterator[None]:
    """Has an error say which phase it is of."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"Phase {begun.phase.name}: {error}") from error
