"""The order of several trainings, each with the models that the ones before it have left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from autofit.domain.event import PhaseStarted
from autofit.domain.request import Request
from autofit.domain.training_phase import TrainingPhase
from autofit.runs.phases_folder import PhasesFolder
from autofit.runs.run_folder import RunFolder


def in_order(phases: Sequence[TrainingPhase], folder: PhasesFolder) -> Iterator[tuple[PhaseStarted, Request]]:
    """Each phase with its request, by what the phases before it have left when it is asked for.

    A model that is not trained yet is stood in for by the one that its own phase starts from, which has the same shape.
    """
    models: dict[str, str] = {}
    for number, phase in enumerate(phases, 1):
        run = folder.of(number, phase.name)
        request = phase.located(models)
        yield PhaseStarted(number, len(phases), phase, str(run.root)), request
        models[phase.name] = _trained_model(run) or request.model


def _trained_model(run: RunFolder) -> str | None:
    """The folder with the whole model that a phase has left, its adapter merged where it trained one; None where
    nothing is left yet, or any more."""
    result = run.read_result()
    if result is None or run.lost:
        return None
    return str(Path(result.merged_path or result.model_path).resolve())
