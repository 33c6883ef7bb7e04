"""Every rung judged, the pick, and what would make more fit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.estimate import Estimate, HostEstimate, MemoryEstimate, SpeedEstimate
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.attention import FLASH_PACKAGE, Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.plan import Plan, Verdict
from autofit.domain.trace import SdpaKernel
from autofit.planning.plan.candidates import make_plan, plan_order
from autofit.planning.plan.cost import cost
from autofit.planning.plan.fit import judge
from autofit.planning.setting import Setting
from tests.planning import simulated as sim

GB = sim.GB
V100 = sim.hardware(8, 32, capability=(7, 0))


def plan(scene: Setting, *, has_flash: bool = True, bigger: tuple[Hardware, ...] = ()) -> Plan:
    return make_plan(replace(scene, installed=frozenset({FLASH_PACKAGE} if has_flash else ())), bigger=bigger)


def estimate(low_gb: float, peak_gb: float, high_gb: float, host: HostEstimate | None = None) -> Estimate:
    sizes = (round(peak_gb * GB), 0, 0, 0, 0, 0, round(low_gb * GB), round(high_gb * GB))
    return Estimate(MemoryEstimate(*sizes, host or HostEstimate(GB)), SpeedEstimate(1000.0, 1.0, 0.0, 0.0, 0.0))


STRATEGY = sim.ladder(sim.setting()).steps[0].strategies[0]

ROOMY = "needs 3.0 GB at most, below 80 % of 80.0 GB"


def on_host(offloaded_gb: float, *, unpinned_gb: float = 0) -> HostEstimate:
    """A gigabyte of processes, what is offloaded, all of it pinned, and what lies there beside it."""
    return HostEstimate(GB, round(unpinned_gb * GB), round(offloaded_gb * GB), round(offloaded_gb * GB))


JUDGED = [
    (estimate(10, 50, 63.9), Verdict.FITS, True, "needs 63.9 GB at most, below 80 % of 80.0 GB"),
    (estimate(10, 50, 64.1), Verdict.PROBE, True, "needs 10.0 GB to 64.1 GB of 80.0 GB"),
    (estimate(10, 77.7, 79), Verdict.PROBE, False, "needs 10.0 GB to 79.0 GB of 80.0 GB"),
    (estimate(80.1, 90, 99), Verdict.TOO_LARGE, False, "too large by 100 MB: needs 80.1 GB at least of 80.0 GB"),
    (estimate(1, 2, 3, on_host(1900)), Verdict.TOO_LARGE, False, "host memory is short by 100 GB"),
    (
        estimate(1, 2, 3, on_host(0, unpinned_gb=1900)),
        Verdict.PROBE,
        False,
        f"{ROOMY}; may need 1.9 TB of 1.8 TB host memory",
    ),
    (estimate(1, 2, 3, on_host(1700)), Verdict.FITS, True, f"1.7 TB at most of 1.8 TB host memory; {ROOMY}"),
    (estimate(1, 2, 3, on_host(1798.5)), Verdict.PROBE, True, f"{ROOMY}; may need 1.8 TB of 1.8 TB"),
    (
        estimate(1, 2, 3, on_host(1700, unpinned_gb=150)),
        Verdict.PROBE,
        False,
        f"{ROOMY}; may need 1.9 TB of 1.8 TB",
    ),
    (
        estimate(10, 50, 64.1, on_host(1700)),
        Verdict.PROBE,
        True,
        "1.7 TB at most of 1.8 TB host memory; needs 10.0",
    ),
    (estimate(80.1, 90, 99, on_host(950)), Verdict.TOO_LARGE, False, "too large by 100 MB"),
]


@pytest.mark.parametrize(("predicted", "verdict", "is_expected", "reason"), JUDGED)
def test_the_interval_decides_what_is_sure(
    predicted: Estimate, verdict: Verdict, is_expected: bool, reason: str
) -> None:
    judged = judge(STRATEGY, predicted, sim.setting(sim.hardware(8, 80)))
    assert (judged.verdict, judged.is_expected) == (verdict, is_expected)
    assert judged.reason.startswith(reason)


def test_the_host_of_cpu_ranks_is_judged_once() -> None:
    scene = sim.setting(sim.hardware(2, 80, capability=None, kind=DeviceKind.CPU, host_gb=1))
    assert judge(STRATEGY, estimate(1, 2, 3, HostEstimate(9 * GB)), scene).verdict is Verdict.FITS


def test_candidates_stand_best_first_and_the_first_expected_to_fit_is_the_pick() -> None:
    planned = plan(sim.setting(sim.hardware(4, 40)))
    expected = [one for one in planned.candidates if one.is_expected]
    assert planned.choice == expected[0] == planned.candidates[0]
    assert planned.candidates[: len(expected)] == tuple(expected)
    speeds = [one.estimate.speed.tokens_per_s for one in expected if one.estimate]
    assert len(speeds) > 2
    assert all(slower <= 1.02 * faster for faster, slower in pairwise(speeds))
    verdicts = [one.verdict for one in planned.candidates]
    assert Verdict.TOO_LARGE in verdicts
    assert verdicts.index(Verdict.TOO_LARGE) > verdicts.index(Verdict.PROBE)


@pytest.mark.parametrize(("slower", "is_sure_first"), [(0.999, True), (0.9, False)])
def test_of_equally_fast_rungs_one_that_is_sure_to_fit_stands_first(slower: float, is_sure_first: bool) -> None:
    scene = sim.setting(sim.hardware(1, 80))
    unsure, sure = estimate(10, 50, 70), estimate(10, 50, 60)
    sure = replace(sure, speed=replace(sure.speed, tokens_per_step=slower * unsure.speed.tokens_per_step))
    judged = [judge(STRATEGY, one, scene) for one in (unsure, sure)]
    assert [one.verdict for one in judged] == [Verdict.PROBE, Verdict.FITS]
    assert (min(judged, key=plan_order).estimate is sure) is is_sure_first


def test_there_is_one_candidate_a_rung_and_the_global_batch_is_kept() -> None:
    planned = plan(sim.setting(sim.hardware(8, 80)))
    rungs = [one.strategy.rung for one in planned.candidates]
    assert len(rungs) == len(set(rungs))
    assert len([rung for rung in rungs if not rung.gradient_checkpointing.is_between]) == 32
    assert all(one.strategy.micro_batch * one.strategy.gradient_accumulation * 8 == 32 for one in planned.candidates)


def test_a_v100_is_planned_in_fp16_without_flash_attention() -> None:
    planned = plan(sim.setting(V100))
    able = [one.strategy.rung for one in planned.candidates if one.verdict is not Verdict.UNSUPPORTED]
    lacking = [one for one in planned.candidates if one.verdict is Verdict.UNSUPPORTED]
    assert {(rung.dtype, rung.attention) for rung in able} == {(Dtype.FP16, Attention.SDPA)}
    assert {one.strategy.rung.attention for one in lacking} == {Attention.FLASH_2}
    assert "has 7.0" in lacking[0].reason


def test_a_plan_names_the_kernels_that_torchs_attention_was_traced_with() -> None:
    scene = sim.traced(sim.setting(V100))
    kernels = (SdpaKernel.MATH, SdpaKernel.EFFICIENT)
    traces = tuple(replace(one, sdpa_kernels=(kernels[one.of.micro_batch > 1],)) for one in scene.traces)
    assert plan(replace(scene, traces=traces)).sdpa_kernels == kernels
    assert plan(scene).sdpa_kernels == ()


@pytest.mark.parametrize("pins", [Pins(dtype=Dtype.BF16), Pins(attention=Attention.FLASH_2)])
def test_a_pin_that_the_device_lacks_leaves_nothing(pins: Pins) -> None:
    planned = plan(sim.setting(V100, pins=pins))
    assert planned.choice is None
    assert {one.verdict for one in planned.candidates} == {Verdict.UNSUPPORTED}
    assert "cannot be used" in planned.candidates[0].reason or "does not work" in planned.candidates[0].reason


def test_ranks_that_cannot_share_the_batch_are_refused() -> None:
    with pytest.raises(UsageError, match="3 ranks"):
        plan(sim.setting(sim.hardware(3)))


def test_what_it_would_take_where_nothing_fits() -> None:
    scene = sim.setting(sim.hardware(1, 24, host_gb=64), pins=Pins(method=Method.FULL))
    planned = plan(scene, bigger=(sim.hardware(1, 192, host_gb=512), sim.hardware(1, 16), sim.hardware(1, 300)))
    assert planned.choice is None
    kinds = [text.split(" (")[0] for text in planned.would_fit]
    assert "--method lora" in kinds
    assert any("more GPUs like this" in kind for kind in kinds)
    assert "1 × GPU of a test" in kinds
    assert any("more free host memory" in kind for kind in kinds)


def test_where_lora_fits_the_advice_is_for_all_parameters() -> None:
    scene = sim.setting(sim.hardware(1, 24, host_gb=64))
    planned = plan(scene)
    assert planned.choice is not None
    assert planned.choice.strategy.rung.method is Method.LORA
    assert planned.would_fit
    assert not any("--method lora" in text for text in planned.would_fit)
    lora = replace(scene, request=replace(scene.request, pins=Pins(method=Method.LORA)))
    assert plan(lora).would_fit == ()


def test_a_bill_needs_absolute_speeds_and_a_known_power() -> None:
    speed = SpeedEstimate(1000.0, 1.0, 0.0, 0.0, 0.0)
    due = cost(3.6e6, speed, sim.hardware(8), 2.0)
    assert due is not None
    assert (due.hours, due.price, due.energy_kwh) == (1.0, 16.0, None)
    assert cost(3.6e6, replace(speed, is_absolute=False), sim.hardware(8), 2.0) is None
    assert cost(None, speed, sim.hardware(8), 2.0) is None
