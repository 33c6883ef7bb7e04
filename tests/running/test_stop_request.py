"""What a signal asks of a full run, by what came before it and by the clock."""

from __future__ import annotations

import signal
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1

import pytest

from autofit.running.stop_request import Demand, StopRequest


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP, SIGUSR1])
def test_the_first_signal_saves_where_there_is_a_step_to_save(number: signal.Signals, clock: Clock) -> None:
    assert StopRequest(90.0, clock).hear(number, can_save=True) is Demand.SAVE
    assert StopRequest(90.0, clock).hear(number, can_save=False) is Demand.END


@pytest.mark.parametrize("first", [SIGINT, SIGTERM])
def test_after_it_only_ctrl_c_ends_the_ranks_at_once(first: signal.Signals, clock: Clock) -> None:
    """Schedulers send theirs twice, and at the end of a session all kinds come."""
    request = StopRequest(90.0, clock)
    request.hear(first, can_save=True)
    clock.now_s += 5
    for number in (SIGTERM, SIGUSR1, SIGHUP):
        assert request.hear(number, can_save=True) is Demand.NOTHING
    assert request.hear(SIGINT, can_save=True) is Demand.END
    assert request.signal == first


def test_a_ctrl_c_that_a_wrapper_passes_on_as_well_is_one(clock: Clock) -> None:
    request = StopRequest(90.0, clock)
    request.hear(SIGINT, can_save=True)
    clock.now_s += 0.1
    assert request.hear(SIGINT, can_save=True) is Demand.NOTHING


@pytest.mark.parametrize(("grace_s", "saving_s"), [(90.0, 80.0), (8.0, 6.0)])
def test_a_part_of_the_grace_is_kept_for_ending_what_could_not_save(
    grace_s: float, saving_s: float, clock: Clock
) -> None:
    request = StopRequest(grace_s, clock)
    clock.now_s += 1000
    assert not request.is_over
    request.hear(SIGTERM, can_save=True)
    clock.now_s += saving_s - 0.1
    request.hear(SIGTERM, can_save=True)  # the grace is counted from the first
    assert not request.is_over
    clock.now_s += 0.2
    assert request.is_over
