"""Windows over recorded counters: what they say, and when they say nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autofit.probing.protocol import Counted
from autofit.worker.energy import energy_meter
from autofit.worker.energy.counter import EnergyCounter, UpdatePeriod
from autofit.worker.energy.energy_meter import EnergyMeter
from tests.worker.energy.recorded import Clock, RecordedCounter, jumping_j

PERIOD_S = 0.1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EnergyMeter]:
    """Makes a meter by the clock of the test, on which its counters' periods are measured before anything else."""

    def measured(counter: EnergyCounter) -> UpdatePeriod:
        period = UpdatePeriod(counter, clock, clock.pass_s)
        period.seconds()
        return period

    monkeypatch.setattr(energy_meter, "UpdatePeriod", measured)
    return lambda device=None, host=None: EnergyMeter(device, host, clock)


def counter(clock: Clock, power_w: float = 300.0, **changes: object) -> RecordedCounter:
    return RecordedCounter(jumping_j(clock, power_w=power_w, period_s=PERIOD_S), **changes)  # type: ignore[arg-type]


def test_the_update_period_is_measured(clock: Clock) -> None:
    period_s = UpdatePeriod(counter(clock), clock, clock.pass_s).seconds()
    assert period_s == pytest.approx(PERIOD_S, abs=0.005)


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_counter_that_stands_still_or_is_gone_has_no_period(clock: Clock, is_gone: bool) -> None:
    still = RecordedCounter(lambda: 7.0, is_gone=is_gone)
    assert UpdatePeriod(still, clock, clock.pass_s).seconds() is None


def test_a_window_counts_within_five_percent(clock: Clock, meter: Callable[..., EnergyMeter]) -> None:
    made = meter(counter(clock), counter(clock, 100.0, name="host"))
    for late_s in (0.0, 0.03, 0.06, 0.09):
        clock.pass_s(late_s)
        made.begin()
        clock.pass_s(2.1)
        energy = made.end(500.0)
        assert energy.tokens == 500.0
        assert energy.device is not None
        assert energy.host is not None
        assert energy.device.joules == pytest.approx(630.0, rel=0.05)
        assert energy.host == Counted("host", pytest.approx(210.0, rel=0.05))  # type: ignore[arg-type]


def test_a_window_that_is_too_short_for_its_counter_says_nothing(
    clock: Clock, meter: Callable[..., EnergyMeter]
) -> None:
    made = meter(counter(clock))
    made.begin()
    clock.pass_s(1.5)
    energy = made.end(500.0)
    assert (energy.device, energy.host) == (None, None)


def test_a_window_begins_anew(clock: Clock, meter: Callable[..., EnergyMeter]) -> None:
    made = meter(counter(clock))
    made.begin()
    clock.pass_s(50.0)
    made.begin()
    clock.pass_s(10.0)
    device = made.end(1.0).device
    assert device is not None
    assert device.joules == pytest.approx(3000.0, rel=0.02)


def test_a_device_that_is_lost_within_the_window_says_nothing(clock: Clock, meter: Callable[..., EnergyMeter]) -> None:
    lost = counter(clock)
    made = meter(lost)
    made.begin()
    clock.pass_s(10.0)
    lost.is_gone = True
    assert made.end(1.0).device is None


def test_a_rank_on_a_machine_without_counters_measures_nothing(clock: Clock, meter: Callable[..., EnergyMeter]) -> None:
    made = meter()
    made.begin()
    clock.pass_s(10.0)
    energy = made.end(1.0)
    assert (energy.device, energy.host) == (None, None)
