"""How many rehearsals a machine takes at once, and what is added to what they show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.estimate import Constants, Estimate, HostEstimate, MemoryEstimate, SpeedEstimate
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.outcome import Measured
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial
from autofit.planning.plan.rehearsal import as_probe, how_many
from tests.builders import make_rung
from tests.planning import simulated as sim

GB = sim.GB
SCENE = sim.setting()  # 8 ranks on one node
STRATEGY = Strategy(
    make_rung(1),
    1,
    4,
)
SPEED = SpeedEstimate(4000.0, compute_s=3.0, communication_s=1.0, offload_s=0.0, update_s=1.0)


def estimate(*, host_gb: float = 8.0, device_gb: float = 10.0, speed: SpeedEstimate = SPEED) -> Estimate:
    device_bytes = round(device_gb * GB)
    host = HostEstimate(runtime_bytes=0, pinned_bytes=round(host_gb * GB))
    return Estimate(MemoryEstimate(device_bytes, 0, 0, 0, 0, 0, 0, device_bytes, host), speed)


def on_host(host_gb: float, *, kind: DeviceKind = DeviceKind.CUDA) -> Hardware:
    return sim.hardware(count=8, memory_gb=20, host_gb=host_gb, kind=kind)


@pytest.mark.parametrize(
    ("host_gb", "asked", "expected"),
    [(1000, 20, 8), (1000, 3, 3), (5, 20, 5), (0.5, 20, 1)],
    ids=["devices", "strategies", "host memory", "one at least"],
)
def test_the_scarcest_bounds_how_many_run_at_once(host_gb: float, asked: int, expected: int) -> None:
    assert how_many([estimate(host_gb=8.0)] * asked, SCENE, on_host(host_gb)) == expected  # 8 ranks share 8 GB there


def test_the_most_demanding_counts() -> None:
    assert how_many([estimate(host_gb=8.0)] * 7 + [estimate(host_gb=80.0)], SCENE, on_host(35)) == 3


def test_a_cpu_rank_holds_its_device_in_the_hosts_memory_but_never_more_than_the_device_has() -> None:
    here = on_host(45, kind=DeviceKind.CPU)
    assert how_many([estimate(device_gb=10.0)] * 8, SCENE, here) == 4
    assert how_many([estimate(device_gb=100.0)] * 8, SCENE, here) == 2


def test_the_machine_here_counts_and_not_the_one_that_is_planned_for() -> None:
    assert how_many([estimate()] * 8, SCENE, sim.hardware(count=1)) == 1


def rehearsed(strategy: Strategy = STRATEGY, speed: SpeedEstimate = SPEED) -> Trial:
    measured = Measured(10 * GB, 2 * GB, tokens_per_s=1000.0, step_s=4.0, micro_step_s=0.9, update_s=0.4)
    return Trial(strategy, estimate(speed=speed), measured, is_rehearsal=True)


def test_what_a_rehearsal_cannot_see_is_added() -> None:
    setting = replace(SCENE, known_constants=Constants(0, 600_000_000, 1.0, 0.5, 0.5))
    probed = as_probe(rehearsed(), setting)
    assert probed.peak_device_bytes == 10 * GB + 600_000_000
    assert probed.peak_host_bytes == 8 * 2 * GB
    assert probed.step_s == pytest.approx(4.0 + 1.0)
    assert probed.tokens_per_s == pytest.approx(1000 * 4 / 5)


def test_one_rank_has_nobody_to_talk_to_but_its_engine_makes_a_communicator() -> None:
    alone = replace(SCENE, hardware=sim.hardware(count=1))
    trial = rehearsed(speed=replace(SPEED, communication_s=0.0))
    assert isinstance(trial.outcome, Measured)
    taken_bytes = trial.outcome.peak_device_bytes + alone.constants.communicator_bytes
    assert as_probe(trial, alone) == replace(trial.outcome, peak_device_bytes=taken_bytes)


def test_without_rates_communication_is_a_share_of_what_was_measured() -> None:
    probed = as_probe(rehearsed(speed=replace(SPEED, is_absolute=False)), SCENE)
    assert probed.step_s == pytest.approx(4.0 * 5 / 4)


@pytest.mark.parametrize(("stage", "micro_step_s", "update_s"), [(1, 0.9, 1.4), (2, 1.15, 0.4), (3, 1.15, 0.4)])
def test_communication_comes_where_the_stage_has_it(stage: int, micro_step_s: float, update_s: float) -> None:
    probed = as_probe(rehearsed(replace(STRATEGY, rung=replace(STRATEGY.rung, zero_stage=stage))), SCENE)
    assert (probed.micro_step_s, probed.update_s) == (pytest.approx(micro_step_s), pytest.approx(update_s))
