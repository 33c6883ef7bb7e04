"""The rows of a probe of DPO and KTO as trl joins them, the order of rows in KTO, and what is heard of a reference."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from autofit.domain.outcome import Phase
from autofit.domain.workload import BatchShape
from autofit.worker.tasks.dpo import DpoTraining
from autofit.worker.tasks.kto import KtoTrainer, KtoTraining
from autofit.worker.tasks.referenced import ReferencedTrainer

SHAPES = (BatchShape(48, 39.0), BatchShape(32, 32.0))
ROWS = 2


def test_a_pair_is_two_sequences_as_wide_as_was_asked() -> None:
    rows = DpoTraining().probe_rows(SHAPES, ROWS, vocabulary_size=20)
    assert len(rows) == ROWS * len(SHAPES)
    first, second = (DataCollatorForPreference(0)([rows[at], rows[at + 1]]) for at in (0, 2))
    assert first["input_ids"].shape == (2 * ROWS, 48)
    assert int(first["attention_mask"].sum()) == 2 * ROWS * 39
    assert second["input_ids"].shape == (2 * ROWS, 32)
    assert int(first["input_ids"].max()) < 20
    assert int((first["completion_mask"] == 0).sum() - (first["attention_mask"] == 0).sum()) == 2 * ROWS  # the prompts


def test_an_answer_behind_another_prompt_is_as_wide() -> None:
    rows = KtoTraining().probe_rows(SHAPES, ROWS, vocabulary_size=20)
    batch = DataCollatorForUnpairedPreference(0)([rows[0], rows[1]])
    assert batch["input_ids"].shape == batch["KL_input_ids"].shape == (ROWS, 48)
    assert int(batch["attention_mask"].sum()) == ROWS * 39
    assert batch["label"].tolist() == [True, False]


class _Kto(KtoTrainer):
    """KTO's trainer without what makes a trainer."""

    def __init__(self) -> None:
        self.calculate_KL = True


@pytest.fixture
def rows() -> Dataset:
    """Good answers first, as trl leaves pairs that it has taken apart."""
    columns = {
        "prompt_ids": [[at] for at in range(12)],
        "completion_ids": [[100 + at] for at in range(12)],
        "label": [at < 6 for at in range(12)],
    }
    return Dataset.from_dict(columns)


def test_rows_are_drawn_by_the_seed_and_held_against_their_neighbours(rows: Dataset) -> None:
    arguments = SimpleNamespace(seed=3, per_device_train_batch_size=4)
    made = [_Kto()._prepare_dataset(rows, None, arguments, "train") for _ in range(2)]
    assert made[0]["prompt_ids"][:] == made[1]["prompt_ids"][:] != rows["prompt_ids"][:]
    assert sorted(made[0]["prompt_ids"]) == sorted(rows["prompt_ids"])
    for start in (0, 4, 8):
        batch = made[0][start : start + 4]
        assert batch["KL_completion_ids"] == batch["completion_ids"][-1:] + batch["completion_ids"][:-1]
    other = _Kto()._prepare_dataset(rows, None, SimpleNamespace(seed=4, per_device_train_batch_size=4), "train")
    assert other["prompt_ids"][:] != made[0]["prompt_ids"][:]
    assert _Kto()._prepare_dataset(rows, None, arguments, "eval") is rows


class _Trl:
    """Stands for trl's trainer: computes log-probabilities of nothing."""

    def compute_ref_log_probs(self, model: torch.nn.Module, inputs: object) -> tuple[object, ...]:
        return (inputs,)


class _Heard(ReferencedTrainer, _Trl):
    """A trainer that only hears forward passes."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self._has_run = model, False
        self.phases: list[Phase] = []
        self.phase_hook = self.phases.append


def test_forward_passes_without_gradients_are_told_apart_by_their_turn() -> None:
    """KTO's own comes before the one that is learned from, the reference's behind it; an evaluation is one phase."""
    model = torch.nn.Linear(2, 2)
    trainer = _Heard(model)
    for is_kept in (False, True, False):
        with torch.set_grad_enabled(is_kept):
            trainer._hear_forward()
    assert trainer.phases == [Phase.FORWARD, Phase.REFERENCE]
    model.eval()
    with torch.no_grad():
        trainer._hear_forward()
    assert trainer.phases == [Phase.FORWARD, Phase.REFERENCE]


def test_there_is_a_sign_of_life_at_each_batch_that_is_computed_beforehand() -> None:
    model = torch.nn.Linear(2, 2)
    trainer = _Heard(model)
    assert trainer.compute_ref_log_probs(model, "batch") == ("batch",)
    assert trainer.phases == [Phase.REFERENCE]
