"""DPO and KTO on real ranks: the training that one process would have had, whose reference is the model as it began."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftConfig
from transformers import AutoModelForCausalLM

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.request import Request
from autofit.domain.task import Task
from tests.spread import with_matrix
from tests.training.runs import Case, Ended, Runs, training

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"
LORA, ON, EVERY_2 = Method.LORA, GradientCheckpointing.ON, GradientCheckpointing.EVERY_2
ROWS, BATCH = 24, 8
NEAR = 2e-4
"""Relative: sums in fp32 in another order, and Adam's first steps, as long for next to no gradient as for any."""


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shortest of the shipped pairs, twice over two epochs."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    shipped = (EXAMPLES / "preferences.jsonl").read_text("utf-8").splitlines()
    path.write_text("\n".join(sorted(shipped, key=len)[:ROWS]) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, preferences: Path) -> Path:
    """The same answers, one a row: good and bad ones in turns, of different prompts."""
    path = tmp_path_factory.mktemp("judged") / "judged.jsonl"
    pairs = [json.loads(line) for line in preferences.read_text("utf-8").splitlines()]
    rows = [
        {"prompt": pair["prompt"], "completion": pair["rejected" if at % 2 else "chosen"], "label": at % 2 == 0}
        for at, pair in enumerate(pairs)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def request_of(model: Path, preferences: Path, judged: Path):  # type: ignore[no-untyped-def]
    def made(task: Task, *words: str) -> Request:
        data = judged if task is Task.KTO else preferences
        asked = training(model, data, learning_rate=1e-3, epochs=2.0, extra_arguments=words)
        return replace(asked, task=task, global_batch=BATCH, sequence_length=96)

    return made


@pytest.fixture(scope="module")
def once(runs: Runs):  # type: ignore[no-untyped-def]
    """A training that several tests hold theirs against."""
    return functools.cache(runs.autofit)


def rewards(ended: Ended, name: str) -> list[float]:
    return [step[f"rewards/{name}"] for step in ended.steps]


def losses(ended: Ended) -> list[float]:
    assert not any(ended.codes), ended.log
    return [step["loss"] for step in ended.steps]


def check_moved(values: Sequence[float], *, rises: bool) -> None:
    first, last = sum(values[:2]), sum(values[-2:])
    assert last > first if rises else last < first, values


CASES = with_matrix(
    [
        (Task.DPO, Case(stage=0, micro_batch=2)),
        (Task.DPO, Case(stage=3, micro_batch=4, checkpointing=ON)),
        (Task.DPO, Case(LORA, stage=3, micro_batch=2, checkpointing=ON)),
        (Task.KTO, Case(stage=3, micro_batch=4)),
    ],
    [
        (Task.DPO, Case(stage=1, micro_batch=4, checkpointing=EVERY_2)),
        (Task.DPO, Case(stage=2, micro_batch=1)),
        (Task.DPO, Case(LORA, stage=0, micro_batch=4, checkpointing=ON)),
        (Task.DPO, Case(LORA, stage=1, micro_batch=1)),
        (Task.KTO, Case(stage=1, micro_batch=4, checkpointing=ON)),
        (Task.KTO, Case(stage=2, micro_batch=4)),
        (Task.KTO, Case(LORA, stage=2, micro_batch=4, checkpointing=ON)),
    ],
)


@pytest.mark.parametrize(("task", "case"), CASES, ids=str)
def test_a_training_is_that_of_one_process(task: Task, case: Case, runs: Runs, request_of, once) -> None:  # type: ignore[no-untyped-def]
    """Without an engine; one of two for KTO, whose estimate of the divergence is of the ranks' micro-batches."""
    request = request_of(task)
    alone = Case(case.method, stage=0, ranks=2 if task is Task.KTO else 1, micro_batch=4)
    told, ended = once(alone, request), runs.autofit(case, request)
    assert losses(ended)[0] == pytest.approx(0.6931 if task is Task.DPO else 0.5, abs=1e-3)
    assert losses(ended) == pytest.approx(losses(told), rel=NEAR)
    assert rewards(ended, "margins") == pytest.approx(rewards(told, "margins"), rel=1e-2, abs=1e-4)
    check_moved(losses(ended), rises=False)
    check_moved(rewards(ended, "margins"), rises=True)
    if case.method is LORA:
        assert PeftConfig.from_pretrained(ended.model).r == request.lora.r
    else:
        loaded = AutoModelForCausalLM.from_pretrained(ended.model, dtype=torch.float32)
        before = AutoModelForCausalLM.from_pretrained(request.model, dtype=torch.float32)
        moved = [
            not torch.equal(one, other) for one, other in zip(loaded.parameters(), before.parameters(), strict=True)
        ]
        assert all(moved)


@pytest.mark.parametrize(
    ("task", "case"),
    with_matrix(
        [(Task.DPO, Case(stage=3, micro_batch=4)), (Task.KTO, Case(stage=2, micro_batch=2))],
        [(Task.DPO, Case(LORA, stage=2, micro_batch=2)), (Task.KTO, Case(stage=0, micro_batch=2))],
    ),
    ids=str,
)
def test_a_training_goes_on_with_the_same_numbers(task: Task, case: Case, runs: Runs, request_of) -> None:  # type: ignore[no-untyped-def]
    """Its reference is the model as it was before the first of both."""
    request = request_of(task, "--lr_scheduler_type", "constant")
    whole = runs.autofit(case, request)
    folder = runs.autofit(case, replace(request, training=replace(request.training, max_steps=4))).folder
    resumed = runs.autofit(case, request, folder)
    assert losses(resumed) == losses(whole)
    assert rewards(resumed, "margins") == rewards(whole, "margins")


@pytest.mark.parametrize(
    ("task", "case"),
    with_matrix(
        [(Task.DPO, Case(stage=3, micro_batch=4))],
        [
            (Task.DPO, Case(stage=2, micro_batch=4)),
            (Task.DPO, Case(stage=0, micro_batch=4)),
            (Task.DPO, Case(LORA, stage=3, micro_batch=4)),
            (Task.KTO, Case(stage=1, micro_batch=4)),
            (Task.KTO, Case(stage=3, micro_batch=4)),
        ],
    ),
    ids=str,
)
def test_log_probabilities_that_are_computed_beforehand_are_the_same(
    task: Task,
    case: Case,
    runs: Runs,
    request_of,  # type: ignore[no-untyped-def]
) -> None:
    beside = runs.autofit(case, request_of(task))
    before = runs.autofit(case, request_of(task, "--precompute_ref_log_probs", "true"))
    assert losses(before) == pytest.approx(losses(beside), rel=NEAR)


@pytest.mark.parametrize(
    "case",
    with_matrix(
        [Case(stage=2, micro_batch=4, dtype=Dtype.BF16, optimizer=Optimizer.ADAMW_8BIT_BF16)],
        [
            Case(stage=3, micro_batch=4, optimizer=Optimizer.LOMO),
            Case(stage=0, micro_batch=4, optimizer=Optimizer.LOMO),
            Case(stage=3, micro_batch=4, offload=Offload.ALL),
            Case(stage=2, micro_batch=4, offload=Offload.OPTIMIZER),
        ],
    ),
    ids=str,
)
def test_a_reference_stands_beside_any_optimizer(case: Case, runs: Runs, request_of) -> None:  # type: ignore[no-untyped-def]
    """Master weights in bf16 among them, which DeepSpeed refuses to an engine that divides nothing."""
    told = request_of(Task.DPO)
    rate = 0.3 if case.optimizer is Optimizer.LOMO else 1e-3
    ended = runs.autofit(case, replace(told, training=replace(told.training, learning_rate=rate)))
    assert losses(ended)[0] == pytest.approx(0.6931, abs=1e-3)
    check_moved(losses(ended), rises=False)


def test_what_is_frozen_in_4_bits_is_its_own_reference(runs: Runs, request_of) -> None:  # type: ignore[no-untyped-def]
    ended = runs.autofit(Case(LORA, stage=2, micro_batch=4, quantization=Quantization.NF4), request_of(Task.DPO))
    assert losses(ended)[0] == pytest.approx(0.6931, abs=1e-3)
    check_moved(rewards(ended, "margins"), rises=True)
