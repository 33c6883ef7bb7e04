"""What trl's trainers show of how their rows depend on each other, by their own arguments."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import Trainer, TrainingArguments
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

from autofit.domain.script import Tie
from autofit.worker.script.trainer_rows import TrainerRows, rows_of, watch_rows

ONCE = TrainerRows(generation_steps=1)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is refused in a process that is patched as that of a probe."""
    why: list[str] = []
    for owner, name in ((TrainingArguments, "__post_init__"), (Trainer, "train")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    watch_rows(lambda rows: None, why.append)
    return why


@pytest.mark.parametrize(
    ("trainer", "config", "given", "rows"),
    [
        (RewardTrainer, RewardConfig, {}, TrainerRows()),
        (DPOTrainer, DPOConfig, {}, TrainerRows()),
        (DPOTrainer, DPOConfig, {"loss_type": ["sigmoid", "sft"]}, TrainerRows(Tie.LOSS)),
        (DPOTrainer, DPOConfig, {"loss_type": ["aot"]}, TrainerRows(Tie.LOSS)),
        (KTOTrainer, KTOConfig, {}, TrainerRows(Tie.LOSS)),
        (KTOTrainer, KTOConfig, {"loss_type": "apo_zero_unpaired"}, TrainerRows()),
        (GRPOTrainer, GRPOConfig, {}, ONCE),
        (GRPOTrainer, GRPOConfig, {"loss_type": "bnpo"}, TrainerRows(Tie.LOSS, 1)),
        (GRPOTrainer, GRPOConfig, {"entropy_coef": 0.1}, TrainerRows(Tie.LOSS, 1)),
        (GRPOTrainer, GRPOConfig, {"num_iterations": 3}, TrainerRows(generation_steps=3)),
        (GRPOTrainer, GRPOConfig, {"generation_batch_size": 64}, TrainerRows(generation_steps=2)),
        (GRPOTrainer, GRPOConfig, {"generation_batch_size": 16}, TrainerRows(Tie.GENERATION_BATCH, 1)),
        (GRPOTrainer, GRPOConfig, {"steps_per_generation": 4}, TrainerRows(Tie.STEPS_PER_GENERATION, 1)),
        (GRPOTrainer, GRPOConfig, {"steps_per_generation": 6}, TrainerRows(Tie.STEPS_PER_GENERATION, 3)),
    ],
)
def test_what_ties_a_micro_batch_and_how_often_answers_are_generated(
    trainer: type[Any], config: type[Any], given: dict[str, Any], rows: TrainerRows, refused: list[str], tmp_path: Path
) -> None:
    """32 rows a step, of one rank."""
    sizes = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "use_cpu": True, "bf16": False}
    shown = object.__new__(trainer)
    shown.args = config(str(tmp_path), **sizes, **given)
    assert rows_of(shown) == rows
    assert refused == []


def test_a_trainer_of_another_kind_is_tied_to_nothing(refused: list[str], tmp_path: Path) -> None:
    assert rows_of(SimpleNamespace(args=TrainingArguments(str(tmp_path), use_cpu=True))) == TrainerRows()


def test_answers_of_a_server_are_not_probed(refused: list[str], tmp_path: Path) -> None:
    GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, use_vllm=True)
    assert refused == [], "within the ranks it is theirs"
    GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, use_vllm=True, vllm_mode="server")
    assert "vLLM server" in refused[0]
