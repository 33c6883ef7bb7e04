"""What every agent keeps, the simulated one of the tests and the real one with ranks on two CPUs alike."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.model import Positions
from autofit.domain.outcome import DiskFull, Killed, Measured, Outcome, OutOfMemory, Phase, Place, SignalCrash, TimedOut
from autofit.domain.request import Lora, Request
from autofit.domain.strategy import Strategy
from autofit.domain.trace import MicroStep, Trace
from autofit.domain.workload import BatchShape, DataProfile
from autofit.inputs.model_config import described_shape
from autofit.inputs.model_files import read_model_files
from autofit.planning.export.deepspeed_config import deepspeed_config
from autofit.probing.agent import Agent
from autofit.probing.protocol import Job, ProbeSpec
from tests.builders import LLAMA_7B, make_request, make_rung
from tests.fake_agent import FakeAgent, SimulatedMachine
from tests.fake_tracer import FakeTracer
from tests.waiting import wait_until

MODEL = Path(__file__).parents[2] / "examples/tiny-llama"
REQUEST = make_request(MODEL, global_batch=2)
STRATEGY = Strategy(
    make_rung(2),
    1,
    1,
)
MARK = "AUTOFIT_TEST_MARK"  # in the environment of an agent, and so of every process below it, whoever adopts that


@dataclass
class Bench:
    """An agent at work, and a folder for what its probes write."""

    agent: Agent | FakeAgent
    folder: Path

    def spec(self, *, memory_limit_bytes: int | None = None, heartbeat_timeout_s: float = 60.0) -> ProbeSpec:
        config = json.dumps(deepspeed_config(STRATEGY, REQUEST, read_model_files(str(MODEL)).shape, DeviceKind.CPU))
        job = Job(REQUEST, STRATEGY, config, DeviceKind.CPU, 2, memory_limit_bytes=memory_limit_bytes)
        shapes = (BatchShape(64, 64.0),)
        scratch, log = str(self.folder / "scratch"), str(self.folder / "probe.log")
        return ProbeSpec(job, shapes, shapes, scratch, log, heartbeat_timeout_s, has_save=True, measure_s=0.1)

    def rehearsal(
        self, name: str, stage: int, *, memory_limit_bytes: int | None = None, heartbeat_timeout_s: float = 60.0
    ) -> ProbeSpec:
        """Of rank 0 of 8."""
        request = replace(REQUEST, global_batch=8)
        strategy = replace(STRATEGY, rung=replace(STRATEGY.rung, zero_stage=stage))
        config = json.dumps(deepspeed_config(strategy, request, read_model_files(str(MODEL)).shape, DeviceKind.CPU))
        job = Job(
            request, strategy, config, DeviceKind.CPU, 8, memory_limit_bytes=memory_limit_bytes, is_rehearsal=True
        )
        whole = self.spec(heartbeat_timeout_s=heartbeat_timeout_s)
        return replace(whole, job=job, scratch_path=str(self.folder / name), log_path=str(self.folder / f"{name}.log"))

    def probe(self, spec: ProbeSpec, on_heartbeat: Callable[[Phase], None] = lambda phase: None) -> Outcome:
        """Whatever comes out, nothing of the probe's own is left."""
        outcome = self.agent.probe(spec, on_heartbeat)
        assert not Path(spec.scratch_path).exists()
        return outcome


def _start(kind: str, folder: Path) -> Agent | FakeAgent:
    if kind == "simulated":
        return SimulatedMachine().start_agent()
    return Agent(kind=DeviceKind.CPU, log_path=folder / "agent.log", oom_kill_count=lambda: None)


KINDS = ["simulated", pytest.param("real", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=KINDS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent | FakeAgent]:
    """One for all tests of a kind: each finds it usable after the failures of those before it."""
    folder = tmp_path_factory.mktemp("agent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        with _start(request.param, folder) as agent:
            yield agent


@pytest.fixture
def bench(running: Agent | FakeAgent, tmp_path: Path) -> Bench:
    return Bench(running, tmp_path)


def test_ready_as_often_as_it_is_asked(bench: Bench) -> None:
    assert bench.agent.wait_ready() == bench.agent.wait_ready()


def test_a_survey_describes_the_data_and_refuses_what_is_broken(bench: Bench) -> None:
    data = bench.folder / "data.jsonl"
    data.write_text('{"text": "one two three"}\n{"text":\n')

    def survey(request: Request) -> DataProfile:
        return bench.agent.survey(request, log_path=bench.folder / "survey.log")

    with pytest.raises(UsageError, match=r"data\.jsonl, line 2"):
        survey(replace(REQUEST, data=str(data)))
    data.write_text('{"text": "one two three"}\n{"text": "four"}\n')
    profile = survey(replace(REQUEST, data=str(data)))
    assert profile.source == str(data)
    assert profile.data_format == "text"
    assert 0 < profile.longest_tokens <= REQUEST.sequence_length
    assert profile.sampled_lengths_tokens == tuple(sorted(profile.sampled_lengths_tokens))
    assert profile.longest_tokens == profile.sampled_lengths_tokens[-1]


def test_what_fits_is_measured_and_tells_its_phases(bench: Bench) -> None:
    phases: list[Phase] = []
    outcome = bench.probe(bench.spec(), phases.append)
    assert isinstance(outcome, Measured), outcome
    assert outcome.peak_device_bytes > outcome.base_bytes > 0
    assert outcome.tokens_per_s > 0
    assert outcome.step_s >= outcome.micro_step_s > 0
    order = [Phase.BUILD, Phase.INITIALIZE, Phase.FORWARD, Phase.BACKWARD]
    assert [phase for phase in dict.fromkeys(phases) if phase in order] == order
    assert (bench.folder / "probe.log").is_file()


def test_it_evaluates_where_its_training_does(bench: Bench) -> None:
    for eval_fraction in (0.0, 0.1):
        phases: list[Phase] = []
        spec = bench.spec()
        job = replace(spec.job, request=replace(spec.job.request, eval_fraction=eval_fraction))
        assert isinstance(bench.probe(replace(spec, job=job), phases.append), Measured)
        assert (Phase.EVALUATE in phases) == (eval_fraction > 0)


def test_a_step_of_several_micro_batches_is_measured(bench: Bench) -> None:
    """Also where the first step, which is there for Adam's state, has one."""
    spec = bench.spec()
    request, strategy = replace(spec.job.request, global_batch=8), replace(STRATEGY, gradient_accumulation=4)
    shape = read_model_files(str(MODEL)).shape
    config = json.dumps(deepspeed_config(strategy, request, shape, DeviceKind.CPU))
    job = replace(spec.job, request=request, strategy=strategy, deepspeed_config=config)
    outcome = bench.probe(replace(spec, job=job))
    assert isinstance(outcome, Measured), outcome
    assert outcome.step_s > 3 * outcome.micro_step_s > 0
    assert (outcome.step_count or 0) > 0


def test_what_is_too_slow_ends_after_its_first_measured_step(bench: Bench) -> None:
    phases: list[Phase] = []
    outcome = bench.probe(replace(bench.spec(), least_tokens_per_s=1e9, measure_s=60.0), phases.append)
    assert isinstance(outcome, Measured), outcome
    assert (outcome.is_outpaced, outcome.step_count) == (True, 1)
    assert outcome.peak_device_bytes > outcome.base_bytes > 0
    assert not {Phase.EVALUATE, Phase.SAVE} & set(phases)
    fast = bench.probe(replace(bench.spec(), least_tokens_per_s=1e-3))
    assert isinstance(fast, Measured), fast
    assert not fast.is_outpaced


def test_failures_are_values_and_a_probe_after_them_is_measured(bench: Bench) -> None:
    late = bench.probe(bench.spec(heartbeat_timeout_s=0.001))
    assert isinstance(late, TimedOut), late
    assert late.after_s == 0.001
    stuck = bench.probe(replace(bench.spec(), step_silence_s=0.0001))
    assert isinstance(stuck, TimedOut), stuck
    assert (stuck.after_s, stuck.phase in (Phase.FORWARD, Phase.BACKWARD, Phase.STEP)) == (0.0001, True)
    fits = bench.probe(bench.spec())
    assert isinstance(fits, Measured), fits
    limit_bytes = (fits.base_bytes + fits.peak_device_bytes) // 2
    out = bench.probe(bench.spec(memory_limit_bytes=limit_bytes))
    assert isinstance(out, OutOfMemory), out
    assert out.place is Place.DEVICE
    assert "allocate memory" in out.message
    assert isinstance(bench.probe(bench.spec()), Measured)


def test_rehearsals_side_by_side_end_each_by_itself(bench: Bench) -> None:
    """One runs out of memory and one misses its deadline, while the third is measured."""
    alone = bench.agent.rehearse([bench.rehearsal("alone", 3)], lambda strategy, phase: None)[0]
    assert isinstance(alone, Measured), alone
    limit_bytes = (alone.base_bytes + alone.peak_device_bytes) // 2
    specs = [
        bench.rehearsal("small", 1, memory_limit_bytes=limit_bytes),
        bench.rehearsal("late", 2, heartbeat_timeout_s=0.001),
        bench.rehearsal("fits", 3),
    ]
    seen: set[tuple[int, Phase]] = set()
    outcomes = bench.agent.rehearse(specs, lambda strategy, phase: seen.add((strategy.rung.zero_stage, phase)))
    assert [type(outcome) for outcome in outcomes] == [OutOfMemory, TimedOut, Measured], outcomes
    assert (3, Phase.BACKWARD) in seen
    assert not any(Path(spec.scratch_path).exists() for spec in specs)
    assert Path(specs[-1].log_path).is_file()


def test_a_limit_below_what_a_rank_always_holds_is_out_of_memory(bench: Bench) -> None:
    assert isinstance(bench.probe(bench.spec(memory_limit_bytes=10_000_000)), OutOfMemory)


STEP = MicroStep(None, Attention.SDPA, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CPU, 1, 64, False)


def test_traces_come_in_order_and_what_cannot_be_traced_says_why(bench: Bench) -> None:
    """Also of the tracer that tests of plans have, which traces a larger model."""
    wrong = replace(STEP, lora=Lora(target_modules=("nothing",)))
    good = (
        STEP,
        replace(STEP, micro_batch=2),
        replace(STEP, gradient_checkpointing=GradientCheckpointing.ON),
        replace(STEP, lora=Lora()),
    )
    others = [FakeTracer(LLAMA_7B.parameter_count)] if isinstance(bench.agent, FakeAgent) else []
    for tracer in (bench.agent, *others):
        said = tracer.trace(REQUEST, (*good[:2], wrong, *good[2:]), log_path=bench.folder / "trace.log")
        assert tuple(one.of for one in said.traces) == good
        assert [failure.of for failure in said.failures] == [wrong]
        assert "nothing" in said.failures[0].why
        assert said.failures[0].is_unbuildable
        for one in said.traces:
            check_moments(one)
        plain, two, checkpointed, lora = said.traces
        assert peak_bytes(checkpointed) < peak_bytes(plain) < peak_bytes(two)
        assert lora.trained_count < plain.trained_count == plain.parameter_count


def test_a_model_is_described_and_what_cannot_be_trained_is_refused(bench: Bench, tmp_path: Path) -> None:
    others = [FakeTracer(LLAMA_7B.parameter_count)] if isinstance(bench.agent, FakeAgent) else []
    for tracer in (bench.agent, *others):
        facts = tracer.describe(REQUEST, log_path=bench.folder / "description.log")
        assert described_shape("tiny", facts).is_counted_exactly
        assert (facts.lora_targets, facts.positions) == (("q_proj", "v_proj"), Positions.ROTARY)
        whole = sum(group.element_count * group.tensor_count for group in facts.adapted if not group.is_trained)
        assert whole == facts.parameter_count
        unknown = tmp_path / "unknown"
        unknown.mkdir(exist_ok=True)
        (unknown / "config.json").write_text(json.dumps({"model_type": "llama9"}))
        with pytest.raises(UsageError, match="llama9"):
            tracer.describe(replace(REQUEST, model=str(unknown)), log_path=bench.folder / "description.log")


def check_moments(trace: Trace) -> None:
    phases = [moment.phase for moment in trace.moments]
    assert [phase for phase, _ in groupby(phases)] == [Phase.FORWARD, Phase.BACKWARD, Phase.EVALUATE]
    counts = [moment.gradient_count for moment in trace.moments if moment.phase is Phase.BACKWARD]
    assert counts == sorted(counts)
    assert counts[-1] == trace.trained_count
    assert {moment.gradient_count for moment in trace.moments if moment.phase is not Phase.BACKWARD} == {0}


def peak_bytes(trace: Trace) -> int:
    return max(moment.activations_bytes for moment in trace.moments)


@pytest.mark.parametrize(("kind", "least_running"), [("simulated", 1), pytest.param("real", 4, marks=pytest.mark.slow)])
def test_an_interrupted_probe_leaves_nothing(
    kind: str, least_running: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the real one: the agent, its fork server and two ranks."""
    mark, machine = _mark(monkeypatch), SimulatedMachine()
    seen: list[int] = []

    def running_count() -> int:
        return machine.running_count if kind == "simulated" else len(_marked(mark))

    def interrupt(phase: Phase) -> None:
        if phase is Phase.FORWARD:
            seen.append(running_count())
            raise KeyboardInterrupt

    started = machine.start_agent() if kind == "simulated" else _start(kind, tmp_path)
    with pytest.raises(KeyboardInterrupt), started as agent:
        agent.probe(Bench(agent, tmp_path).spec(), interrupt)
    assert len(seen) == 1
    assert seen[0] >= least_running
    assert not (tmp_path / "scratch").exists()
    wait_until(lambda: running_count() == 0)  # what was killed takes a moment to be gone
    assert _shared_memory(agent) == []


def _signals(number: int) -> Callable[[int], None]:
    return lambda process_id: os.kill(process_id, number)


def _fill_disk(process_id: int) -> None:
    """No file that it writes may grow from here on."""
    resource.prlimit(process_id, resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.slow
def test_whatever_ends_a_rank_is_told_and_not_who_lost_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = _mark(monkeypatch)
    ends: list[tuple[Callable[[int], None], type[Outcome], int | None]] = [
        (_signals(signal.SIGKILL), Killed, signal.SIGKILL),
        (_signals(signal.SIGSEGV), SignalCrash, signal.SIGSEGV),
        (_fill_disk, DiskFull, None),
    ]
    with _start("real", tmp_path) as agent:
        for act, kind, number in ends:
            done: list[int] = []

            def on_beat(phase: Phase, act: Callable[[int], None] = act, done: list[int] = done) -> None:
                if phase is Phase.FORWARD and not done:
                    # Ranks lead sessions of their own, and the second was forked last.
                    done.append(max(pid for pid in _marked(mark) if os.getsid(pid) == pid))
                    act(done[0])

            outcome = agent.probe(Bench(agent, tmp_path).spec(), on_beat)
            assert isinstance(outcome, kind), outcome
            assert (outcome.rank, getattr(outcome, "signal", None)) == (1, number)


@pytest.mark.slow
def test_an_agent_ends_with_the_process_that_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of the imports, when nobody reads commands yet."""
    mark = _mark(monkeypatch)
    source = f"""
import time
from pathlib import Path
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.probing.agent import Agent
with Agent(kind=DeviceKind.CPU, log_path=Path({str(tmp_path / "agent.log")!r}), oom_kill_count=lambda: None):
    print("started", flush=True)
    time.sleep(600)
"""
    starter = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    with starter.stdout:
        assert starter.stdout.readline() == b"started\n"
        wait_until(lambda: len(_marked(mark)) >= 3)  # a fork server is there too
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    wait_until(lambda: not _marked(mark))


def _mark(monkeypatch: pytest.MonkeyPatch) -> str:
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    return mark


def _marked(mark: str) -> list[int]:
    """Processes that were started under `mark`; this one was started before."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue  # another user's, or it ended while we looked
    return found


def _shared_memory(agent: Agent | FakeAgent) -> list[Path]:
    if isinstance(agent, FakeAgent):
        return []
    names = f"deepspeed_allreduce_buffer_{os.getuid()}_*_{agent._process.pid}[0-9][0-9][0-9]_*"
    return list(Path("/dev/shm").glob(names))
