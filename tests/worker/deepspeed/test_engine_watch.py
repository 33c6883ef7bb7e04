"""An engine followed by whoever calls it, and what its micro-batches took."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autofit.worker.deepspeed.engine_watch import StepListener, StepWatch
from autofit.worker.training.step_meter import StepMeter


class FakeEngine:
    """Counts as DeepSpeed's does: at each `step` of a loop, or as accelerate tells it."""

    def __init__(self, accumulation: int) -> None:
        self.module = SimpleNamespace(training=True)
        self.skipped_steps = 0
        self.told: bool | None = None
        self._accumulation = accumulation
        self._micro_steps = 0

    def is_gradient_accumulation_boundary(self) -> bool:
        return self.told if self.told is not None else (self._micro_steps + 1) % self._accumulation == 0

    def forward(self, *_: Any, **__: Any) -> None: ...

    def backward(self, *_: Any) -> None: ...

    def step(self) -> None:
        self._micro_steps += 1


class Listener(StepListener):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def forward(self, batch: Any) -> None:
        self.heard.append(f"forward {batch[0][0]}")

    def update(self) -> None:
        self.heard.append("update")

    def micro_step_end(self) -> None:
        self.heard.append("end")

    def step_end(self, *, was_skipped: bool) -> None:
        self.heard.append("skipped" if was_skipped else "stepped")


TWO_STEPS = ["forward 0", "end", "forward 1", "update", "stepped", "forward 2", "end", "forward 3", "update", "stepped"]


def _loop(engine: FakeEngine, number: int) -> None:
    engine.forward(number)
    engine.backward(None)
    engine.step()


def _own_backward(engine: FakeEngine, number: int) -> None:
    """`loss.backward()`, which the engine's hooks see and its `backward` does not."""
    engine.forward(number)
    engine.step()


def _accelerate(engine: FakeEngine, number: int) -> None:
    engine.forward(number)
    engine.told = number % 2 == 1
    engine.backward(None)
    if engine.told:
        engine.step()


@pytest.mark.parametrize("micro_step", [_loop, _own_backward, _accelerate])
def test_each_micro_batch_ends_once_whoever_calls(micro_step: Any) -> None:
    engine, listener = FakeEngine(accumulation=2), Listener()
    StepWatch(engine, listener)
    for number in range(4):
        micro_step(engine, number)
    assert listener.heard == TWO_STEPS


def test_a_step_that_torchs_own_scaler_skipped_is_told_apart() -> None:
    """DeepSpeed without ZeRO, under `torch_autocast` in fp16: its own count stays 0."""
    engine, listener = FakeEngine(accumulation=1), Listener()
    scales = iter([65536.0, 65536.0, 65536.0, 32768.0, 32768.0, 65536.0])
    engine.torch_autocast_z0_gradscaler = SimpleNamespace(get_scale=lambda: next(scales))  # type: ignore[attr-defined]
    StepWatch(engine, listener)
    for number in range(3):
        _loop(engine, number)
    assert listener.heard[2::3] == ["stepped", "skipped", "stepped"]


def test_durations_are_from_end_to_end_and_warming_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 13.0, 14.0, 18.0, 23.0, 29.0, 36.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    meter = StepMeter()
    meter.begin()
    meter.add_tokens(100)
    meter.end_micro_step()
    assert meter.end_step(is_measured=False) == 3.0
    for _ in range(3):
        meter.add_tokens(7)
        meter.end_micro_step()
    meter.add_tokens(7)
    assert meter.end_step(is_measured=True) == 1.0 + 4.0 + 5.0 + 6.0
    assert (meter.first_s, meter.middle_s, meter.last_s) == ([1.0], [4.0, 5.0], [6.0])
    assert (meter.tokens, meter.micro_batch_count) == (28.0, 4)
    assert meter.end_step(is_measured=True) == 7.0
    assert (meter.first_s, meter.last_s) == ([1.0], [6.0, 7.0])
    assert meter.tokens_per_s == 28.0 / (1.0 + 4.0 + 5.0 + 6.0 + 7.0)
