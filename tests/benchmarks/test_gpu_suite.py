"""What the GPU suite tries and in which order, and what it says of what it saw."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from _recording import Model, Recording, Row, read_body, write_body
from _suite_configurations import GB, LARGE, SMALL, Configuration, configurations, make_model
from _suite_decision import _decision
from _suite_figures import compare, figures, fitted, kendall_tau, regressions, spread, taus, wrong_verdicts
from _suite_probes import Bench, last_words, make_models, one_device, traced
from gpu_suite import CONFIGURATION_S, DECISION, DECISION_AFTER, Run, Suite, hopeless, in_order, line

from autofit.domain.event import Chosen
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.offload import Offload
from autofit.domain.outcome import Crashed, Measured, Outcome, OutOfMemory, Phase, Place, TimedOut
from autofit.domain.plan import Verdict
from autofit.domain.trial import Choice, Trial
from autofit.hardware.machine_spec import parse_machine
from autofit.inputs.model_files import read_model_files
from autofit.planning.prior_constants import prior
from tests.builders import make_request

CUDA = DeviceKind.CUDA
HERE = parse_machine("H200")
RUNTIME_BYTES, COMMUNICATOR_BYTES = 880_000_000, 920_000_000  # as on an H200
ONE = Configuration(SMALL, 1024, 1, 16 * GB)
OOM = OutOfMemory(0, Phase.BACKWARD, Place.DEVICE, "CUDA out of memory")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, ...]:
    """Without traces: the closed form stands in."""
    root = tmp_path_factory.mktemp("models")
    for name in (SMALL, LARGE):
        make_model(name, CUDA, root / name)
    return tuple(
        Model(replace(read_model_files(str(root / name)).shape, name=name), ()) for name in (SMALL, LARGE)
    )  # fmt: skip


def measured(recording: Recording, configuration: Configuration, taken: float = 1.0, slower: float = 1.0) -> Row:
    """As predicted, but for these factors."""
    estimate = recording.estimate(configuration)
    outcome = Measured(
        peak_device_bytes=round(taken * estimate.memory.peak_bytes),
        peak_host_bytes=0,
        tokens_per_s=estimate.speed.tokens_per_s / slower,
        step_s=estimate.speed.step_s * slower,
        micro_step_s=0.1,
        update_s=0.0,
        base_bytes=RUNTIME_BYTES + (0 if configuration.is_rehearsal else COMMUNICATOR_BYTES),
        peak_allocated_bytes=round(estimate.memory.peak_bytes - estimate.memory.runtime_bytes),
    )
    return row(recording, configuration, outcome)


def row(recording: Recording, configuration: Configuration, outcome: Outcome, verdict: Verdict = Verdict.PROBE) -> Row:
    estimate = recording.estimate(configuration)
    trial = Trial(configuration.strategy, estimate, outcome, configuration.is_rehearsal)
    return Row(configuration, trial, verdict, has_trace=False)


def recorded(models: tuple[Model, ...], *, taken: float = 1.0, slower: float = 1.0) -> Recording:
    empty = Recording(HERE, models)
    rehearsal = replace(ONE, model=LARGE, rank_count=64, zero_stage=3, limit_bytes=80 * GB)
    tried = (ONE, replace(ONE, micro_batch=8), replace(ONE, gradient_checkpointing=GradientCheckpointing.ON), rehearsal)
    return replace(empty, rows=tuple(measured(empty, each, taken, slower) for each in tried))


def test_there_are_enough_of_every_kind_and_what_must_be_compiled_comes_last() -> None:
    tried = configurations(CUDA, Dtype.BF16, has_flash=True)
    assert 25 <= len(tried) <= 36
    assert len(set(tried)) == len(tried)
    stages = {(each.rank_count, each.zero_stage) for each in tried if each.is_rehearsal}
    assert stages >= {(ranks, stage) for ranks in (8, 64) for stage in (1, 2, 3)}
    assert {each.limit_bytes for each in tried} == {16 * GB, 24 * GB, 40 * GB, 80 * GB}
    assert {each.attention for each in tried} == set(Attention)
    offloads = [each.offload is not Offload.NONE for each in tried]
    assert offloads == sorted(offloads)
    without = configurations(CUDA, Dtype.FP16, has_flash=False)
    assert {each.attention for each in without} == set(Attention) - {Attention.FLASH_2}


def test_the_search_has_its_place_among_the_configurations() -> None:
    tried = configurations(CUDA, Dtype.BF16, has_flash=False)
    assert in_order(tried, has_decision=True)[DECISION_AFTER] == DECISION
    assert in_order(tried[:3], has_decision=True) == [*tried[:3], DECISION]
    assert DECISION not in in_order(tried, has_decision=False)


def test_a_models_folder_counts_its_parameters_exactly_and_takes_no_room(tmp_path: Path) -> None:
    make_model(LARGE, CUDA, tmp_path / "model")
    shape = read_model_files(str(tmp_path / "model")).shape
    assert shape.is_counted_exactly
    assert shape.parameter_count == 6_738_415_616  # Llama-2-7B
    assert (tmp_path / "model/model.safetensors").stat().st_blocks * 512 < 10**6


def test_only_what_the_card_itself_cannot_hold_is_left_out(models: tuple[Model, ...]) -> None:
    small_card = Recording(parse_machine("RTX-3090"), models)
    full = replace(ONE, model=LARGE, limit_bytes=80 * GB)
    assert "the card has" in (hopeless(full, small_card) or "")
    assert hopeless(replace(full, limit_bytes=16 * GB), small_card) is None  # to see it fail under the limit
    assert hopeless(ONE, small_card) is None


def test_a_recording_survives_its_file(models: tuple[Model, ...]) -> None:
    recording = recorded(models)
    assert read_body(json.loads(json.dumps(write_body(recording)))) == recording


def test_errors_are_of_what_was_taken_and_of_what_tensors_held(models: tuple[Model, ...]) -> None:
    found = figures(compare(recorded(models, taken=1.25)))
    assert found["row_count"] == 4
    assert found["peak"]["median_percent"] == pytest.approx(20.0, abs=0.01)
    assert found["tensors"]["highest_percent"] == 0.0
    assert set(found["kendall_tau"].values()) == {1.0}


def test_fitting_takes_the_medians_and_brings_the_errors_down(models: tuple[Model, ...]) -> None:
    recording = recorded(models, taken=1.1, slower=2.0)
    constants = fitted(recording)
    start = prior(HERE.devices[0])
    assert (constants.runtime_bytes, constants.communicator_bytes) == (RUNTIME_BYTES, COMMUNICATOR_BYTES)
    assert constants.matmul_efficiency == pytest.approx(start.matmul_efficiency / 2, rel=0.05)
    before, after = figures(compare(recording)), figures(compare(recording, constants))
    assert after["peak"]["median_percent"] < before["peak"]["median_percent"]
    assert after["speed"]["median_percent"] < before["speed"]["median_percent"]
    assert fitted(replace(recording, rows=())) == start


def test_what_was_outside_then_is_no_regression_and_what_falls_out_is(models: tuple[Model, ...]) -> None:
    assert regressions(recorded(models)) == []
    assert regressions(recorded(models, taken=9.0)) == []
    thinner = tuple(replace(model, shape=replace(model.shape, parameter_count=10**6)) for model in models)
    assert any("no longer between" in words for words in regressions(replace(recorded(models), models=thinner)))


def test_a_verdict_that_turns_wrong_is_a_regression(models: tuple[Model, ...]) -> None:
    recording = Recording(HERE, models)
    ran_out = replace(ONE, limit_bytes=80 * GB)
    then_open = replace(recording, rows=(row(recording, ran_out, OOM, Verdict.PROBE),))
    assert regressions(then_open) == [f"{ran_out}: what the plan says without a probe is wrong now"]
    then_wrong = replace(recording, rows=(row(recording, ran_out, OOM, Verdict.FITS),))
    assert regressions(then_wrong) == []


def test_an_order_that_is_lost_is_a_regression(models: tuple[Model, ...]) -> None:
    recording = recorded(models)
    slow, fast = replace(ONE, tokens=64), replace(ONE, tokens=2048, micro_batch=8)
    told = replace(recording, rows=(measured(recording, slow), measured(recording, fast)))
    assert taus(compare(told)) == {SMALL: 1.0}
    swapped = tuple(
        replace(one, trial=replace(other.trial, estimate=other.trial.estimate))
        for one, other in zip(told.rows, reversed(told.rows), strict=True)
    )
    assert any("Kendall" in words for words in regressions(replace(told, rows=swapped)))


def test_tau_counts_pairs_in_order_and_passes_over_what_was_measured_alike() -> None:
    assert kendall_tau([(1, 10), (2, 20), (3, 30)]) == 1.0
    assert kendall_tau([(3, 10), (2, 20), (1, 30)]) == -1.0
    assert kendall_tau([(1, 10), (3, 20), (2, 30)]) == pytest.approx(1 / 3)
    assert kendall_tau([(1, 10), (2, 10.05)]) is None
    assert kendall_tau([(2, 10), (2.001, 20)]) == 0.0  # predicted alike: neither right nor wrong


def test_a_spread_is_of_sizes_but_for_its_ends() -> None:
    assert spread([]) is None
    assert spread([-0.1, 0.02, 0.03]) == {
        "median_percent": 3.0, "p95_percent": 10.0, "lowest_percent": -10.0, "highest_percent": 3.0,
    }  # fmt: skip


def test_a_verdict_is_wrong_when_the_device_says_the_opposite(models: tuple[Model, ...]) -> None:
    recording = recorded(models)
    wrong = [row(recording, ONE, OOM, Verdict.FITS), replace(recording.rows[0], verdict=Verdict.TOO_LARGE)]
    right = [row(recording, ONE, OOM), row(recording, ONE, replace(OOM, place=Place.HOST), Verdict.FITS)]
    assert wrong_verdicts([*wrong, *right, *recording.rows]) == [str(ONE), str(ONE)]


def test_a_line_names_what_happened(models: tuple[Model, ...]) -> None:
    recording = recorded(models, taken=9.0)
    assert "CUDA out of memory" in line(row(recording, ONE, OOM))
    assert "beyond the interval" not in line(recorded(models).rows[0])
    assert line(recording.rows[0]).endswith("fits (open); no trace; beyond the interval")


class FakeBench:
    """Its rows take what they are told to, on a clock of its own; so does the start of its agent."""

    def __init__(self, recording: Recording, start_s: float, rows_s: list[float]) -> None:
        self._recording, self._start_s, self._rows_s = recording, start_s, rows_s
        self.now_s = 0.0
        self.limits_s: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def start(self, limit_s: float) -> None:
        self.now_s, self._start_s = self.now_s + self._start_s, 0.0

    def row(self, configuration: Configuration, limit_s: float) -> Row:
        self.limits_s.append(limit_s)
        self.now_s += min(limit_s, self._rows_s[len(self.limits_s) - 1])
        return measured(self._recording, configuration)


def tried_in(budget_s: float, bench: FakeBench, recording: Recording, tmp_path: Path) -> tuple[int, dict[str, str]]:
    """How many rows were tried within the budget, and what was left out."""
    suite = Suite({}, replace(recording, rows=()))
    run = Run(suite, bench, "cuda", tmp_path, budget_s, bench.clock)  # type: ignore[arg-type]
    for micro_batch in range(1, len(bench._rows_s) + 1):
        run.do(replace(ONE, micro_batch=micro_batch))
    return len(suite.recording.rows), suite.left_out


def test_neither_a_slow_first_row_nor_a_slow_start_starves_the_others(
    models: tuple[Model, ...], tmp_path: Path
) -> None:
    """150 s for a compiler once, and 60 s for the agent: with 12 s each, 14 more have room in 420 s."""
    recording = recorded(models)
    bench = FakeBench(recording, start_s=60.0, rows_s=[150.0, *[12.0] * 14])
    assert tried_in(420.0, bench, recording, tmp_path) == (15, {})


def test_no_row_is_begun_that_the_budget_may_not_hold_and_none_outlasts_it(
    models: tuple[Model, ...], tmp_path: Path
) -> None:
    recording = recorded(models)
    bench = FakeBench(recording, start_s=0.0, rows_s=[20.0, 500.0, 20.0, 20.0])
    count, left_out = tried_in(230.0, bench, recording, tmp_path)
    assert (count, list(left_out.values())) == (2, ["the budget is spent"] * 2)
    assert bench.limits_s == [CONFIGURATION_S] * 2
    last = FakeBench(recording, start_s=0.0, rows_s=[500.0])
    assert tried_in(100.0, last, recording, tmp_path)[0] == 1
    assert last.limits_s == [100.0]
    late = FakeBench(recording, start_s=240.0, rows_s=[20.0])
    assert tried_in(250.0, late, recording, tmp_path)[0] == 0  # its agent has taken what there was


@pytest.mark.slow
@pytest.mark.matrix
def test_neither_a_slow_configuration_nor_a_dead_agent_ends_the_suite(tmp_path: Path) -> None:
    hardware = one_device("cpu", tmp_path)
    tried = [each for each in configurations(DeviceKind.CPU, Dtype.BF16, has_flash=False) if each.model == SMALL][:1]
    make_models([SMALL], hardware, tmp_path)
    with Bench(traced(hardware, tried, tmp_path), tmp_path) as bench:
        bench.start(100.0)
        assert isinstance(bench.row(tried[0], 0.0).trial.outcome, TimedOut)
        assert isinstance(bench.row(tried[0], 100.0).trial.outcome, Measured)
        assert bench._agent is not None
        bench._agent._process.kill()
        assert isinstance(bench.row(tried[0], 100.0).trial.outcome, Crashed)
        bench.start(100.0)
        assert isinstance(bench.row(tried[0], 100.0).trial.outcome, Measured)
        assert last_words(tmp_path / "run4")


def test_regret_is_against_the_fastest_that_fits(models: tuple[Model, ...]) -> None:
    recording = recorded(models)
    first, second, *_ = recording.rows
    assert first.measured is not None
    assert second.measured is not None
    pick = replace(first.measured, tokens_per_s=90.0, peak_device_bytes=GB)
    faster = replace(second.measured, tokens_per_s=100.0, peak_device_bytes=GB)
    request = make_request(memory_limit_bytes=2 * GB)
    chosen = Chosen(Choice(first.trial.strategy, pick, "it is the fastest"), 3.0, 2)
    trials = [replace(second.trial, outcome=faster), replace(first.trial, outcome=pick)]
    found = _decision(chosen, 9.0, trials, request, True)
    assert (found.best, found.tried_count) == (second.trial.strategy, 2)
    assert found.regret == pytest.approx(0.1)
    too_large = replace(faster, peak_device_bytes=2 * GB)
    assert _decision(chosen, 9.0, [replace(second.trial, outcome=too_large)], request, True).regret == 0.0
