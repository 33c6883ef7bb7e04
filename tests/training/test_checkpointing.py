"""What is computed again changes nothing that is learned: each value of the knob that a CPU has, on two ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from tests.spread import with_matrix
from tests.training.likeness import check_same
from tests.training.runs import Case, Runs, training

pytestmark = pytest.mark.slow
EVERY_2, SELECTIVE = GradientCheckpointing.EVERY_2, GradientCheckpointing.SELECTIVE


@pytest.mark.parametrize(
    "case",
    with_matrix(
        [Case(stage=2, checkpointing=SELECTIVE), Case(Method.LORA, stage=3, checkpointing=EVERY_2)],
        [
            Case(stage=3, checkpointing=EVERY_2),
            Case(Method.LORA, stage=1, checkpointing=SELECTIVE),
            Case(Method.LORA, stage=0, checkpointing=SELECTIVE),
        ],
    ),
    ids=str,
)
def test_it_learns_the_same_and_goes_on_from_where_it_was(
    case: Case, runs: Runs, model: Path, rows: Callable[[int], Path]
) -> None:
    """As without checkpointing, to the end of a second epoch, the first of which was another run's."""
    request = training(model, rows(32), extra_arguments=("--lr_scheduler_type", "constant"))
    kept = runs.autofit(replace(case, checkpointing=GradientCheckpointing.OFF), request)
    begun = runs.autofit(case, replace(request, training=replace(request.training, max_steps=2)))
    assert (begun.codes, len(begun.steps)) == ([0, 0], 2), begun.log
    check_same(runs.autofit(case, request, begun.folder), kept, model, case)
