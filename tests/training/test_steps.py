"""What a step learns does not hang on how the batch is divided: beside plain trl in one process, the batch whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from tests.training.likeness import check_same, token_mean
from tests.training.runs import Case, Runs, training

pytestmark = pytest.mark.slow
Rows = Callable[[int], Path]


@pytest.mark.parametrize(
    "case",
    [
        Case(micro_batch=1),
        Case(micro_batch=8, stage=1, checkpointing=GradientCheckpointing.ON),
        Case(micro_batch=2, stage=3),
        Case(micro_batch=4, ranks=1, method=Method.LORA),
        Case(micro_batch=2, stage=0),
        Case(micro_batch=4, ranks=1, stage=0, dtype=Dtype.BF16),
    ],
    ids=str,
)
def test_a_last_batch_that_is_not_full_teaches_its_own_rows(case: Case, runs: Runs, model: Path, rows: Rows) -> None:
    """37 rows, global batch 16: accelerate alone trains one row of an epoch twice, or eleven."""
    request = training(model, rows(37))
    check_same(runs.autofit(case, request), runs.plain(request, case), model, case)


@pytest.mark.parametrize(
    "case",
    [Case(stage=1), Case(stage=0, dtype=Dtype.BF16), Case(stage=0, method=Method.LORA, dtype=Dtype.BF16)],
    ids=str,
)
def test_a_resumed_run_reads_the_rows_that_are_left_of_its_epoch(
    case: Case, runs: Runs, model: Path, rows: Rows
) -> None:
    """In the second epoch, on two ranks, where the order is another than the first one's."""
    request = training(model, rows(37), extra_arguments=("--lr_scheduler_type", "constant"))
    whole = runs.autofit(case, request)
    folder = runs.autofit(case, replace(request, training=replace(request.training, max_steps=4))).folder
    resumed = runs.autofit(case, request, folder)
    assert [step["step"] for step in resumed.steps] == [1, 2, 3, 4, 5, 6]
    assert [step["loss"] for step in resumed.steps] == [step["loss"] for step in whole.steps]


def test_the_evaluation_loss_is_that_of_the_tokens(runs: Runs, model: Path, rows: Rows) -> None:
    """Rows of very different lengths, micro-batches that do not divide them, and no step at which one was due."""
    losses = []
    for case in (Case(micro_batch=1, ranks=1), Case(micro_batch=8), Case(micro_batch=4, stage=3)):
        request = replace(training(model, rows(16), max_steps=2), eval_data=str(rows(21)))
        ended = runs.autofit(case, request)
        assert ended.codes == [0] * case.ranks, ended.log
        losses.append(ended.trained.eval_loss)
    assert losses[0] is not None
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-5)
    assert losses[0] == pytest.approx(token_mean(ended.model, rows(21)), rel=1e-5)
