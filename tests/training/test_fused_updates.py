"""LOMO and AdaLomo on real ranks, with ZeRO-3's partitions and without: the training that one process would have had,
whose gradients are all there before the first update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
from safetensors.torch import load_file

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.optimizer import Optimizer
from tests.spread import with_matrix
from tests.training.likeness import check_same
from tests.training.runs import Case, Runs, training

pytestmark = pytest.mark.slow
Rows = Callable[[int], Path]
RATES = {Optimizer.LOMO: 0.1, Optimizer.ADALOMO: 2e-2}
UPDATE = 1e-5
"""Of all that the training has changed of the weights: sums in fp32 in another order differ by 4e-6 of it."""


@pytest.mark.parametrize(
    "case",
    with_matrix(
        [
            Case(stage=3, micro_batch=2, checkpointing=GradientCheckpointing.ON, optimizer=Optimizer.LOMO),
            Case(stage=0, micro_batch=8, checkpointing=GradientCheckpointing.ON, optimizer=Optimizer.ADALOMO),
        ],
        [
            Case(stage=0, micro_batch=2, optimizer=Optimizer.LOMO),
            Case(stage=3, micro_batch=2, optimizer=Optimizer.ADALOMO),
            Case(stage=0, micro_batch=4, ranks=1, optimizer=Optimizer.ADALOMO),
        ],
    ),
    ids=str,
)
def test_a_training_is_that_of_one_process(case: Case, runs: Runs, model: Path, rows: Rows) -> None:
    """Tied embeddings, grouped queries, accumulation, a last batch that is not full, weight decay and a warmup."""
    words = {"weight_decay": 0.1, "warmup_steps": 2, "lr_scheduler_type": "cosine", "max_grad_norm": 0.5}
    text = tuple(word for name, value in words.items() for word in (f"--{name}", str(value)))
    request = training(model, rows(37), learning_rate=RATES[case.optimizer], extra_arguments=text)
    is_adaptive = case.optimizer is Optimizer.ADALOMO  # which clips nothing
    plain = runs.plain(request, case, **words | ({"max_grad_norm": 1e9} if is_adaptive else {"optim": "sgd"}))
    check_same(runs.autofit(case, request), plain, model, case, update=UPDATE)


@pytest.mark.parametrize(
    "case",
    with_matrix(
        [
            Case(stage=3, micro_batch=4, dtype=Dtype.BF16, optimizer=Optimizer.ADALOMO),
            Case(stage=0, dtype=Dtype.BF16, checkpointing=GradientCheckpointing.ON, optimizer=Optimizer.LOMO),
        ],
        [
            Case(stage=0, dtype=Dtype.BF16, optimizer=Optimizer.ADALOMO),
            Case(stage=3, dtype=Dtype.BF16, checkpointing=GradientCheckpointing.ON, optimizer=Optimizer.LOMO),
        ],
    ),
    ids=str,
)
def test_a_training_goes_on_as_if_nothing_had_been(case: Case, runs: Runs, model: Path, rows: Rows) -> None:
    """To the last digit, although bf16 weights are rounded by chance; its rate is in the middle of its warmup. What
    DeepSpeed's own script makes of a checkpoint is the model that is saved."""
    schedule = ("--warmup_steps", "5", "--lr_scheduler_type", "constant_with_warmup")
    request = training(model, rows(37), learning_rate=RATES[case.optimizer], extra_arguments=schedule)
    request = replace(request, eval_data=str(rows(21)))
    whole = runs.autofit(case, request)
    assert whole.codes == [0, 0], whole.log
    folder = runs.autofit(case, replace(request, training=replace(request.training, max_steps=4))).folder
    resumed = runs.autofit(case, request, folder)
    assert [step["step"] for step in resumed.steps] == [1, 2, 3, 4, 5, 6]
    for name in ("loss", "grad_norm", "learning_rate"):
        assert [step[name] for step in resumed.steps] == [step[name] for step in whole.steps], name
    assert resumed.trained.eval_loss == whole.trained.eval_loss
    weights = load_file(resumed.model / "model.safetensors")
    again = load_file(whole.model / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    if case.stage == 3:
        made = get_fp32_state_dict_from_zero_checkpoint(str(resumed.folder / "checkpoints/checkpoint-6"))
        assert all(torch.equal(made[name].to(tensor.dtype), tensor) for name, tensor in weights.items())
