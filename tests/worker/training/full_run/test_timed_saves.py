"""Checkpoints by the clock, on a clock of the test's own."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from autofit.domain.request import Training
from autofit.worker.training.full_run import timed_saves
from autofit.worker.training.full_run.timed_saves import TimedSaves

NOBODY: Any = None
ARGUMENTS: Any = SimpleNamespace(output_dir="checkpoints")


@pytest.fixture(autouse=True)
def every_save_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_saves, "is_saved", lambda folder, step: True)


class Clocked:
    """A training whose steps and saves take what the test says."""

    def __init__(
        self, *, step_s: float, save_s: float = 0.0, first_step: int = 0, is_keeper: bool = True, **training: float
    ) -> None:
        self.now_s = 1000.0
        self.step_s, self.save_s = step_s, save_s
        self.state: Any = SimpleNamespace(global_step=first_step)
        self.saves = TimedSaves(Training(**training), is_keeper=is_keeper, clock=lambda: self.now_s)  # type: ignore[arg-type]
        self.saves.on_train_begin(NOBODY, self.state, NOBODY)
        self._began_s = self.now_s

    def train(self, minutes: float, *, save_every: int | None = None) -> list[float]:
        """The minutes of its clock at which its saves begin."""
        found = []
        while self.now_s < self._began_s + 60 * minutes:
            self.now_s += self.step_s
            self.state.global_step += 1
            is_wanted = self.saves.is_wanted(self.state)
            if is_wanted or (save_every and self.state.global_step % save_every == 0):
                found.append((self.now_s - self._began_s) / 60)
                self.now_s += self.save_s
                self.saves.on_save(ARGUMENTS, self.state, NOBODY)
        return found


def test_a_training_of_less_than_two_minutes_saves_no_more_than_without_a_clock() -> None:
    assert Clocked(step_s=1.0).train(1.9) == []


@pytest.mark.parametrize(("step_s", "first"), [(1.0, 2.0), (90.0, 3.0), (300.0, 5.0)])
def test_the_first_comes_after_two_minutes_or_the_first_step(step_s: float, first: float) -> None:
    assert Clocked(step_s=step_s).train(10)[0] == first


def test_where_a_training_goes_on_it_has_its_first_already() -> None:
    assert Clocked(step_s=1.0, first_step=7).train(14) == []


@pytest.mark.parametrize("save_s", [0.0, 20.0])
@pytest.mark.parametrize("step_s", [1.0, 50.0, 200.0])
def test_never_more_than_the_asked_minutes_are_repeated(step_s: float, save_s: float) -> None:
    """From the end of one save to the end of the next, whose step and save are counted in."""
    starts = Clocked(step_s=step_s, save_s=save_s, max_lost_minutes=10.0).train(200)
    assert len(starts) >= 15
    for start, following in pairwise(starts[1:]):
        assert following - start <= 10 + 1e-9
        assert following - start >= 10 - (2 * step_s + save_s) / 60  # nor in vain


def test_a_save_for_another_reason_starts_the_clock_anew() -> None:
    starts = Clocked(step_s=60.0).train(60, save_every=12)
    assert starts == [2.0, 12.0, 24.0, 36.0, 48.0, 60.0]


def test_a_long_save_takes_a_tenth_of_the_time_unless_minutes_are_asked_for() -> None:
    saves = {"step_s": 1.0, "save_s": 300.0}
    starts = Clocked(**saves).train(600)  # type: ignore[arg-type]
    pauses = [following - start for start, following in pairwise(starts[1:])]
    assert pauses == pytest.approx([50.0] * len(pauses), abs=0.1)
    asked = Clocked(**saves, max_lost_minutes=14.0).train(600)  # type: ignore[arg-type]
    assert asked[3] - asked[2] == pytest.approx(14.0, abs=0.1)
    hasty = Clocked(**saves, max_lost_minutes=1.0).train(600)  # type: ignore[arg-type]
    assert hasty[3] - hasty[2] == pytest.approx(10.0, abs=0.1)  # it trains half of the time at least


def test_the_longest_of_the_last_steps_is_reckoned_with() -> None:
    clocked = Clocked(step_s=120.0, max_lost_minutes=10.0)
    clocked.train(2)
    clocked.step_s = 60.0
    assert clocked.train(40)[:1] == [10.0]


def test_the_clock_of_one_rank_is_everybodys() -> None:
    assert Clocked(step_s=60.0, is_keeper=False).train(60) == []


def test_an_evaluation_is_no_step() -> None:
    clocked = Clocked(step_s=10.0, first_step=1, max_lost_minutes=10.0)
    clocked.train(1)
    clocked.now_s += 300.0
    clocked.saves.on_evaluate()
    assert clocked.train(10)[0] == pytest.approx(9 + 50 / 60)


def test_what_is_wanted_is_saved() -> None:
    control: Any = SimpleNamespace(should_save=False)
    Clocked(step_s=1.0).saves.grant(NOBODY, control)
    assert control.should_save


def test_a_save_that_has_failed_is_tried_again_after_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_saves, "is_saved", lambda folder, step: False)
    assert Clocked(step_s=1.0).train(7) == pytest.approx([2.0, 4.0, 6.0], abs=0.1)
