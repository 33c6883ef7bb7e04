"""`autofit plan`, from the command line to the screen and back to `autofit train`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.app import plan, rehearsals
from autofit.cli.main import main
from autofit.domain.errors import InternalError
from autofit.domain.estimate import Constants
from autofit.domain.model import ParameterGroup
from autofit.domain.outcome import Measured, Phase
from autofit.domain.plan import Plan, Rehearsal, Rehearsed
from autofit.domain.request import Request
from autofit.domain.trace import MicroStep, Moment, Trace
from autofit.probing.protocol import Traced, TraceFailure
from autofit.store.machine_kind import DeviceKey
from tests.hardware.model_folder import TINY_LLAMA, write_config

LLAMA_7B = {
    **TINY_LLAMA, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "vocab_size": 32000,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip
GROUPS = (ParameterGroup(6_738_415_616, 1, True, 2),)


class FakeTracer:
    """Traces at once, and remembers like the store; `fails` for a model that cannot be traced."""

    def __init__(self) -> None:
        self.asked: list[tuple[MicroStep, ...]] = []
        self.kept: dict[tuple[str, MicroStep], Trace] = {}
        self.fails = ""
        self.starts = 0

    @contextmanager
    def start(self, log_path: Path) -> Iterator[FakeTracer]:
        self.starts += 1
        yield self

    def trace(self, request: Request, micro_steps: Sequence[MicroStep], *, log_path: Path) -> Traced:
        self.asked.append(tuple(micro_steps))
        if self.fails == "dead":
            raise InternalError("the agent has ended")
        if self.fails:
            return Traced((), tuple(TraceFailure(step, self.fails) for step in micro_steps))
        return Traced(tuple(trace(step) for step in micro_steps))

    @contextmanager
    def open(self) -> Iterator[FakeTracer]:
        yield self

    def get_traces(self, fingerprint: str, micro_steps: Sequence[MicroStep]) -> tuple[Trace, ...]:
        return tuple(self.kept[fingerprint, step] for step in micro_steps if (fingerprint, step) in self.kept)

    def put_traces(self, fingerprint: str, new: Sequence[Trace]) -> None:
        self.kept |= {(fingerprint, one.of): one for one in new}

    def get_constants(self, device: DeviceKey) -> Constants | None:
        return None


def trace(step: MicroStep) -> Trace:
    size = 1_000_000_000 * step.micro_batch // (8 if step.gradient_checkpointing else 1)
    backward = Moment(Phase.BACKWARD, size, 6_738_415_616)
    return Trace(step, (Moment(Phase.FORWARD, size, 0), backward, backward, Moment(Phase.EVALUATE, size, 0)), GROUPS)


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> FakeTracer:
    fake = FakeTracer()
    tools = replace(plan.REAL_TOOLS, open_store=fake.open, start_tracer=fake.start)
    monkeypatch.setattr(plan.plan, "__kwdefaults__", {"tools": tools})
    return fake


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_config(tmp_path / "llama", LLAMA_7B))


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["plan", *words])
    assert isinstance(left.value.code, int)
    return left.value.code


def unwrapped(text: str) -> str:
    """Without blanks: a path of any length may be wrapped anywhere."""
    return "".join(text.split())


def test_the_screen_ends_with_the_command_that_trains(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", model, "--on", "8xA100-80GB", "--seq", "1024", "--tokens=1e9", "--price", "2", "--merge"]
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "machine  8 × A100" in out
    assert "1.0 B tokens" in out
    assert unwrapped(out).endswith(f"nextautofittrain--model{model}--seq1024--merge")


def test_json_is_one_object_and_nothing_else(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", model, "--on", "8xV100-32GB", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert list(body) == ["schema", "model", "hardware", "request", "sdpa_kernels", "choice", "candidates"]
    assert body["schema"] == 1
    assert body["choice"]["strategy"]["dtype"] == "fp16"
    for one in body["candidates"]:
        memory = one["memory"]
        assert sum(list(memory.values())[:6]) == memory["peak_bytes"]
        assert memory["low_bytes"] <= memory["peak_bytes"] <= memory["high_bytes"]
        assert one["verdict"] == "unsupported" or one["strategy"]["attention"] != "flash_attention_2"


@pytest.mark.parametrize(("pin", "is_told"), [((), True), (("--attention", "sdpa"), False)])
def test_flash_attention_is_asked_for_where_the_plan_uses_it(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str], pin: tuple[str, ...], is_told: bool
) -> None:
    assert run("--model", model, "--on", "8xA100-80GB", *pin) == 0
    assert ("FlashAttention-2 must be installed there" in capsys.readouterr().out) is is_told


def test_a_second_plan_starts_no_tracer(tracer: FakeTracer, model: str) -> None:
    assert run("--model", model, "--on", "8xA100-80GB") == 0
    assert run("--model", model, "--on", "4xA100-40GB") == 0
    assert tracer.starts == 1
    assert run("--model", model, "--on", "4xA100-40GB", "--seq", "512") == 0
    assert tracer.starts == 2


@pytest.mark.parametrize("fails", ["dead", "it has no layers"])
def test_a_model_that_cannot_be_traced_is_planned_by_formula_and_said_so(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str], fails: str
) -> None:
    tracer.fails = fails
    assert run("--model", model, "--on", "8xA100-80GB", "--json") == 0
    captured = capsys.readouterr()
    assert "estimated by a formula" in captured.err
    assert json.loads(captured.out)["choice"] is not None


def test_the_flags_and_pins_of_train_narrow_the_plan(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--on 8xA100-80GB --method full --zero_stage 3 --per_device_train_batch_size 2 --memory-limit 40GB --json"
    assert run("--model", model, *words.split()) == 0
    body = json.loads(capsys.readouterr().out)
    assert {one["strategy"]["zero_stage"] for one in body["candidates"]} == {3}
    assert {one["strategy"]["micro_batch"] for one in body["candidates"]} == {2}
    assert {one["strategy"]["method"] for one in body["candidates"]} == {"full"}
    assert body["hardware"]["memory_limit_bytes"] == 40_000_000_000


def test_several_machines_are_compared_best_first(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", model, "--on", "8xV100-32GB", "--on", "8xH100", "--json"]
    assert run(*words) == 0
    names = [
        one["hardware"]["nodes"][0]["devices"][0]["name"] for one in json.loads(capsys.readouterr().out)["machines"]
    ]
    assert ["H100" in name for name in names] == [True, False]
    assert run(*words[:-1]) == 0
    assert "machine" in capsys.readouterr().out


def test_a_rehearsed_plan_keeps_its_keys_and_its_next_command_trains(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rehearse(plans: Sequence[Plan], *, tell: Callable[[str], None], heartbeat_timeout_s: float) -> tuple[Plan, ...]:
        tell(f"patience {heartbeat_timeout_s:.0f}")
        return tuple(_rehearsed(plan) for plan in plans)

    monkeypatch.setattr(rehearsals, "rehearse", rehearse)
    words = ["--model", model, "--rehearse", "--on", "8xA100-80GB", "--probe-timeout", "7"]
    assert run(*words, "--json") == 0
    captured = capsys.readouterr()
    choice = json.loads(captured.out)["choice"]
    assert captured.err == "autofit: patience 7\n"
    assert set(choice) == {"strategy", "memory", "speed", "verdict", "reason"}
    assert run(*words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "rehearsed 1 rung (*), rank 0 of 8 alone, on a laptop" in shown
    assert unwrapped(shown).endswith(f"nextautofittrain--model{model}--probe-timeout7")


def _rehearsed(plan: Plan) -> Plan:
    assert plan.choice is not None
    choice = replace(plan.choice, rehearsed=Rehearsed(Measured(1, 1, 1.0, 1.0, 1.0, 0.0), 1, None))
    rehearsal = Rehearsal("a laptop", 1, is_same_kind=False, is_timed=False)
    return replace(plan, choice=choice, candidates=(choice, *plan.candidates[1:]), rehearsal=rehearsal)


REFUSED = [
    ("--on 8xNOTHING", "NOTHING"),
    ("--on 8xA100-80GB --ranks 4", "--ranks 4"),
    ("--on 3xA100-80GB", "3 ranks"),
    ("--on 8xA100-80GB --tokens many", "300M"),
    ("--on 8xA100-80GB --micro-batch 2 --gradient_accumulation_steps 2 --on 4xA100-80GB", "--batch-size"),
]


@pytest.mark.parametrize(("words", "told"), REFUSED)
def test_what_makes_no_sense_is_refused(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    assert run("--model", model, *words.split()) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""
