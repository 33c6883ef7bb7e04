"""What every agent keeps that probes scripts, the simulated one of the tests and the real one alike."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.offload import Offload
from autofit.domain.outcome import Measured, Outcome, OutOfMemory, Phase, Place, TimedOut, Unsupported
from autofit.domain.script import RuntimePatches, Script, ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.probing.agent import Agent
from autofit.probing.protocol import ScriptJob, ScriptSpec, Share
from tests.builders import make_rung
from tests.fake_script import FakeScript, FakeScriptAgent

SCRIPT = Path(__file__).parents[1] / "worker/scripts/plain.py"
CONFIG = {
    "train_micro_batch_size_per_gpu": 2,
    "gradient_accumulation_steps": 3,
    "bf16": {"enabled": True},
    "zero_optimization": {"stage": 2},
    "optimizer": {"type": "AdamW", "params": {"torch_adam": True}},
}
STRATEGY = Strategy(make_rung(2), 2, 3)
OWN_ROWS = 5


@dataclass
class Bench:
    """A script in a folder, and an agent that probes it; `--width` is what makes its model large."""

    agent: Agent | FakeScriptAgent
    folder: Path

    def spec(
        self,
        *words: str,
        strategy: Strategy | None = None,
        memory_limit_bytes: int | None = None,
        heartbeat_timeout_s: float = 60.0,
    ) -> ScriptSpec:
        shutil.copy(SCRIPT, self.folder)
        (self.folder / "train.log").touch()
        scratch = self.folder / "scratch"
        script = Script(
            SCRIPT.name, (f"--deepspeed_config={scratch / 'ds_config.json'}", *words), directory=str(self.folder)
        )
        rows = None if strategy is None else strategy.micro_batch
        job = ScriptJob(
            script, strategy, RuntimePatches(), DeviceKind.CPU, 2, memory_limit_bytes=memory_limit_bytes, rows=rows
        )
        share = Share(0, 1, 0, 2, ("0", "1"), self.agent.master_address, self.agent.free_port())
        files = (("ds_config.json", json.dumps(CONFIG)),)
        return ScriptSpec(job, (share,), str(scratch), str(self.folder / "log"), heartbeat_timeout_s, files, 2)

    def inspect(self, spec: ScriptSpec) -> tuple[Outcome, ScriptFacts | None, list[Phase]]:
        """Whatever comes out, nothing of the probe's own is left but its log."""
        phases: list[Phase] = []
        outcome, facts = self.agent.inspect(spec, phases.append)
        assert not Path(spec.scratch_path).exists()
        # ranks that were ended at once may have begun none
        assert Path(spec.log_path).is_file() or isinstance(outcome, TimedOut)
        return outcome, facts, phases


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    agent = FakeScript().start_agent() if kind == "simulated" else request.getfixturevalue("agent")
    return Bench(agent, tmp_path)


def test_a_script_is_measured_and_shows_itself(bench: Bench) -> None:
    outcome, facts, phases = bench.inspect(bench.spec())
    assert isinstance(outcome, Measured), outcome
    assert outcome.peak_device_bytes > outcome.base_bytes > 0
    assert outcome.step_s >= outcome.micro_step_s > 0
    order = [Phase.BUILD, Phase.INITIALIZE, Phase.FORWARD, Phase.BACKWARD]
    assert [phase for phase in dict.fromkeys(phases) if phase in order] == order
    assert facts is not None
    assert (facts.micro_batch, facts.gradient_accumulation, facts.rank_count, facts.global_batch) == (2, 3, 2, 12)
    assert (facts.rows, facts.zero_stage, facts.offload) == (2, 2, Offload.NONE)
    assert facts.parameters


def test_a_limit_is_a_lack_of_memory_and_a_strategy_is_probed_as_it_is_looked_at(bench: Bench) -> None:
    fits = bench.agent.probe(bench.spec("--width=2048", strategy=STRATEGY), lambda phase: None)
    assert isinstance(fits, Measured), fits
    limit_bytes = (fits.base_bytes + fits.peak_device_bytes) // 2
    outcome, _, _ = bench.inspect(bench.spec("--width=2048", memory_limit_bytes=limit_bytes))
    assert isinstance(outcome, OutOfMemory), outcome
    assert outcome.place is Place.DEVICE
    assert "allocate memory" in outcome.message


def test_who_is_silent_has_shown_nothing_and_the_next_is_measured(bench: Bench) -> None:
    late, facts, _ = bench.inspect(bench.spec("--trouble=hang", heartbeat_timeout_s=0.001))
    assert isinstance(late, TimedOut), late
    assert (late.after_s, facts) == (0.001, None)
    assert isinstance(bench.inspect(bench.spec())[0], Measured)


def test_batches_that_a_script_makes_itself_cannot_be_turned(bench: Bench) -> None:
    if isinstance(bench.agent, FakeScriptAgent):
        bench.agent = FakeScript(own_rows=OWN_ROWS).start_agent()
    outcome = bench.agent.probe(bench.spec(f"--rows={OWN_ROWS}", strategy=STRATEGY), lambda phase: None)
    assert isinstance(outcome, Unsupported), outcome
    assert outcome.why == f"the script makes its own batches of {OWN_ROWS} rows: its micro-batch cannot be turned"
