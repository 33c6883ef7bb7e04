"""Plans after rehearsals: what is measured, what is added, and the choice that is made again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.efficiency import Rated
from autofit.domain.estimate import Constants, Estimate, HostEstimate, MemoryEstimate, SpeedEstimate
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.outcome import Crashed, Measured, Outcome, Phase, Place
from autofit.domain.plan import Candidate, Plan, Verdict
from autofit.domain.strategy import Strategy
from autofit.planning.plan.baseline import predicted_cost
from autofit.planning.plan.rehearsal_site import RehearsalSite
from autofit.planning.plan.replan import MOST_REHEARSED, replan, rivals
from tests.builders import make_rung
from tests.planning import simulated as sim

GB = sim.GB
CONSTANTS = Constants(GB // 2, GB, 1.1, 0.5, 0.5)
SCENE = replace(sim.setting(sim.hardware(8, 24)), known_constants=CONSTANTS)
SAME = RehearsalSite(SCENE, sim.hardware(1, 24), has_flash=True)
OTHER = RehearsalSite(SCENE, sim.hardware(2, 50, kind=DeviceKind.CPU, host_gb=100), has_flash=True)


def strategy(site: int, method: Method = Method.FULL, *, gc: bool = False) -> Strategy:
    return Strategy(
        make_rung(site, method=method, gradient_checkpointing=GradientCheckpointing(gc)),
        1,
        4,
    )


def candidate(
    one: Strategy, peak_gb: float, compute_s: float, verdict: Verdict = Verdict.FITS, *, is_absolute: bool = True
) -> Candidate:
    size = round(peak_gb * GB)
    memory = MemoryEstimate(size - 3 * GB, GB, 0, GB, 0, GB, size - GB, size + GB, HostEstimate(GB))
    speed = SpeedEstimate(8000.0, compute_s, 1.0, 0.0, 0.0, is_absolute)
    return Candidate(one, Estimate(memory, speed), verdict, "because", verdict is Verdict.FITS)


LORA, FIRST, SECOND, THIRD = strategy(1, Method.LORA), strategy(1), strategy(2), strategy(3)


def plan(*candidates: Candidate) -> Plan:
    choice = next((one for one in candidates if one.is_expected), None)
    return Plan(SCENE.shape, SCENE.hardware, SCENE.request, choice, candidates, ("a larger GPU (…)",))


PLAN = plan(candidate(FIRST, 12, 3), candidate(SECOND, 11, 4), candidate(THIRD, 10, 5))


def measured(peak_gb: float, step_s: float = 3.0, base_gb: float = 0.4) -> Measured:
    sizes = round(peak_gb * GB), GB
    return Measured(*sizes, 8000 / step_s, step_s, step_s / 4, 0.0, base_bytes=round(base_gb * GB))


def after(
    outcomes: dict[Strategy, Outcome], site: RehearsalSite = SAME, before: Plan = PLAN
) -> dict[Strategy, Candidate]:
    return {one.strategy: one for one in replan(before, outcomes, site).candidates}


def test_the_best_of_each_method_is_a_rival_and_then_the_next() -> None:
    full = [candidate(strategy(site, gc=gc), 10, 3) for gc in (False, True) for site in (1, 2, 3)]
    lora = candidate(LORA, 10, 9)
    beyond = candidate(LORA, 99, 1, Verdict.TOO_LARGE)
    chosen = rivals(plan(*full, lora, beyond))
    assert chosen == (*full[: MOST_REHEARSED - 1], lora)


def test_what_was_seen_and_what_was_added_take_the_place_of_the_estimate() -> None:
    one = after({FIRST: measured(13)})[FIRST]
    assert one.estimate is not None
    memory, speed = one.estimate.memory, one.estimate.speed
    assert (memory.low_bytes, memory.peak_bytes, memory.high_bytes) == (13 * GB, 14 * GB, 15 * GB)
    assert (memory.parameters_bytes, memory.activations_bytes) == (9 * GB, 3 * GB)
    assert (speed.step_s, speed.communication_s, speed.tokens_per_s) == (4.0, 1.0, 2000.0)
    assert one.rehearsed is not None
    assert (one.rehearsed.communicator_bytes, one.rehearsed.communication_s) == (GB, pytest.approx(1.0))
    assert one.reason == "rehearsed on GPU of a test: takes 14.0 GB of 24.0 GB"


def test_less_than_was_estimated_takes_the_least_certain_parts_away() -> None:
    one = after({FIRST: measured(7.5)})[FIRST]
    assert one.estimate is not None
    memory = one.estimate.memory
    assert memory.peak_bytes == round(8.5 * GB)
    assert (memory.activations_bytes, memory.runtime_bytes, memory.gradients_bytes) == (0, 0, 0)
    assert memory.parameters_bytes == round(8.5 * GB)


def test_the_fastest_measured_one_that_fits_is_chosen_again() -> None:
    new = replan(PLAN, {FIRST: measured(11, 6.0), SECOND: measured(10, 3.0)}, SAME)
    assert new.choice is not None
    assert new.choice.strategy == SECOND
    assert [one.strategy for one in new.candidates] == [SECOND, FIRST, THIRD]


def test_the_others_are_corrected_by_the_error_of_those_that_were_measured() -> None:
    relative = plan(candidate(FIRST, 12, 3, is_absolute=False), candidate(SECOND, 11, 4, is_absolute=False))
    one = after({FIRST: measured(11, 6.0)}, before=relative)[SECOND]
    assert one.estimate is not None
    assert one.estimate.speed.is_absolute
    assert one.estimate.speed.step_s == pytest.approx(5.0 * (6.0 * 4 / 3) / 4.0)


@pytest.mark.parametrize("baseline", [FIRST, THIRD], ids=["rehearsed", "corrected"])
def test_what_ratios_are_of_is_corrected_as_its_candidate_is(baseline: Strategy) -> None:
    own = next(one for one in PLAN.candidates if one.strategy == baseline)
    assert own.estimate is not None
    before = replace(PLAN, baseline=Rated(baseline, predicted_cost(own.estimate), fits=True))
    new = replan(before, {FIRST: measured(11, 6.0), SECOND: measured(10, 9.0)}, SAME)
    corrected = next(one.estimate for one in new.candidates if one.strategy == baseline)
    assert new.baseline is not None
    assert corrected is not None
    assert corrected != own.estimate
    assert new.baseline.cost.token_s == pytest.approx(1 / corrected.speed.tokens_per_s)
    assert new.baseline.cost.peak_device_bytes == corrected.memory.peak_bytes


@pytest.mark.parametrize(
    ("seen_gb", "verdict", "is_expected"),
    [(22.2, Verdict.FITS, True), (22.9, Verdict.PROBE, False), (24.1, Verdict.TOO_LARGE, False)],
    ids=["with all that was added", "not with the communicator and headroom", "not even alone"],
)
def test_what_was_measured_is_judged(seen_gb: float, verdict: Verdict, is_expected: bool) -> None:
    one = after({FIRST: measured(seen_gb)})[FIRST]
    assert (one.verdict, one.is_expected) == (verdict, is_expected)


def test_an_allocator_that_had_to_make_room_is_too_tight() -> None:
    one = after({FIRST: replace(measured(10), alloc_retries=3)})[FIRST]
    assert (one.verdict, one.is_expected) == (Verdict.TOO_LARGE, False)


def test_on_another_kind_of_device_tensors_carry_over_and_times_do_not() -> None:
    new = replan(PLAN, {FIRST: measured(10.4, 99.0)}, OTHER)
    one = new.candidates[0]
    assert one.strategy == FIRST
    assert one.estimate is not None
    assert one.estimate.memory.low_bytes == pytest.approx(0.5 * GB + 1.1 * 10 * GB)
    assert PLAN.candidates[0].estimate is not None
    assert one.estimate.speed == PLAN.candidates[0].estimate.speed
    assert one.rehearsed is not None
    assert one.rehearsed.communication_s is None
    assert new.rehearsal is not None
    assert (new.rehearsal.is_same_kind, new.rehearsal.is_timed) == (False, False)


def test_kernels_of_another_kind_leave_a_doubt() -> None:
    assert after({FIRST: measured(16)}, OTHER)[FIRST].verdict is Verdict.FITS
    doubtful = after({FIRST: measured(18)}, OTHER)[FIRST]
    assert (doubtful.verdict, doubtful.is_expected) == (Verdict.PROBE, True)


def test_running_out_of_memory_under_the_planned_limit_decides() -> None:
    new = replan(PLAN, {FIRST: sim.out_of_memory()}, SAME)
    one = new.candidates[-1]
    assert (one.strategy, one.verdict) == (FIRST, Verdict.TOO_LARGE)
    assert one.reason == "ran out of memory in rehearsal on GPU of a test"
    assert new.rehearsal is not None
    assert new.rehearsal.count == 1
    assert new.choice is not None
    assert new.choice.strategy == SECOND


def smaller() -> Hardware:
    return sim.hardware(1, 16)


@pytest.mark.parametrize(
    ("outcome", "site"),
    [
        (sim.out_of_memory(), RehearsalSite(SCENE, smaller(), has_flash=True)),
        (sim.out_of_memory(Phase.BUILD, Place.HOST), SAME),
        (Crashed(0, Phase.BUILD, "a library is missing"), SAME),
    ],
    ids=["a smaller device", "the host here", "a crash here"],
)
def test_what_says_nothing_of_the_machine_planned_for_changes_nothing(outcome: Outcome, site: RehearsalSite) -> None:
    assert replan(PLAN, {FIRST: outcome}, site).candidates == PLAN.candidates


def test_advice_goes_when_something_fits_after_all() -> None:
    hopeless = plan(candidate(LORA, 23.9, 3, Verdict.PROBE))
    assert hopeless.choice is None
    assert replan(hopeless, {}, SAME).would_fit == hopeless.would_fit
    new = replan(hopeless, {LORA: measured(12)}, SAME)
    assert new.choice is not None
    assert new.would_fit == ()
