"""A training that goes on from a checkpoint keeps its own settings and its own end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from autofit.worker.training.full_run.rank_training import ResumeCallback


@pytest.mark.parametrize(("step", "is_over"), [(7, False), (8, True)])
def test_it_saves_when_it_is_asked_to_and_ends_at_its_end(step: int, is_over: bool) -> None:
    state, control = TrainerState(global_step=step, max_steps=8, save_steps=500), TrainerControl()
    trainer = SimpleNamespace(get_batch_samples=lambda *_: (["a batch"], 1))
    ResumeCallback(trainer).on_train_begin(
        SimpleNamespace(logging_steps=1, eval_steps=None, save_steps=3), state, control
    )
    assert state.save_steps == 3
    assert control.should_training_stop is is_over
    assert trainer.get_batch_samples(iter(()), 4, "cpu") == (([], None) if is_over else (["a batch"], 1))
