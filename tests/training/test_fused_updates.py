"""LOMO and AdaLomo on real ranks, with ZeRO-3's partitions and without: the training that one process would have had,
whose gradients are all there before the first update."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autofit.domain.knobs.optimizer import Optimizer
from tests.training.likeness import check_same
from tests.training.runs import Case, Runs, training

pytestmark = pytest.mark.slow
Rows = Callable[[int], Path]
RATES = {Optimizer.LOMO: 0.1, Optimizer.ADALOMO: 2e-2}


@pytest.mark.parametrize(
    "case",
    [
        Case(stage=3, micro_batch=2, is_checkpointed=True, optimizer=Optimizer.LOMO),
        Case(stage=0, micro_batch=2, optimizer=Optimizer.LOMO),
        Case(stage=3, micro_batch=2, optimizer=Optimizer.ADALOMO),
        Case(stage=0, micro_batch=8, is_checkpointed=True, optimizer=Optimizer.ADALOMO),
        Case(stage=0, micro_batch=4, ranks=1, optimizer=Optimizer.ADALOMO),
    ],
    ids=str,
)
def test_a_training_is_that_of_one_process(case: Case, runs: Runs, model: Path, rows: Rows) -> None:
    """Tied embeddings, grouped queries, accumulation, a last batch that is not full, weight decay and a warmup."""
    words = {"weight_decay": 0.1, "warmup_steps": 2, "lr_scheduler_type": "cosine", "max_grad_norm": 0.5}
    text = tuple(word for name, value in words.items() for word in (f"--{name}", str(value)))
    request = training(model, rows(37), learning_rate=RATES[case.optimizer], extra_arguments=text)
    is_adaptive = case.optimizer is Optimizer.ADALOMO  # which clips nothing
    plain = runs.plain(request, case, **words | ({"max_grad_norm": 1e9} if is_adaptive else {"optim": "sgd"}))
    check_same(runs.autofit(case, request), plain, model, case)
