"""The story of several trainings in a row: all are checked → each is searched and trained → its model is the next's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autofit.app.phase_checks import check_phases
from autofit.app.phase_order import in_order
from autofit.app.tools import REAL_TOOLS, Tools
from autofit.app.train import train
from autofit.domain.event import Note, PhaseStarted, Screen
from autofit.domain.request import Request
from autofit.domain.training_phase import TrainingPhase, with_models
from autofit.runs.phases_folder import PhasesFolder
from autofit.runs.run_folder import RunFolder


def train_phases(
    phases: Sequence[TrainingPhase], *, output_dir: Path, screen: Screen, tools: Tools = REAL_TOOLS
) -> None:
    """Trains one phase after the other, each in a folder of its own; what is finished there already is passed over,
    and what was interrupted goes on.

    Raises as `train`; what can be known of a later phase beforehand is said before the first one starts.
    """
    folder = PhasesFolder(output_dir)
    check_phases(phases, folder, lambda text: screen.show(Note(text)), tools)
    for begun, request in in_order(phases, folder):
        screen.show(begun)
        options = begun.phase.options
        if not options.is_dry_run:
            _follow(begun, request)
        elif begun.phase.starts_from is not None:
            screen.show(Note(f"the ladder is by the shape of {request.model}"))
        train(request, output_dir=Path(begun.output_dir), screen=screen, options=options, tools=tools)


def _follow(begun: PhaseStarted, request: Request) -> None:
    """Has a run that was begun earlier know the models of other phases where they lie now: the folder of all phases may
    have been moved or copied."""
    run = RunFolder(Path(begun.output_dir))
    earlier = run.read_request()
    if earlier is None or not begun.phase.uses:
        return
    linked = zip(_models(begun.phase.request), _models(request), strict=True)
    now = {_place(path): path for name, path in linked if name in begun.phase.uses}
    followed = with_models(earlier, {path: now.get(_place(path), path) for path in _models(earlier)})
    if followed != earlier:
        run.write_request(followed)


def _models(request: Request) -> tuple[str, ...]:
    return (request.model, *(reward.source for reward in request.generation.rewards))


def _place(path: str) -> tuple[str, ...]:
    """Where a model lies in the folder of all phases: `1-sft` and `model`."""
    return Path(path).parts[-2:]
