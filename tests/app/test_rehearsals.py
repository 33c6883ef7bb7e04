"""Plans rehearsed, by a simulated machine here and, once, for real."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from autofit.app import plan
from autofit.app.rehearsals import full_rows, rehearse
from autofit.app.tools import Tools, start_agent
from autofit.domain.estimate import Constants
from autofit.domain.hardware import DeviceKind, Hardware, Link
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.model import ModelFacts
from autofit.domain.plan import Plan, Verdict
from autofit.domain.request import Request
from autofit.domain.trace import MicroStep, Trace
from autofit.planning.plan.replan import MOST_REHEARSED
from autofit.probing.protocol import ProbeSpec
from autofit.store.machine_kind import DeviceKey
from tests.builders import GB, make_device, make_hardware, make_host, make_request
from tests.fake_agent import FakeAgent, SimulatedMachine
from tests.in_process_tracer import start_tracer

MODEL = Path(__file__).parents[2] / "examples/tiny-llama"
REQUEST = make_request(MODEL, global_batch=64)
ON = "gpus=8,memory=8GB,tflops=1"
CPU_HEAP_BYTES = 75_000_000
"""What libraries and kernels of a CPU keep by the first step, beside the tensors: 60 to 62 MB were seen."""


def cpu(ranks: int = 2, host_gb: int = 64) -> Hardware:
    return make_hardware(ranks, memory_gb=host_gb / ranks, host=make_host(host_gb))


class NoMemory:
    """Remembers nothing."""

    def get_traces(self, fingerprint: str, micro_steps: Sequence[MicroStep]) -> tuple[Trace, ...]:
        return ()

    def put_traces(self, fingerprint: str, new: Sequence[Trace]) -> None: ...

    def get_facts(self, fingerprint: str) -> ModelFacts | None:
        return None

    def put_facts(self, fingerprint: str, facts: ModelFacts) -> None: ...

    def get_constants(self, device: DeviceKey) -> Constants | None:
        return None


@dataclass
class Surroundings:
    """The machine here, what it was asked for, and what was told."""

    here: Hardware = field(default_factory=cpu)
    machine: SimulatedMachine = field(default_factory=SimulatedMachine)
    told: list[str] = field(default_factory=list)
    agents: int = 0

    @property
    def tools(self) -> Tools:
        return Tools(
            detect=self.detect,
            open_store=lambda: nullcontext(NoMemory()),  # type: ignore[arg-type]
            start_tracer=self.machine.start_tracer,
            start_agent=self.start_agent,
        )

    def detect(self, disk_path: Path, *, ranks: int | None = None, memory_limit_bytes: int | None = None) -> Hardware:
        """As the real one does with a machine of several devices."""
        (node,) = self.here.nodes
        return replace(
            self.here,
            nodes=(replace(node, devices=node.devices[:ranks]),),
            memory_limit_bytes=memory_limit_bytes,
        )

    def start_agent(self, **_: Any) -> FakeAgent:
        self.agents += 1
        return self.machine.start_agent()

    def plan(self, *on: str, request: Request = REQUEST) -> tuple[Plan, ...]:
        return plan.plan(request, on, tell=self.told.append, tools=self.tools)

    def rehearse(self, plans: Sequence[Plan]) -> tuple[Plan, ...]:
        return rehearse(plans, tell=self.told.append, tools=self.tools)

    @property
    def specs(self) -> list[ProbeSpec]:
        return self.machine.specs


def test_rank_0_of_the_planned_job_runs_here() -> None:
    place = Surroundings()
    (plan,) = place.rehearse(place.plan(ON))
    assert len(place.specs) == MOST_REHEARSED
    for spec in place.specs:
        job = spec.job
        assert job.is_rehearsal
        assert (job.rank_count, job.kind, job.devices) == (8, DeviceKind.CPU, ())
        if job.strategy.rung.zero_stage > 0:
            config = json.loads(job.deepspeed_config)
            assert config["train_batch_size"] == 64
            assert config["zero_optimization"]["overlap_comm"]  # as there
            assert not config["zero_force_ds_cpu_optimizer"]  # as here
        assert job.strategy.rung.attention is Attention.SDPA
        assert [shape.padded_tokens for shape in spec.worst] == [64]
    assert plan.choice is not None
    assert plan.choice.rehearsed is not None
    assert plan.rehearsal is not None
    assert plan.rehearsal.notes == ("torch's own attention kernel stood in for FlashAttention-2.",)
    assert len({spec.log_path for spec in place.specs}) == MOST_REHEARSED
    assert place.machine.running_count == 0


def test_each_one_is_told_when_it_ends() -> None:
    place = Surroundings()
    place.rehearse(place.plan(ON))
    assert len(place.told) == MOST_REHEARSED
    assert all(line.startswith("rank 0 of 8, zero") and " took " in line for line in place.told)


def test_both_methods_are_rehearsed() -> None:
    place = Surroundings()
    place.rehearse(place.plan(ON))
    assert {spec.job.strategy.rung.method for spec in place.specs} == set(Method)


def test_the_machine_here_is_timed() -> None:
    place = Surroundings()
    (plan,) = place.rehearse(place.plan())
    assert plan.rehearsal is not None
    assert plan.rehearsal.is_timed
    assert plan.choice is not None
    assert plan.choice.estimate is not None
    assert plan.choice.estimate.speed.is_absolute


def gpus(*free_gb: int) -> Hardware:
    whole = [make_device(index, DeviceKind.CUDA, memory_gb=80) for index in range(len(free_gb))]
    devices = [replace(one, memory_free_bytes=free * GB) for one, free in zip(whole, free_gb, strict=True)]
    return make_hardware(devices=devices, host=make_host(256), link=Link.PCIE)


def test_only_the_devices_that_were_asked_for_are_rehearsed_on() -> None:
    place = Surroundings(here=gpus(80, 80, 80, 1))
    request = replace(REQUEST, ranks=2, memory_limit_bytes=24 * GB)
    (plan,) = place.rehearse(place.plan(request=request))
    assert {spec.job.devices for spec in place.specs} == {("0",), ("1",)}
    assert {spec.job.memory_limit_bytes for spec in place.specs} == {24 * GB}
    assert plan.rehearsal is not None
    assert plan.rehearsal.notes == ()


def test_what_runs_out_of_memory_under_the_planned_limit_is_too_large() -> None:
    place = Surroundings(machine=SimulatedMachine(capacity_bytes=1))
    (plan,) = place.rehearse(place.plan(ON))
    refused = [one for one in plan.candidates if one.verdict is Verdict.TOO_LARGE]
    assert len(refused) == MOST_REHEARSED
    assert all("ran out of memory in rehearsal" in one.reason for one in refused)
    assert plan.choice not in refused


def test_what_the_memory_here_cannot_hold_is_not_begun() -> None:
    place = Surroundings(here=cpu(host_gb=1))
    big = replace(
        REQUEST, pins=Pins(method=Method.FULL, micro_batch=8, gradient_checkpointing=GradientCheckpointing.OFF)
    )
    before = place.plan("gpus=8,memory=80GB,tflops=1", request=big)
    (plan,) = place.rehearse(before)
    assert (place.specs, place.agents) == ([], 0)
    assert plan.candidates == before[0].candidates
    assert plan.rehearsal is not None
    (note,) = plan.rehearsal.notes
    assert note.startswith("Not rehearsed, estimated as before: zero")
    assert "of host memory may be needed, 1.0 GB are free here" in note


def test_a_silent_rehearsal_says_nothing() -> None:
    place = Surroundings()
    before = place.plan(ON)
    (plan,) = rehearse(before, tell=place.told.append, tools=place.tools, heartbeat_timeout_s=0.1)
    assert plan.candidates == before[0].candidates
    assert plan.rehearsal is not None
    assert any("no sign of life" in note and "estimated as before" in note for note in plan.rehearsal.notes)


def test_several_machines_share_one_agent() -> None:
    place = Surroundings()
    plans = place.rehearse(place.plan(ON, "gpus=16,memory=8GB,tflops=1"))
    assert place.agents == 1
    assert {spec.job.rank_count for spec in place.specs} == {8, 16}
    assert [plan.hardware.rank_count for plan in plans] == [16, 8]


def test_an_interrupted_rehearsal_leaves_nothing_running() -> None:
    def interrupt(asked: object) -> None:
        raise KeyboardInterrupt

    place = Surroundings(machine=SimulatedMachine(on_ask=interrupt))
    plans = place.plan(ON)
    with pytest.raises(KeyboardInterrupt):
        place.rehearse(plans)
    assert place.machine.running_count == 0


def test_full_rows_have_a_mask() -> None:
    assert full_rows(128).sampled_lengths_tokens == (127, 128)
    assert full_rows(1).sampled_lengths_tokens == (1,)


@pytest.mark.slow
def test_a_job_of_eight_is_rehearsed_for_real() -> None:
    place = Surroundings()
    pins = Pins(method=Method.FULL, zero_stage=2, gradient_checkpointing=GradientCheckpointing.OFF, micro_batch=1)
    (before,) = place.plan("gpus=8,memory=4GB,tflops=1", request=replace(REQUEST, pins=pins))
    (plan,) = rehearse([before], tell=place.told.append, tools=replace(place.tools, start_agent=start_agent))
    assert plan.rehearsal is not None
    assert plan.choice is not None, plan.rehearsal.notes
    assert plan.choice.rehearsed is not None, plan.rehearsal.notes
    seen = plan.choice.rehearsed.measured
    states_bytes = 2 * plan.model.parameter_count + 12 * plan.model.parameter_count // 8
    assert seen.peak_device_bytes - seen.base_bytes > states_bytes
    assert seen.tokens_per_s * seen.step_s == pytest.approx(64 * 63.5, rel=0.02)


@pytest.mark.slow
@pytest.mark.matrix
def test_a_quantised_base_that_two_devices_divide_is_rehearsed(tmp_path: Path) -> None:
    """Llama-2-70B's proportions on two cards of 24 GB, a thousandth of the weights: rank 0 of 2 under ZeRO-3. Were
    the packed base whole, it would be 17 MB more; in 16 bits, 115 MB."""
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 512, "intermediate_size": 1792,
        "num_hidden_layers": 20, "num_attention_heads": 8, "num_key_value_heads": 1, "vocab_size": 2048,
        "tie_word_embeddings": False, "pad_token_id": 0,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL / file, tmp_path / file)
    pins = Pins(
        method=Method.LORA, quantization=Quantization.NF4, zero_stage=3, offload=Offload.NONE,
        gradient_checkpointing=GradientCheckpointing.ON, micro_batch=1, attention=Attention.SDPA,
    )  # fmt: skip
    request = replace(REQUEST, model=str(tmp_path), global_batch=2, pins=pins)
    place = Surroundings()
    tools = replace(place.tools, start_tracer=start_tracer, start_agent=start_agent)
    (before,) = plan.plan(request, ("2xRTX-3090,host=128GB",), tell=place.told.append, tools=tools)
    (rehearsed,) = rehearse([before], tell=place.told.append, tools=tools)
    assert before.choice is not None
    assert rehearsed.rehearsal is not None
    assert rehearsed.choice is not None, rehearsed.rehearsal.notes
    assert rehearsed.choice.rehearsed is not None, rehearsed.rehearsal.notes
    seen, predicted = rehearsed.choice.rehearsed.measured, before.choice.estimate
    assert predicted is not None
    tensors_bytes = predicted.memory.peak_bytes - predicted.memory.runtime_bytes
    taken_bytes = seen.peak_device_bytes - seen.base_bytes
    assert tensors_bytes < taken_bytes < tensors_bytes + CPU_HEAP_BYTES
