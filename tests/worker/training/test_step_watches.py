"""The same events of the same steps, with an engine of DeepSpeed's and without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest
import torch

from autofit.worker.deepspeed.engine_watch import StepListener, StepWatch
from autofit.worker.training.trainer import StepListening
from autofit.worker.training.trainer_watch import TrainerWatch
from tests.models.families import write_model
from tests.models.job import job_of, trainer_of
from tests.worker.deepspeed.test_engine_watch import TWO_STEPS, FakeEngine, Listener


class Driven(Protocol):
    """What takes steps, as accelerate and transformers' trainer have it take them."""

    def forward(self, number: int) -> None: ...

    def backward(self, *, is_last: bool) -> None: ...

    def step(self, *, is_skipped: bool = False) -> None: ...

    def evaluate(self) -> None: ...


class DrivenEngine:
    def __init__(self, listener: StepListener) -> None:
        self._engine = FakeEngine(accumulation=2)
        self._engine.step = self._step  # type: ignore[method-assign]
        StepWatch(self._engine, listener)
        self._is_skipped = False

    def _step(self) -> None:
        self._engine.skipped_steps += self._is_skipped

    def forward(self, number: int) -> None:
        self._engine.forward(number)

    def backward(self, *, is_last: bool) -> None:
        self._engine.told = is_last
        self._engine.backward(None)

    def step(self, *, is_skipped: bool = False) -> None:
        self._is_skipped = is_skipped
        self._engine.step()

    def evaluate(self) -> None:
        self._engine.module.training = False
        self._engine.forward(0)


class Numbered(torch.nn.Module):
    """A model whose batches are numbers."""

    def forward(self, number: int) -> None: ...


class DrivenTrainer:
    def __init__(self, listener: StepListener) -> None:
        self._model, self._scale = Numbered(), 65536.0
        scaler = SimpleNamespace(get_scale=lambda: self._scale)
        self._accelerator = SimpleNamespace(backward=lambda loss: None, sync_gradients=False, scaler=scaler)
        self._optimizer = SimpleNamespace(step=self._update)
        self._is_skipped = False
        trainer: Any = SimpleNamespace(
            model_wrapped=self._model, accelerator=self._accelerator, optimizer=self._optimizer
        )
        TrainerWatch(trainer, listener)

    def _update(self) -> None:
        self._scale *= 0.5 if self._is_skipped else 2.0  # it grows as well, after steps that were not skipped

    def forward(self, number: int) -> None:
        self._model(number)

    def backward(self, *, is_last: bool) -> None:
        self._accelerator.sync_gradients = is_last
        self._accelerator.backward(None)

    def step(self, *, is_skipped: bool = False) -> None:
        self._is_skipped = is_skipped
        self._optimizer.step()

    def evaluate(self) -> None:
        self._model.eval()
        self._model(0)


@pytest.fixture(params=[DrivenEngine, DrivenTrainer])
def driven(request: pytest.FixtureRequest) -> tuple[Driven, list[str]]:
    listener, make = Listener(), request.param
    return make(listener), listener.heard


def test_each_micro_batch_ends_once(driven: tuple[Driven, list[str]]) -> None:
    one, heard = driven
    for number in range(4):
        one.forward(number)
        one.backward(is_last=number % 2 == 1)
        if number % 2 == 1:
            one.step()
    assert heard == TWO_STEPS


def test_an_evaluation_is_no_micro_batch(driven: tuple[Driven, list[str]]) -> None:
    one, heard = driven
    one.evaluate()
    assert heard == []


def test_a_model_that_trains_in_eval_mode_is_heard_from_its_second_batch_on() -> None:
    listener = Listener()
    one = DrivenEngine(listener)
    one._engine.module.training = False
    for number in range(4):
        one.forward(number)
        one.backward(is_last=number % 2 == 1)
        if number % 2 == 1:
            one.step()
    assert listener.heard == [word for word in TWO_STEPS if word != "forward 0"]


def test_a_look_at_a_batch_without_gradients_is_no_micro_batch(driven: tuple[Driven, list[str]]) -> None:
    """As trl takes one for its metrics where labels are smoothed: the tokens would count twice."""
    one, heard = driven
    one.forward(0)
    with torch.no_grad():
        one.forward(0)
    one.backward(is_last=True)
    one.step()
    assert heard == ["forward 0", "update", "stepped"]


def test_a_step_that_overflowed_is_told_apart(driven: tuple[Driven, list[str]]) -> None:
    one, heard = driven
    for is_skipped in (False, True, False):
        one.backward(is_last=True)
        one.step(is_skipped=is_skipped)
    assert heard[1::2] == ["stepped", "skipped", "stepped"]


class Noted(StepListener):
    """The events with the rows that a batch has, by name as trl gives them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def forward(self, batch: Any) -> None:
        self._say(f"forward {batch[1]['input_ids'].shape[0]}")

    def backward(self) -> None:
        self._say("backward")

    def update(self) -> None:
        self._say("update")

    def micro_step_end(self) -> None:
        self._say("end")

    def step_end(self, *, was_skipped: bool) -> None:
        self._say("skipped" if was_skipped else "stepped")


@pytest.mark.filterwarnings("error:.*optimizer.step:UserWarning")
def test_a_real_trainer_without_an_engine_is_heard(tmp_path: Path) -> None:
    """And its schedule still sees its optimizer's steps."""
    job = job_of(write_model("gpt2", tmp_path / "base"), zero_stage=1)
    trainer, heard = trainer_of(job, tmp_path, accumulation=2, max_steps=2), list[str]()
    trainer.add_callback(StepListening(trainer, Noted(heard.append), Noted(heard.append)))
    trainer.train()
    step = ["forward 2", "backward", "end", "forward 2", "backward", "update", "stepped"]
    assert heard[::2] == heard[1::2]
    assert heard[::2] == step * 2
    assert trainer.gradient_norm > 0
