"""What tells how a script counts: `global_steps` compared, a loader's rows, where the learning rate moves."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from autofit.worker.script.learning_rates import LearningRateWatch
from autofit.worker.script.step_questions import _epoch_rows, _watched_steps

HEARD: list[str] = []


class Engine:
    global_steps = _watched_steps(lambda: HEARD.append("asked"))


def test_only_a_comparison_of_the_step_count_tells() -> None:
    engine = Engine()
    engine.global_steps = 6
    engine.global_steps += 1
    assert f"{engine.global_steps} {engine.global_steps % 2 == 1}" == "7 True"
    assert list(range(engine.global_steps, 9)) == [7, 8]
    assert HEARD == [], "a line of a log is no loop"
    assert (engine.global_steps < 8, engine.global_steps >= 8) == (True, False)
    assert HEARD == ["asked", "asked"]
    assert {engine.global_steps: 1} == {7: 1}


class Stream(IterableDataset):
    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(torch.ones(3))


def test_the_rows_of_an_epoch_are_those_of_the_sampler() -> None:
    data = TensorDataset(torch.ones(37, 1))
    assert _epoch_rows(DataLoader(data, 8)) == 37
    assert _epoch_rows(DataLoader(data, 8, sampler=range(20))) == 20
    assert _epoch_rows(DataLoader(data, batch_sampler=[[0, 1], [2]])) is None
    assert _epoch_rows(DataLoader(Stream(), 2)) is None


def test_a_rate_that_moves_between_optimizer_steps_follows_the_batches() -> None:
    calm, restless = LearningRateWatch(), LearningRateWatch()
    for step in range(6):
        calm.micro_batch([0.1 * step])
        calm.micro_batch([0.1 * step])
        calm.update([0.1 * step])
    assert calm.of_steps == [0.0, 0.1, 0.2, 0.1 * 3]
    assert not calm.moves_with_batches
    restless.micro_batch([0.1])
    restless.micro_batch([0.2])
    assert restless.moves_with_batches
