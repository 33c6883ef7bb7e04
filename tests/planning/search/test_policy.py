"""The policy against scripted outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.ladder import Ladder
from autofit.domain.outcome import Crashed, Killed, Measured, Outcome, Phase, Place, TimedOut, Unsupported
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choose, GiveUp, Probe, Trial
from autofit.planning.memory import interval
from autofit.planning.plan import fit
from autofit.planning.search.policy import WORTH_BESIDE, decide
from autofit.planning.search.search_state import SearchState
from autofit.planning.space.ladder_builder import make_step
from tests.planning import simulated as sim

SMALL = replace(sim.LLAMA_7B, parameter_count=1_000_000_000)
TWO = sim.setting(sim.hardware(2, 40), SMALL)
FULL = sim.setting(sim.hardware(2, 40), SMALL, pins=Pins(method=Method.FULL))
LORA = sim.setting(sim.hardware(2, 40), SMALL, pins=Pins(method=Method.LORA))


def play(scene: sim.Setting, script: Mapping[str, Outcome], **truth: float) -> sim.Run:
    """The search on a machine that answers as `answers` says."""
    return sim.search(scene, sim.ladder(scene), answers(scene, script, **truth))


def answers(
    scene: sim.Setting, script: Mapping[str, Outcome], base_gb: float = 10, row_gb: float = 5, overhead: float = 0.1
) -> Callable[[Strategy], Outcome]:
    """`script` by rung or by strategy; what it does not name is measured: a line of memory, nearly no overhead."""
    rungs = sim.ladder(scene)

    def probe(strategy: Strategy) -> Outcome:
        scripted = script.get(str(strategy), script.get(str(strategy.rung)))
        if scripted is not None:
            return scripted
        rows = strategy.micro_batch
        peak_bytes = round((base_gb + row_gb * rows) * sim.GB)
        if peak_bytes > scene.device_memory_bytes:
            return sim.out_of_memory()
        speed = rungs.estimate(strategy).speed.tokens_per_s / (1 + overhead / rows)
        return sim.measured(speed, peak_bytes, micro_batch=rows)

    return probe


def probed(run: sim.Run) -> list[str]:
    return [str(trial.strategy) for trial in run.trials]


def chosen(run: sim.Run) -> Choose:
    assert isinstance(run.end, Choose)
    return run.end


def test_the_first_probe_of_a_traced_model_is_the_fastest_that_should_fit() -> None:
    scene = sim.traced(LORA)
    rungs = sim.ladder(scene)
    first = decide(rungs, (), scene)
    assert isinstance(first, Probe)
    roomy = [s for step in rungs.steps for s in step.strategies if leaves_room(rungs, s)]
    fastest = max(rungs.estimate(strategy).speed.tokens_per_s for strategy in roomy)
    assert rungs.estimate(first.strategy).speed.tokens_per_s >= fastest
    assert SearchState.of(rungs, (), scene).chance(first.strategy) > 0.9


def leaves_room(rungs: Ladder, strategy: Strategy) -> bool:
    return rungs.estimate(strategy).memory.high_bytes < 0.8 * rungs.device_memory_bytes


@pytest.mark.parametrize("row_gb", [0.5, 1, 2, 3, 5, 9])
def test_the_largest_micro_batch_that_fits_and_pays_is_found(row_gb: float) -> None:
    run = play(LORA, {}, row_gb=row_gb, overhead=0.5)
    fitting = [rows for rows in (1, 2, 4, 8, 16) if 10 + row_gb * rows <= 40 * (1 - interval.HEADROOM)]
    assert chosen(run).choice.strategy.micro_batch == fitting[-1]


def test_two_measured_micro_batches_make_the_third_known() -> None:
    """Memory is a line over the rows."""
    rungs, trials = sim.ladder(LORA), []
    step = next(step for step in rungs.steps if str(step.rung) == "zero1+lora")
    for strategy in step.strategies[:2]:
        outcome = sim.measured(1000, round((10 + 3 * strategy.micro_batch) * sim.GB))
        trials.append(Trial(strategy, rungs.estimate(strategy), outcome))
    search = SearchState.of(rungs, trials, LORA)
    for strategy, rows in zip(step.strategies[2:4], (4, 8), strict=True):
        assert search.memory(strategy).mean == pytest.approx((10 + 3 * rows) * sim.GB, rel=0.1)


def test_a_jump_that_fails_steps_down() -> None:
    run = play(LORA, {f"{rung} mb16": sim.out_of_memory() for rung in rungs_of(LORA)}, row_gb=1, overhead=0.5)
    assert chosen(run).choice.strategy.micro_batch == 8


def rungs_of(scene: sim.Setting) -> list[str]:
    return [str(step.rung) for step in sim.ladder(scene).steps]


def test_the_fastest_measured_wins_not_the_largest() -> None:
    slower = {
        f"{rung} mb{rows}": sim.measured(20_000 / rows, 11 * sim.GB)
        for rung in rungs_of(LORA)
        for rows in (2, 4, 8, 16)
    }
    quick = {f"{rung} mb1": sim.measured(20_000, 11 * sim.GB) for rung in rungs_of(LORA)}
    assert chosen(play(LORA, slower | quick)).choice.strategy.micro_batch == 1


def test_a_pinned_micro_batch_is_the_only_one() -> None:
    scene = sim.setting(sim.hardware(2, 40), SMALL, pins=Pins(micro_batch=2))
    assert {trial.strategy.micro_batch for trial in play(scene, {}).trials} == {2}


def test_a_lora_choice_names_the_fastest_full_rung() -> None:
    """But for what no further probe is worth."""
    choice = chosen(play(TWO, {})).choice
    assert choice.strategy.rung.method is Method.LORA
    assert choice.plain is not None
    assert choice.plain.strategy.rung.method is Method.FULL
    probe, device_bytes = answers(TWO, {}), TWO.device_memory_bytes
    outcomes = [probe(strategy) for step in sim.ladder(FULL).steps for strategy in step.strategies]
    fitting = [one for one in outcomes if isinstance(one, Measured) and fit.fits(one, device_bytes)]
    fastest = max(one.tokens_per_s for one in fitting)
    assert choice.plain.measured is not None
    assert choice.plain.measured.tokens_per_s >= (1 - WORTH_BESIDE) * fastest


def test_a_lora_choice_says_when_no_full_rung_fits() -> None:
    full = {str(step.rung): sim.out_of_memory() for step in sim.ladder(FULL).steps}
    choice = chosen(play(TWO, full)).choice
    assert choice.plain is None
    assert choice.why.endswith("no rung with all parameters fits")


def test_the_certificate_names_the_nearest_bound_and_every_rung_has_its_reason() -> None:
    run = play(LORA, {})
    choice = chosen(run).choice
    assert choice.why.startswith("nothing left can beat it")
    assert "tokens/s (zero" in choice.why
    left = {step.rung for step in sim.ladder(LORA).steps} - {trial.strategy.rung for trial in run.trials}
    assert left
    assert left <= {rest.rung for rest in choice.unprobed}
    assert all(rest.reason for rest in choice.unprobed)


def test_what_needs_no_less_than_a_failed_rung_is_not_probed() -> None:
    rungs = sim.ladder(FULL)
    failed = next(step for step in rungs.steps if str(step.rung) == "zero2+gc")
    before = (Trial(failed.strategies[0], failed.estimates[0], sim.out_of_memory()),)
    run = sim.search(FULL, rungs, lambda _: sim.measured(peak_bytes=38 * sim.GB), before=before)
    rest = {str(other.rung): other.reason for other in chosen(run).choice.unprobed}
    for heavier in ("zero1", "zero2", "zero1+gc"):
        assert rest[heavier] == "needs no less than zero2+gc mb1, which ran out of memory"


def test_adapters_that_do_not_fit_leave_no_room_for_all_parameters() -> None:
    whole = sim.ladder(TWO)
    # What moves inputs to the host is only there for rows whose inputs may not fit, of LoRA for more than otherwise.
    kept = tuple(step for step in whole.steps if not step.rung.gradient_checkpointing.is_between)
    rungs = replace(whole, steps=kept)
    lora = [step for step in kept if step.rung.method is Method.LORA]
    trials = [Trial(step.strategies[0], step.estimates[0], sim.out_of_memory()) for step in lora]
    assert isinstance(decide(rungs, trials, TWO), GiveUp)


@pytest.mark.parametrize(("phase", "rank"), [*((phase, 0) for phase in Phase), (Phase.BACKWARD, 1)])
def test_out_of_memory_in_any_phase_on_any_rank_leads_on(phase: Phase, rank: int) -> None:
    first = str(sim.ladder(TWO).steps[0].rung)
    choice = chosen(play(TWO, {first: sim.out_of_memory(phase, rank=rank)})).choice
    assert str(choice.strategy.rung) != first


@pytest.mark.parametrize("index", range(0, 28, 9))
def test_out_of_memory_of_any_rung_alone_leads_on(index: int) -> None:
    rung = str(sim.ladder(TWO).steps[index].rung)
    assert str(chosen(play(TWO, {rung: sim.out_of_memory()})).choice.strategy.rung) != rung


@pytest.mark.parametrize(
    "outcome",
    [TimedOut(1, Phase.FORWARD, 60.0), Unsupported("no kernel"), Crashed(0, Phase.BUILD, "boom")],
    ids=["timed-out", "unsupported", "crashed"],
)
def test_a_broken_rung_is_left_and_says_nothing_of_the_others(outcome: Outcome) -> None:
    first = play(LORA, {}).trials[0].strategy
    run, fresh = play(LORA, {str(first.rung): outcome}), SearchState.of(sim.ladder(LORA), (), LORA)
    assert probed(run).count(str(first)) == 1
    assert chosen(run).choice.strategy.rung != first.rung
    rungs = sim.ladder(LORA)
    broken = SearchState.of(rungs, [Trial(first, rungs.estimate(first), outcome)], LORA)
    others = [step.leanest for step in rungs.steps if step.rung != first.rung]
    believed = [(broken.memory(other), broken.log_speed(other)) for other in others]
    assert believed == [(fresh.memory(other), fresh.log_speed(other)) for other in others]


@pytest.mark.parametrize("end", [Crashed(0, Phase.START, "port taken"), Killed(0, Phase.START, 9)])
def test_a_crash_at_the_start_is_tried_once_more(end: Outcome) -> None:
    first = play(LORA, {}).trials[0].strategy
    run = play(LORA, {str(first.rung): end})
    assert probed(run)[:2] == [str(first)] * 2
    assert first.rung not in {trial.strategy.rung for trial in run.trials[2:]}


def test_a_rung_that_recovers_from_its_start_can_be_chosen() -> None:
    rungs, first = sim.ladder(LORA), play(LORA, {}).trials[0].strategy
    crash = Trial(first, rungs.estimate(first), Crashed(0, Phase.START, "port taken"))
    again = Trial(first, rungs.estimate(first), sim.measured(10**9, 11 * sim.GB))
    run = sim.search(LORA, rungs, lambda _: sim.out_of_memory(), before=(crash, again))
    assert chosen(run).choice.strategy == first


def test_when_everything_crashes_it_gives_up_early_and_quotes_the_crash() -> None:
    everything = {str(step.rung): Crashed(0, Phase.BUILD, "no module x") for step in sim.ladder(TWO).steps}
    run = play(TWO, everything)
    assert isinstance(run.end, GiveUp)
    assert "failed, none for want of memory (" in run.end.why
    assert "crashed); the first: " in run.end.why
    assert "no module x" in run.end.why
    assert (run.end.is_memory, run.end.closest, run.end.would_fit) == (False, None, ())
    assert run.probe_count <= 6


def test_a_crash_beside_rungs_that_are_too_large_by_prediction_is_no_want_of_memory() -> None:
    scene = sim.setting(sim.hardware(2, 24), pins=Pins(method=Method.FULL))
    rungs = sim.ladder(scene)
    assert rungs.left_out
    end = play(scene, {str(step.rung): Crashed(0, Phase.BUILD, "no module x") for step in rungs.steps}).end
    assert isinstance(end, GiveUp)
    assert (end.is_memory, end.closest) == (False, None)


def test_what_failed_in_several_ways_is_counted() -> None:
    ends = [Killed(0, Phase.STEP, 9), TimedOut(1, Phase.FORWARD, 60.0), sim.out_of_memory(place=Place.SHARED)]
    steps = sim.ladder(TWO).steps
    end = play(TWO, {str(step.rung): ends[number % 3] for number, step in enumerate(steps)}).end
    assert isinstance(end, GiveUp)
    assert not end.is_memory
    for words in ("killed", "timed out", "without shared memory"):
        assert words in end.why


def test_where_some_lacked_memory_and_some_broke_both_is_said_and_not_that_nothing_fits() -> None:
    script: dict[str, Outcome] = {str(step.rung): sim.out_of_memory() for step in sim.ladder(TWO).steps}
    first = play(TWO, script).trials[0].strategy
    end = play(TWO, script | {str(first.rung): Crashed(0, Phase.BUILD, "no module x")}).end
    assert isinstance(end, GiveUp)
    assert not end.is_memory
    assert "ran out of device memory" in end.why
    assert f"1 failed otherwise (1 crashed; the first: {first}: crashed in the build on rank 0: no module x)" in end.why
    assert end.closest is not None


def test_a_full_shared_memory_says_nothing_of_the_device_and_no_micro_batch_mends_it() -> None:
    first = play(LORA, {}).trials[0].strategy
    run = play(LORA, {str(first.rung): sim.out_of_memory(place=Place.SHARED)})
    assert [trial.strategy.rung for trial in run.trials].count(first.rung) == 1
    assert chosen(run).choice.strategy.rung != first.rung


def test_a_measurement_without_headroom_does_not_fit() -> None:
    device_bytes = sim.ladder(FULL).device_memory_bytes
    tight = sim.measured(peak_bytes=round(device_bytes * (1 - interval.HEADROOM)) + 1)
    roomy = sim.measured(peak_bytes=round(device_bytes * (1 - interval.HEADROOM)))
    assert (fit.fits(tight, device_bytes), fit.fits(roomy, device_bytes)) == (False, True)


def test_thrashing_does_not_fit() -> None:
    thrash = {f"zero1+lora mb{rows}": sim.measured(10**9, 30 * sim.GB, alloc_retries=2) for rows in (1, 2, 4, 8, 16)}
    assert str(chosen(play(LORA, thrash)).choice.strategy.rung) != "zero1+lora"


def test_a_host_out_of_memory_rules_out_what_offloads_as_much() -> None:
    scene = sim.setting(sim.hardware(2, 20), pins=Pins(method=Method.FULL))
    script: dict[str, Outcome] = {
        str(step.rung): sim.out_of_memory(place=Place.HOST) for step in sim.ladder(scene).steps
    }
    run = play(scene, script)
    assert isinstance(run.end, GiveUp)
    assert "host memory" in run.end.why
    assert run.probe_count < len(sim.ladder(scene).steps)


def test_giving_up_names_the_closest_rung_and_what_would_fit() -> None:
    scene = sim.setting(sim.hardware(2, 12, host_gb=80), pins=Pins(method=Method.FULL))
    rungs = sim.ladder(scene)
    end = play(scene, {str(step.rung): sim.out_of_memory() for step in rungs.steps}).end
    assert isinstance(end, GiveUp)
    assert end.closest == least_demanding(scene)
    assert end.has_bytes == scene.device_memory_bytes
    assert (end.needs_bytes or 0) > end.has_bytes
    assert any(text.startswith("--method lora") for text in end.would_fit)
    assert any("more GPUs like these" in text for text in end.would_fit)
    assert any("more free host memory" in text for text in end.would_fit)


def test_an_empty_ladder_gives_up_without_a_probe() -> None:
    scene = sim.setting(sim.hardware(1, 1, host_gb=2), pins=Pins(method=Method.FULL))
    run = play(scene, {})
    assert isinstance(run.end, GiveUp)
    assert run.probe_count == 0
    assert run.end.closest == least_demanding(scene)


def least_demanding(scene: sim.Setting) -> Strategy:
    """Of the strategies that fail, or are too large by prediction, the one with the lowest estimate."""
    rungs = sim.ladder(scene)
    tried = [(step.strategies[0], step.estimates[0].memory.peak_bytes) for step in rungs.steps]
    left_out = [
        (make_step(out.rung, scene).leanest, scene.device_memory_bytes + out.short_bytes)
        for out in rungs.left_out
        if out.short_bytes is not None
    ]
    return min([*tried, *left_out], key=lambda one: one[1])[0]


def test_it_replays_from_its_own_history() -> None:
    rungs, run = sim.ladder(TWO), play(TWO, {})
    for length in range(len(run.trials)):
        action = decide(rungs, run.trials[:length], TWO, sim.CERTAIN)
        assert getattr(action, "strategy", None) == run.trials[length].strategy
    assert decide(rungs, run.trials, TWO, sim.CERTAIN) == run.end
    assert isinstance(run.trials[0].outcome, Measured)
