"""The arguments of DPO's and KTO's trainers after the dashes: taken, or refused with the reason."""

from __future__ import annotations

import dataclasses
import shlex

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.request import Request, Training
from autofit.domain.task import Task
from autofit.worker.training.argument_fields import FIXED, OURS
from autofit.worker.training.trainer_arguments import config_class, extra_arguments
from tests.builders import make_request
from tests.worker.training.test_argument_fields import TAKEN

OWN = {
    Task.DPO: (
        "--disable_dropout false --precompute_ref_log_probs true --precompute_ref_batch_size 4 --loss_type sigmoid sft "
        "--loss_weights 1 0.1 --ld_alpha 0.5 --f_divergence_type js_divergence --f_alpha_divergence_coef 0.5 "
        "--label_smoothing 0.1 --beta 0.2 --use_weighting true --discopop_tau 0.05 --truncation_mode keep_end"
    ),
    Task.KTO: (
        "--disable_dropout false --precompute_ref_log_probs true --precompute_ref_batch_size 4 --loss_type kto "
        "--beta 0.2 --desirable_weight 1.3 --undesirable_weight 1"
    ),
}


def request(task: Task, words: str) -> Request:
    return dataclasses.replace(make_request(training=Training(extra_arguments=tuple(shlex.split(words)))), task=task)


@pytest.mark.parametrize("task", OWN)
def test_every_field_is_taken_or_refused(task: Task) -> None:
    """Those of supervised fine-tuning are told in test_argument_fields.py."""
    fields = {field.name for field in dataclasses.fields(config_class(task))}
    own = extra_arguments(request(task, OWN[task]))
    shared = {word.lstrip("-") for words in TAKEN.values() for word in words.split() if word.startswith("--")}
    assert fields - set(own) - set(OURS) - set(FIXED) <= shared
    assert not set(own) & {*OURS, *FIXED}


@pytest.mark.parametrize("name", ["sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"])
def test_a_reference_that_moves_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no checkpoint has a reference that moves"):
        extra_arguments(request(Task.DPO, f"--{name} 1"))


def test_what_another_task_has_is_unknown_here() -> None:
    with pytest.raises(UsageError, match="fields of trl's KTOConfig"):
        extra_arguments(request(Task.KTO, "--ld_alpha 0.5"))
