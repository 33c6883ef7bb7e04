"""The story of several trainings in a row: all are checked → each is searched and trained → its model is the next's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from autofit.app.tools import REAL_TOOLS, Tools
from autofit.app.train import check, train
from autofit.domain.errors import UsageError
from autofit.domain.event import Note, PhaseStarted, Screen
from autofit.domain.request import Request
from autofit.domain.training_phase import TrainingPhase, with_models
from autofit.runs.phases_folder import PhasesFolder
from autofit.runs.run_folder import RunFolder

Act = Callable[[PhaseStarted, Request], None]


def train_phases(
    phases: Sequence[TrainingPhase], *, output_dir: Path, screen: Screen, tools: Tools = REAL_TOOLS
) -> None:
    """Trains one phase after the other, each in a folder of its own; what is finished there already is passed over,
    and what was interrupted goes on.

    Raises as `train`; whatever can be known of a later phase beforehand is said before the first one starts.
    """

    def check_one(begun: PhaseStarted, request: Request) -> None:
        if begun.number > 1:  # the first is looked at by its own training, at once
            _check(begun, request, tools)

    def train_one(begun: PhaseStarted, request: Request) -> None:
        screen.show(begun)
        if begun.phase.options.is_dry_run and begun.phase.starts_from is not None:
            screen.show(Note(f"the ladder is that of {request.model}, which has the shape of what is trained before"))
        _follow(begun, request)
        train(request, output_dir=Path(begun.output_dir), screen=screen, options=begun.phase.options, tools=tools)

    _check_order(phases, PhasesFolder(output_dir))
    _in_order(phases, PhasesFolder(output_dir), check_one)
    _in_order(phases, PhasesFolder(output_dir), train_one)


def _in_order(phases: Sequence[TrainingPhase], folder: PhasesFolder, act: Act) -> None:
    """Does `act` with each phase and its request. A model that is not trained yet is stood in for by the one that its
    own phase starts from, which has the same shape."""
    models: dict[str, str] = {}
    for number, phase in enumerate(phases, 1):
        run = folder.of(number, phase.name)
        request = phase.located(models)
        act(PhaseStarted(number, len(phases), phase, str(run.root)), request)
        models[phase.name] = _trained_model(run) or request.model


def _trained_model(run: RunFolder) -> str | None:
    """The folder with the whole model that a phase has left, its adapter merged where it trained one; None where
    nothing is left yet, or any more."""
    result = run.read_result()
    if result is None or run.lost:
        return None
    return str(Path(result.merged_path or result.model_path).resolve())


def _follow(begun: PhaseStarted, request: Request) -> None:
    """Has a run that was begun earlier know the models of other phases where they lie now: the folder of all phases may
    have been moved or copied."""
    run = RunFolder(Path(begun.output_dir))
    earlier = run.read_request()
    if earlier is None or not begun.phase.uses:
        return
    now = {_place(path): path for path in _models(request)}
    followed = with_models(earlier, {path: now.get(_place(path), path) for path in _models(earlier)})
    if followed != earlier:
        run.write_request(followed)


def _models(request: Request) -> tuple[str, ...]:
    return (request.model, *(reward.source for reward in request.generation.rewards))


def _place(path: str) -> tuple[str, ...]:
    """Where a model lies in the folder of all phases: `1-sft` and `model`."""
    return Path(path).parts[-2:]


def _check(begun: PhaseStarted, request: Request, tools: Tools) -> None:
    try:
        check(request, output_dir=Path(begun.output_dir), tools=tools)
    except UsageError as error:
        raise UsageError(f"Phase {begun.phase.name}: {error}") from error


def _check_order(phases: Sequence[TrainingPhase], folder: PhasesFolder) -> None:
    """Checks that nothing was trained on a model that is yet to be trained; UsageError where something was."""
    runs = {phase.name: folder.of(number, phase.name) for number, phase in enumerate(phases, 1)}
    for phase in phases:
        for name in phase.uses:
            if runs[phase.name].has_training and runs[name].read_result() is None:
                raise UsageError(
                    f"{runs[phase.name].root} was trained from another model of phase {name}, which is not finished "
                    f"in {runs[name].root}: remove the former, or name another folder with --output-dir."
                )
