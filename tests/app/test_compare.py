"""The story of a comparison, told by a simulated machine; no torch in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autofit.app import compare
from autofit.app.tools import Tools
from autofit.domain.comparison import Compared, Comparison, DoesNotFit, Failed, NotCompared, Optimization, Standing
from autofit.domain.errors import AutofitError, UsageError
from autofit.domain.outcome import Crashed, Outcome, Phase, TimedOut
from autofit.domain.request import Generation, Request, Reward
from autofit.domain.task import Task
from autofit.probing.prober import OnHeartbeat
from autofit.probing.protocol import ProbeSpec
from autofit.runs.run_folder import RunFolder
from autofit.store import Store
from tests.builders import make_hardware, make_request
from tests.fake_agent import FakeAgent, SimulatedMachine, peak_bytes, tokens_per_s

MODEL = Path(__file__).parents[2] / "examples/tiny-llama"
REQUEST = make_request(MODEL, global_batch=8)


class Stage:
    """A machine of two ranks with what a comparison would find there."""

    def __init__(self, root: Path) -> None:
        self.machine = SimulatedMachine()
        self.told: list[str] = []
        self.output_dir = root / "compared"
        self.tools = Tools(
            detect=lambda *_, **asked: make_hardware(2, memory_limit_bytes=asked.get("memory_limit_bytes")),
            start_agent=self.machine.start_agent,
            start_tracer=self.machine.start_tracer,
            open_store=lambda: Store(root / "store.sqlite"),
        )

    def measure(self, request: Request = REQUEST, tasks: tuple[Task, ...] = (Task.SFT,)) -> Comparison:
        return compare.measure(request, tasks, output_dir=self.output_dir, tell=self.told.append, tools=self.tools)

    def predict(self, *on: str, tasks: tuple[Task, ...] = (Task.SFT,)) -> tuple[Comparison, ...]:
        return compare.predict(REQUEST, tasks, on, tell=self.told.append, tools=self.tools)

    def probed(self) -> list[str]:
        return [str(spec.job.strategy) for spec in self.machine.specs]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def standings(found: Comparison) -> dict[Optimization, Standing]:
    return {row.optimization: row.standing for row in found.tasks[0].rows}


def test_the_baseline_and_each_one_beside_it_are_probed_once(stage: Stage) -> None:
    (found,) = stage.measure().tasks

    assert stage.probed() == ["zero0 mb4", "zero1 mb4", "zero2 mb4", "zero3 mb4", "zero0+gc mb4", "zero0+lora mb4"]
    base = found.baseline
    assert base.cost.is_measured
    for row in found.rows[:-1]:
        assert isinstance(row.standing, Compared)
        ours, theirs = row.standing.rated.strategy, base.strategy
        assert row.standing.efficiency.speed_up == pytest.approx(tokens_per_s(ours) / tokens_per_s(theirs))
        assert row.standing.efficiency.memory_up == pytest.approx(peak_bytes(theirs) / peak_bytes(ours))
        assert row.standing.efficiency.energy_up is None
    assert found.rows[-1].standing == NotCompared("offload moves nothing off a CPU")
    assert stage.machine.running_count == 0


def test_each_task_has_its_own_request_and_folder(stage: Stage) -> None:
    asked = replace(REQUEST, task=Task.GRPO, generation=Generation(4, 16, (Reward("rewards.py:brief"),)))

    found = stage.measure(asked, (Task.SFT, Task.GRPO))

    assert [one.task for one in found.tasks] == [Task.SFT, Task.GRPO]
    of_probes = {spec.job.request.task: spec.job.request for spec in stage.machine.specs}
    assert of_probes[Task.GRPO].generation == asked.generation
    assert of_probes[Task.SFT].generation == Generation()
    for task in ("sft", "grpo"):
        folder = RunFolder(stage.output_dir / task)
        assert len(folder.read_trials()) == 6
        assert folder.read_request() is not None


def test_a_baseline_that_runs_out_of_memory_is_tried_with_fewer_rows_and_its_rows_follow(stage: Stage) -> None:
    stage.machine.capacity_bytes = 700_000_000  # 350 MB, 240 MB of states, 50 MB a row

    found = stage.measure()

    assert stage.probed()[:2] == ["zero0 mb4", "zero0 mb2"]
    assert found.tasks[0].baseline.strategy.micro_batch == 2
    assert {name.rpartition(" ")[2] for name in stage.probed()[1:]} == {"mb2"}


def test_a_row_that_runs_out_of_memory_does_not_fit(stage: Stage) -> None:
    stage.machine.capacity_bytes = 700_000_000

    found = standings(stage.measure(replace(REQUEST, baseline="zero2+gc mb4")))

    assert isinstance(found[Optimization.ZERO_3], Compared)
    assert found[Optimization.CHECKPOINTING] == NotCompared("the baseline has it")
    stage.machine.capacity_bytes = 660_000_000  # 120 MB of states at stage 2, 240 MB at stage 1
    again = standings(stage.measure(replace(REQUEST, baseline="zero2+gc mb4")))
    one = again[Optimization.ZERO_1]
    assert isinstance(one, DoesNotFit)
    assert "out of memory in backward" in one.why


def test_where_no_baseline_fits_all_is_predicted_and_said_so(stage: Stage) -> None:
    stage.machine.capacity_bytes = 1

    (found,) = stage.measure().tasks

    assert not found.baseline.cost.is_measured
    assert not found.baseline.fits
    assert found.why == "nothing fits"
    assert len(set(stage.probed())) == len(stage.probed())


class SilentAgent(FakeAgent):
    """Its probes of ZeRO-3 give no sign of life."""

    def probe(self, spec: ProbeSpec, on_heartbeat: OnHeartbeat) -> Outcome:
        outcome = super().probe(spec, on_heartbeat)
        return TimedOut(0, Phase.BUILD, 600.0) if spec.job.strategy.rung.zero_stage == 3 else outcome


def test_a_row_that_fails_for_another_reason_is_told_with_it(stage: Stage) -> None:
    stage.tools = replace(stage.tools, start_agent=lambda **_: SilentAgent(stage.machine))

    found = standings(stage.measure())

    silent = found[Optimization.ZERO_3]
    assert isinstance(silent, Failed)
    assert silent.why == "no sign of life in the build for 10:00"
    assert isinstance(found[Optimization.LORA], Compared)


class CrashingAgent(FakeAgent):
    def probe(self, spec: ProbeSpec, on_heartbeat: OnHeartbeat) -> Outcome:
        super().probe(spec, on_heartbeat)
        return Crashed(1, Phase.BUILD, "no such module")


def test_probes_that_all_crash_end_the_comparison_with_the_reason(stage: Stage) -> None:
    stage.tools = replace(stage.tools, start_agent=lambda **_: CrashingAgent(stage.machine))

    with pytest.raises(AutofitError, match="for --task sft: zero2 mb4 crashed in the build on rank 1: no such module"):
        stage.measure()
    assert stage.probed() == ["zero0 mb4", "zero1 mb4", "zero2 mb4"]
    assert stage.machine.running_count == 0


def test_a_second_comparison_sets_the_first_aside_and_measures_anew(stage: Stage) -> None:
    stage.measure()
    stage.measure()

    folder = RunFolder(stage.output_dir / "sft")
    assert len(folder.read_trials()) == 6
    assert (folder.root / "earlier" / "1" / "trials.jsonl").is_file()
    assert any("earlier comparison" in text for text in stage.told)


def test_predictions_start_no_agent_and_come_in_the_order_of_the_machines(stage: Stage) -> None:
    found = stage.predict("1xV100-32GB", "4xA100-40GB", tasks=(Task.SFT, Task.DPO))

    assert stage.machine.specs == []
    assert [one.hardware.rank_count for one in found] == [1, 4]
    assert [[task.task for task in one.tasks] for one in found] == [[Task.SFT, Task.DPO]] * 2
    assert not any(task.baseline.cost.is_measured for one in found for task in one.tasks)
    assert len(set(found[1].notes)) == len(found[1].notes)


def test_a_baseline_that_nobody_knows_is_refused_before_any_probe(stage: Stage) -> None:
    with pytest.raises(UsageError, match="--baseline zero9 is no strategy of this request"):
        stage.measure(replace(REQUEST, baseline="zero9"))
    assert stage.machine.specs == []
