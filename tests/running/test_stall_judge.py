"""Who stands still is told by what was seen of the ranks, with a clock of the test's own; who is only slow is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from autofit.domain.outcome import Phase, TimedOut
from autofit.process.process_state import ProcessState
from autofit.running.stall_judge import Sign, StallJudge

LEAST_S = 100.0
LOOK_S = 0.5


class Run:
    """Two ranks, seen twice a second."""

    def __init__(self, *, step_s: float | None = None) -> None:
        self.judge = StallJudge(least_s=LEAST_S, step_s=step_s)
        self.now_s = 1e6
        self.signs = [Sign(rank, Phase.START, 0, 0) for rank in range(2)]
        self.look()

    def look(self) -> TimedOut | None:
        return self.judge.take(self.signs, self.now_s)

    def move(self, rank: int, **changed: object) -> None:
        """What this rank says of itself next."""
        sign = self.signs[rank]
        self.signs[rank] = replace(sign, **{"beat": sign.beat + 1, **changed})  # type: ignore[arg-type]

    def enter(self, phase: Phase, step: int) -> None:
        for rank in range(2):
            self.move(rank, phase=phase, step=step)

    def train(self, durations_s: Sequence[float]) -> None:
        for step, duration_s in enumerate(durations_s):
            self.enter(Phase.FORWARD, step)
            assert self.silent(duration_s) is None, f"ended in step {step}"
        self.enter(Phase.FORWARD, len(durations_s))

    def silent(self, duration_s: float) -> TimedOut | None:
        """What is said while nobody moves for so long."""
        until_s = self.now_s + duration_s
        while self.now_s < until_s:
            self.now_s += LOOK_S
            if (told := self.look()) is not None:
                return told
        return None

    def told_after_s(self) -> float:
        """How long it takes until something is said, when nobody moves any more."""
        began_s = self.now_s
        assert self.silent(1e5) is not None
        return self.now_s - began_s


def test_short_steps_are_missed_after_the_least_that_is_borne() -> None:
    run = Run()
    run.train([1.0] * 5)
    assert run.told_after_s() == pytest.approx(LEAST_S, abs=3 * LOOK_S)


def test_long_steps_are_given_twenty_times_as_long() -> None:
    run = Run()
    run.train([30.0] * 5)
    assert run.told_after_s() == pytest.approx(600.0, abs=60)


def test_a_long_first_step_does_not_count_for_the_later_ones() -> None:
    """A kernel is compiled in it, and it may take twice the least."""
    run = Run()
    run.train([1.9 * LEAST_S, 1.0, 1.0, 1.0])
    assert run.told_after_s() == pytest.approx(LEAST_S, abs=3 * LOOK_S)


def test_the_first_step_goes_by_what_a_probe_measured() -> None:
    run = Run(step_s=60.0)
    run.train([15 * 60.0])
    assert run.told_after_s() == pytest.approx(20 * 60.0, abs=3 * LOOK_S)


def test_a_save_is_given_twice_the_least_and_goes_on_as_long_as_something_is_written() -> None:
    run = Run()
    run.train([1.0] * 5)
    run.enter(Phase.SAVE, 5)
    for written in range(20):
        run.move(0, beat=run.signs[0].beat, work=written)
        assert run.silent(1.9 * LEAST_S) is None
    assert run.told_after_s() == pytest.approx(0.1 * LEAST_S, abs=3 * LOOK_S)


def test_a_rank_that_works_alone_keeps_the_others_alive() -> None:
    """It evaluates, or writes, and they wait for it in a collective."""
    run = Run()
    run.train([1.0] * 5)
    for _ in range(10):
        run.move(0, phase=Phase.EVALUATE)
        assert run.silent(0.9 * LEAST_S) is None


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """The whole job was stopped, by a scheduler or a closed lid."""
    run = Run()
    run.train([1.0] * 5)
    run.now_s += 1e5
    assert run.look() is None
    assert run.silent(0.9 * LEAST_S) is None


@pytest.mark.parametrize("hung", [0, 1])
def test_of_two_the_one_that_is_a_step_behind_is_named(hung: int) -> None:
    run = Run()
    run.train([1.0] * 5)
    run.move(1 - hung, phase=Phase.FORWARD, step=6)
    told = run.silent(1e4)
    assert told == TimedOut(hung, Phase.FORWARD, LEAST_S)


@pytest.mark.parametrize("hung", [0, 1])
def test_of_two_in_the_same_step_the_one_that_moved_last_before_the_other_is_named(hung: int) -> None:
    """It stopped where it was; the other went on until it had to wait for it."""
    run = Run()
    run.train([1.0] * 5)
    assert run.silent(1.0) is None
    run.move(1 - hung, phase=Phase.BACKWARD)
    assert run.silent(1e4) == TimedOut(hung, Phase.FORWARD, LEAST_S)


@pytest.mark.parametrize("state", [ProcessState.STOPPED, ProcessState.BLOCKED])
@pytest.mark.parametrize("hung", [0, 1])
def test_a_process_that_does_not_run_is_named_whatever_else_is_seen(hung: int, state: ProcessState) -> None:
    run = Run()
    run.train([1.0] * 5)
    run.move(hung, phase=Phase.BACKWARD, step=6, state=state)
    assert run.silent(1e4) == TimedOut(hung, Phase.BACKWARD, LEAST_S)


def test_ranks_that_never_begin_are_missed() -> None:
    judge = StallJudge(least_s=LEAST_S)
    looks = [judge.take((), float(at_s)) for at_s in range(0, 400, 2)]
    assert looks[90] is None
    assert looks[-1] == TimedOut(0, Phase.START, 2 * LEAST_S)
