"""What the devices here can show of the machine that is planned for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.estimate import Estimate, HostEstimate, MemoryEstimate, SpeedEstimate
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.attention import Attention
from autofit.domain.outcome import Place
from autofit.domain.strategy import Strategy
from autofit.planning.plan.rehearsal_site import MemoryShortfall, RehearsalSite
from autofit.planning.prior_constants import prior
from tests.builders import make_rung
from tests.planning import simulated as sim

GB = sim.GB
FLASH = Strategy(
    make_rung(1, attention=Attention.FLASH_2),
    1,
    4,
)
SDPA = replace(FLASH, rung=replace(FLASH.rung, attention=Attention.SDPA))


def cpu(host_gb: float) -> Hardware:
    return sim.hardware(2, host_gb / 2, kind=DeviceKind.CPU, host_gb=host_gb)


def a_site(here: Hardware, *, there: Hardware | None = None, has_flash: bool = True) -> RehearsalSite:
    return RehearsalSite(sim.setting(there or sim.hardware(8, 80)), here, has_flash)


def estimate(low_gb: float, high_gb: float, host_gb: float = 8, offloaded_gb: float = 0) -> Estimate:
    moved_bytes = round(offloaded_gb * GB)
    host = HostEstimate(round(host_gb * GB), pinned_bytes=moved_bytes, offloaded_bytes=moved_bytes)
    memory = MemoryEstimate(round(low_gb * GB), 0, 0, 0, 0, 0, round(low_gb * GB), round(high_gb * GB), host)
    return Estimate(memory, SpeedEstimate(1000.0, 1.0, 0.0, 0.0, 0.0))


def test_a_larger_device_here_is_held_to_the_planned_ones_memory() -> None:
    large, small = a_site(sim.hardware(1, 140)), a_site(sim.hardware(1, 24))
    assert (large.limited.memory_limit_bytes, large.is_limited) == (80 * GB, True)
    assert (small.limited.memory_limit_bytes, small.is_limited) == (24 * GB, False)


def test_a_cpu_may_take_the_whole_host_for_one_rank_and_has_its_own_runtime() -> None:
    here = a_site(cpu(100))
    gained_bytes = prior(cpu(100).devices[0]).runtime_bytes - prior(sim.hardware().devices[0]).runtime_bytes
    assert here.limited.memory_limit_bytes == 80 * GB + gained_bytes
    assert here.is_limited


@pytest.mark.parametrize(
    ("here", "there", "strategy", "expected"),
    [
        (sim.hardware(1), sim.hardware(8), FLASH, True),
        (cpu(100), sim.hardware(8), SDPA, False),
        (cpu(100), cpu(100), SDPA, True),
        (sim.hardware(1), replace(sim.hardware(8), nodes=cpu(1).nodes), SDPA, False),
        (cpu(100), sim.hardware(100, 1, kind=DeviceKind.CPU), SDPA, False),
    ],
    ids=["same", "CPU for GPU", "same CPU", "GPU for CPU", "more ranks than cores"],
)
def test_times_carry_over_between_equals(here: Hardware, there: Hardware, strategy: Strategy, expected: bool) -> None:
    assert a_site(here, there=there).is_timed(strategy) is expected


def test_another_product_has_other_times() -> None:
    there = sim.hardware(8)
    named = replace(there.nodes[0].devices[0], name="another")
    other = replace(there, nodes=(replace(there.nodes[0], devices=(named,) * 8),))
    assert not a_site(sim.hardware(1), there=other).is_timed(SDPA)


def test_without_flash_attention_torchs_kernel_stands_in_and_is_not_timed() -> None:
    without = a_site(sim.hardware(1), has_flash=False)
    assert without.playable(FLASH) == SDPA
    assert not without.is_timed(FLASH)
    assert without.is_timed(SDPA)


def test_a_gpu_lacks_what_is_surely_too_much_for_it_or_for_its_host() -> None:
    here = a_site(sim.hardware(1, 24, host_gb=10))
    assert here.shortfalls(estimate(23, 60)) is None
    assert here.shortfalls(estimate(25, 60)) == MemoryShortfall(Place.DEVICE, 25 * GB, 24 * GB)
    assert here.shortfalls(estimate(20, 60, host_gb=88)) == MemoryShortfall(
        Place.HOST, 11 * GB, 10 * GB
    )  # one of 8 ranks there


def test_a_cpu_must_hold_the_upper_bound_but_never_more_than_its_limit() -> None:
    assert a_site(cpu(24)).shortfalls(estimate(10, 23)) is None
    assert a_site(cpu(24)).shortfalls(estimate(10, 25)) == MemoryShortfall(Place.HOST, 25 * GB, 24 * GB)
    assert a_site(cpu(24)).shortfalls(estimate(10, 23, offloaded_gb=16)) == MemoryShortfall(
        Place.HOST, 25 * GB, 24 * GB
    )
    assert a_site(cpu(24), there=sim.hardware(8, 16)).shortfalls(estimate(10, 99)) is None
