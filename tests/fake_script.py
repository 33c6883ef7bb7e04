"""A script of somebody else on a simulated machine: what its probes say follows from its config and its flags.

Its agent keeps the contract of the real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.offload import Offload
from autofit.domain.model import ParameterGroup
from autofit.domain.outcome import Crashed, Measured, Outcome, OutOfMemory, Phase, Place, TimedOut, Unsupported
from autofit.domain.script import Ask, Counting, ScriptFacts
from autofit.inputs.script_checkpoint import read_checkpoint
from autofit.planning.script.script_arguments import ACCUMULATION_FLAGS, MICRO_BATCH_FLAGS, find
from autofit.probing.prober import OnHeartbeat, ScriptProber
from autofit.probing.protocol import ScriptSpec
from autofit.process.files import write_whole
from autofit.process.rendezvous import free_port
from tests.fake_agent import BASE_BYTES, SimulatedAgent

STATES_BYTES = 240_000_000
ROW_BYTES = 50_000_000
COUNTS_STEPS = Counting((Ask.STEPS,))


@dataclass
class FakeScript:
    """`own_rows`: its batches have as many rows whatever it is told; `is_hugging_face`: the model has our knobs;
    `fails_with`: what becomes of every probe."""

    capacity_bytes: int = 10**12
    own_rows: int | None = None
    is_hugging_face: bool = True
    fails_with: Outcome | None = None
    counting: Counting = COUNTS_STEPS
    loads_from: str | None = None
    start_s: float = 0.0  # of each probe, beside its steps
    steps_measured: int | None = None  # where nobody asks for some
    has_facts: bool = True  # it comes to `deepspeed.initialize`
    on_ask: Callable[[ScriptSpec], None] = lambda spec: None
    specs: list[ScriptSpec] = field(default_factory=list)
    running_count: int = 0

    def start_agent(self, **_: Any) -> FakeScriptAgent:
        return FakeScriptAgent(self)

    def facts(self, spec: ScriptSpec) -> ScriptFacts:
        config = json.loads(dict(spec.files)["ds_config.json"])
        ranks = spec.job.rank_count
        words = spec.job.script.arguments
        micro, accumulation = find(words, MICRO_BATCH_FLAGS), find(words, ACCUMULATION_FLAGS)
        whole = config.get("train_batch_size")
        if micro is not None:
            micro_batch, steps = int(micro.text), int(accumulation.text) if accumulation else 1
        else:
            steps = config.get("gradient_accumulation_steps", 1)
            micro_batch = config.get("train_micro_batch_size_per_gpu") or whole // ranks // steps
        return ScriptFacts(
            model_class="FakeForCausalLM",
            model_config=None,
            parameters=(ParameterGroup(1_000_000, 10, True, 2),),
            buffers_bytes=0,
            optimizer="AdamW",
            dtype=Dtype.BF16,
            zero_stage=config.get("zero_optimization", {}).get("stage", 0),
            offload=Offload.NONE,
            micro_batch=micro_batch,
            gradient_accumulation=steps,
            rank_count=ranks,
            gradient_checkpointing=False if self.is_hugging_face else None,
            attention=Attention.SDPA if self.is_hugging_face else None,
            rows=self.own_rows or micro_batch,
            tokens=64,
            counting=self.counting,
            loads_from=self.loads_from,
            checkpoint=None if self.loads_from is None else read_checkpoint(self.loads_from),
        )

    def outcome(self, spec: ScriptSpec) -> Outcome:
        facts = self.facts(spec)
        assert facts.rows is not None
        if spec.job.rows not in (None, facts.rows):
            own = f"the script makes its own batches of {facts.rows} rows"
            return Unsupported(f"{own}: its micro-batch cannot be turned")
        is_checkpointing = bool(spec.job.turns.gradient_checkpointing)
        row_bytes = ROW_BYTES * (0.4 if is_checkpointing else 1)
        held = round(BASE_BYTES + STATES_BYTES / max(1, facts.zero_stage) + row_bytes * facts.rows)
        limit = min(self.capacity_bytes, spec.job.memory_limit_bytes or self.capacity_bytes)
        if held > limit:
            return OutOfMemory(0, Phase.BACKWARD, Place.DEVICE, "can't allocate memory", held - limit, limit)
        factor = {0: 1.0, 1: 1.0, 2: 0.97, 3: 0.6}[facts.zero_stage] * (0.75 if is_checkpointing else 1.0)
        speed = 1000 * factor * facts.rows / (facts.rows + 1)
        return Measured(
            held,
            held,
            speed,
            1000 / speed,
            1 / speed,
            0.0,
            BASE_BYTES,
            total_s=self.start_s,
            step_count=spec.measured_steps or self.steps_measured,
        )


class FakeScriptAgent(SimulatedAgent):
    """A ScriptProber."""

    def __init__(self, script: FakeScript) -> None:
        super().__init__(script)
        self._script = script

    @property
    def master_address(self) -> str:
        return "127.0.0.1"

    def free_port(self) -> int:
        return free_port(self.master_address)

    def put_file(self, path: Path, text: str) -> None:
        write_whole(path, text)

    def inspect(self, spec: ScriptSpec, on_heartbeat: OnHeartbeat) -> tuple[Outcome, ScriptFacts | None]:
        outcome = self.probe(spec, on_heartbeat)
        has_facts = self._script.has_facts and not isinstance(outcome, (Crashed, TimedOut))
        return outcome, self._script.facts(spec) if has_facts else None

    def probe(self, spec: ScriptSpec, on_heartbeat: OnHeartbeat) -> Outcome:
        return self._answer(spec, on_heartbeat, lambda: self._script.fails_with or self._script.outcome(spec))


IMPLEMENTS: type[ScriptProber] = FakeScriptAgent
