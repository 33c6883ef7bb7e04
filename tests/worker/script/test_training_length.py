"""How long a trainer, a loader and a schedule would go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
import transformers
from torch.optim.lr_scheduler import ConstantLR, OneCycleLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from transformers import Trainer, TrainingArguments, get_cosine_schedule_with_warmup

from autofit.worker.script import side_effects
from autofit.worker.script.training_length import epoch_batches, scheduler_steps, watch_trainer

ROWS = TensorDataset(torch.ones(37, 1))


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Any:
        return iter(torch.ones(3))


def test_an_epoch_has_as_many_batches_as_its_loader() -> None:
    assert epoch_batches(DataLoader(ROWS, 8)) == 5
    assert epoch_batches(DataLoader(ROWS, batch_sampler=[[0, 1], [2]])) == 2
    assert epoch_batches(DataLoader(Stream(), 2)) is None


def test_a_schedule_that_ends_tells_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerate.state, "is_initialized", lambda: False)  # whatever ran before in this process
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    assert scheduler_steps(get_cosine_schedule_with_warmup(optimizer, 5, 120)) == 120
    assert scheduler_steps(OneCycleLR(optimizer, max_lr=0.1, total_steps=60)) == 60
    assert scheduler_steps(ConstantLR(optimizer)) is None
    assert scheduler_steps(None) is None


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What a trainer tells in a process that is patched as that of a probe."""
    steps: list[int] = []
    for owner, name in ((TrainingArguments, "__post_init__"), (Trainer, "set_initial_training_values")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    side_effects._shorten_training()
    watch_trainer(steps.append)
    return steps


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({"max_steps": 7}, [7]),
        ({"num_train_epochs": 3}, [9]),  # 5 batches, two a step
        ({"num_train_epochs": 0.5}, [2]),
        ({}, [9]),  # three epochs, by default
    ],
)
def test_a_trainer_tells_the_steps_that_it_was_asked_for(
    told: list[int], asked: dict[str, Any], steps: list[int], tmp_path: Path
) -> None:
    trainer, loader = made(tmp_path, **asked), DataLoader(ROWS, 8)
    assert trainer.set_initial_training_values(trainer.args, loader)[-1] == side_effects.MANY_STEPS, "of the probe"
    assert told == steps


def test_what_a_script_sets_itself_counts(told: list[int], tmp_path: Path) -> None:
    trainer = made(tmp_path, max_steps=7)
    trainer.args.max_steps = 4
    trainer.set_initial_training_values(trainer.args, DataLoader(ROWS, 8))
    assert told == [4]


def test_a_copy_of_arguments_that_were_shortened_tells_nothing(told: list[int], tmp_path: Path) -> None:
    trainer = made(tmp_path, max_steps=7)
    again = TrainingArguments(**{**trainer.args.to_dict(), "output_dir": str(tmp_path)})
    trainer.set_initial_training_values(again, DataLoader(ROWS, 8))
    assert told == []


def test_a_stream_without_a_number_of_steps_is_left_to_the_training(told: list[int], tmp_path: Path) -> None:
    trainer = made(tmp_path)
    trainer.set_initial_training_values(trainer.args, DataLoader(Stream(), 2))
    assert told == []


def made(folder: Path, **asked: Any) -> transformers.Trainer:
    arguments = TrainingArguments(str(folder), gradient_accumulation_steps=2, use_cpu=True, **asked)
    return Trainer(torch.nn.Linear(1, 1), arguments)
