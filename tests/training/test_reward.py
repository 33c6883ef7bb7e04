"""Reward models on autofit's own ranks: a step hangs neither on the stage nor on how the batch is divided."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.request import Request
from autofit.domain.task import Task
from tests.spread import with_matrix
from tests.training.conftest import EXAMPLES
from tests.training.runs import Case, Ended, Runs, training

pytestmark = pytest.mark.slow
ON = GradientCheckpointing.ON
NEAR = 1e-3
"""Relative: sums in fp32 in another order, and Adam's first steps, as long for next to no gradient as for any."""


@pytest.fixture(scope="module")
def request_(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Request:
    """Two epochs of 37 pairs by a global batch of 16: the last one is filled with the first pairs."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("\n".join((EXAMPLES / "preferences.jsonl").read_text("utf-8").splitlines()[:37]), "utf-8")
    asked = training(model, path, extra_arguments=("--lr_scheduler_type", "constant"))
    return replace(asked, task=Task.REWARD, sequence_length=128, eval_data=asked.data)


@pytest.fixture(scope="module")
def once(runs: Runs):  # type: ignore[no-untyped-def]
    """A training that several tests hold theirs against."""
    return functools.cache(runs.autofit)


def losses(ended: Ended) -> list[float]:
    assert set(ended.codes) == {0}, ended.log
    assert "LOAD REPORT" not in ended.log  # a head that is new is no fault
    return [step["loss"] for step in ended.steps]


@pytest.mark.parametrize(
    "case",
    [
        Case(stage=1, micro_batch=1, checkpointing=ON),
        Case(stage=2, micro_batch=4),
        Case(stage=3, micro_batch=2),
        Case(stage=0, method=Method.LORA, micro_batch=8),
        Case(stage=2, method=Method.LORA, micro_batch=4, checkpointing=ON),
        Case(stage=3, method=Method.LORA, micro_batch=2),
    ],
    ids=str,
)
def test_a_step_is_that_of_one_process_with_the_whole_batch(case: Case, request_: Request, once) -> None:  # type: ignore[no-untyped-def]
    whole = once(Case(method=case.method, stage=0, micro_batch=16, ranks=1), request_)
    ended = once(case, request_)
    assert losses(ended) == pytest.approx(losses(whole), rel=NEAR)
    assert ended.trained.eval_loss == pytest.approx(whole.trained.eval_loss, rel=NEAR)
    assert ended.steps[-1]["accuracy"] > ended.steps[0]["accuracy"]
    assert _margin(ended.model, case.method, request_) > 0


@pytest.mark.parametrize(
    ("case", "rate"),
    with_matrix(
        [(Case(stage=3, method=Method.LORA, dtype=Dtype.BF16, quantization=Quantization.NF4), 1e-3)],
        [
            (Case(stage=0, method=Method.LORA, dtype=Dtype.BF16, quantization=Quantization.INT8), 1e-3),
            (Case(stage=0, optimizer=Optimizer.LOMO), 0.3),
            (Case(stage=3, optimizer=Optimizer.LOMO), 0.3),
        ],
    ),
    ids=str,
)
def test_the_head_is_trained_beside_a_quantised_base_and_by_an_update_in_the_backward_pass(
    case: Case, rate: float, runs: Runs, request_: Request
) -> None:
    told = replace(request_, training=replace(request_.training, learning_rate=rate))
    ended = runs.autofit(case, told)
    found = losses(ended)
    assert found[-1] < found[0] - 0.01, found
    assert _margin(ended.model, case.method, request_) > 0


def _margin(folder: Path, method: Method, request: Request) -> float:
    """How much higher the saved model scores the first better answer than the worse one."""
    kind = AutoPeftModelForSequenceClassification if method is Method.LORA else AutoModelForSequenceClassification
    model, tokenizer = kind.from_pretrained(folder, num_labels=1), AutoTokenizer.from_pretrained(folder)
    assert request.data is not None
    row = json.loads(Path(request.data).read_text("utf-8").splitlines()[0])
    scores = []
    for name in ("chosen", "rejected"):
        words = tokenizer(row["prompt"] + row[name] + tokenizer.eos_token, return_tensors="pt")
        with torch.no_grad():
            scores.append(float(model(**words).logits))
    return scores[0] - scores[1]


@pytest.mark.parametrize("case", [Case(stage=3), Case(stage=2, method=Method.LORA, dtype=Dtype.BF16)], ids=str)
def test_a_resumed_run_goes_on_with_the_same_numbers(case: Case, runs: Runs, request_: Request) -> None:
    whole = losses(runs.autofit(case, request_))
    folder = runs.autofit(case, replace(request_, training=replace(request_.training, max_steps=4))).folder
    assert losses(runs.autofit(case, request_, folder)) == whole
