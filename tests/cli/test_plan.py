"""`autofit plan`, from the command line to the screen and back to `autofit train`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autofit.app import estimation, plan, rehearsals
from autofit.app.machine_order import MachineOrder
from autofit.domain.knobs.attention import Attention
from autofit.domain.model import Positions
from autofit.domain.outcome import Measured
from autofit.domain.plan import Plan, Rehearsal, Rehearsed
from autofit.store import Store
from tests.cli.command import end
from tests.fake_tracer import FakeTracer
from tests.hardware.model_folder import TINY_LLAMA, write_config

LLAMA_7B = {
    **TINY_LLAMA, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "vocab_size": 32000,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTracer:
    fake = FakeTracer(6_738_415_616, row_bytes=1_000_000_000, checkpointed_row_bytes=125_000_000)
    tools = replace(plan.REAL_TOOLS, open_store=lambda: Store(tmp_path / "store.sqlite"), start_tracer=fake.start)
    monkeypatch.setattr(plan.plan, "__kwdefaults__", {"tools": tools})
    return fake


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_config(tmp_path / "llama", LLAMA_7B))


def run(*words: str) -> int:
    return end("plan", *words)


def unwrapped(text: str) -> str:
    """Without blanks: a path of any length may be wrapped anywhere, and a command with a backslash."""
    return "".join(text.replace("\\", "").split())


def unwrapped_words(text: str) -> str:
    """On one line, with single blanks."""
    return " ".join(text.split())


def test_the_screen_ends_with_the_command_that_trains(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", model, "--on", "8xA100-80GB", "--seq", "1024", "--tokens=1e9", "--price", "2", "--merge"]
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "machine  8 × A100" in out
    assert "1.0 B tokens" in out
    assert unwrapped(out).endswith(f"nextautofittrain--model{model}--seq1024--merge")


@pytest.mark.parametrize(("has_exact_pins", "verdict"), [(True, "fits"), (False, "probe")])
def test_what_is_offloaded_is_shown_and_judged_on_device_and_host(
    has_exact_pins: bool,
    verdict: str,
    monkeypatch: pytest.MonkeyPatch,
    tracer: FakeTracer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """20 bytes a parameter are 188 GB; a torch that rounds what it pins may take more than 252 GB for them."""
    monkeypatch.setattr(estimation, "has_exact_pins", lambda: has_exact_pins)
    tracer.parameter_count = 9_400_000_000
    dense = {
        "architectures": ["GlmForCausalLM"], "model_type": "glm", "vocab_size": 151552, "hidden_size": 4096,
        "intermediate_size": 13696, "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2,
        "head_dim": 128, "max_position_embeddings": 131072, "dtype": "bfloat16", "tie_word_embeddings": False,
    }  # fmt: skip
    folder = str(write_config(tmp_path / "dense", dense))
    words = ["--model", folder, "--method", "full", "--offload", "all", "--seq", "2048"]
    assert run(*words, "--on", "1xA100-80GB,host=252GB") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"[\d.]+ GB of 252 GB host memory", out)
    assert ("only a probe can tell" in out) is not has_exact_pins
    for host, expected in (("252GB", verdict), ("500GB", "fits"), ("150GB", "too_large")):
        assert run(*words, "--on", f"1xA100-80GB,host={host}", "--json") == 0
        assert json.loads(capsys.readouterr().out)["verdict"] == expected
    assert run(*words, "--on", "1xA100-80GB") == 0  # 128 GB
    assert "of assumed 128 GB host memory" in " ".join(capsys.readouterr().out.split())


def test_json_is_one_object_and_nothing_else(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", model, "--on", "8xV100-32GB", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert list(body) == [
        "schema",
        "model",
        "hardware",
        "request",
        "sdpa_kernels",
        "verdict",
        "choice",
        "plain",
        "last_resorts",
        "candidates",
        "baseline",
    ]
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
    assert run("--model", model, "--on", "4xA100-80GB") == 0
    assert tracer.start_count == 1
    assert run("--model", model, "--on", "4xA100-80GB", "--seq", "512") == 0
    assert tracer.start_count == 2


@pytest.mark.parametrize("trouble", [{"has_ended": True}, {"fails": "it has no layers"}], ids=str)
def test_a_model_that_cannot_be_traced_is_planned_by_formula_and_said_so(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str], trouble: dict[str, Any]
) -> None:
    for name, value in trouble.items():
        setattr(tracer, name, value)
    assert run("--model", model, "--on", "8xA100-80GB", "--json") == 0
    captured = capsys.readouterr()
    assert "estimated by a formula" in captured.err
    assert json.loads(captured.out)["choice"] is not None


def test_parameters_are_those_that_the_models_class_counts(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tracer.parameter_count = 1_234_567_890
    assert run("--model", model, "--on", "8xA100-80GB", "--json") == 0
    told = json.loads(capsys.readouterr().out)["model"]
    assert (told["parameter_count"], told["is_counted_exactly"]) == (1_234_567_890, True)


def test_sizes_that_config_json_leaves_to_the_class_are_no_refusal(
    tracer: FakeTracer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = {name: value for name, value in LLAMA_7B.items() if name != "num_attention_heads"}
    assert run("--model", str(write_config(tmp_path / "silent", silent)), "--on", "8xA100-80GB") == 0
    assert "6.7 B parameters" in capsys.readouterr().out
    tracer.has_ended = True
    words = ["--model", str(write_config(tmp_path / "other", {**silent, "hidden_size": 2048})), "--on", "8xA100-80GB"]
    assert run(*words) == 2
    assert "leaves sizes to the model's class, which could not be asked" in capsys.readouterr().err


def test_packages_that_the_model_would_call_must_be_there(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tracer.kernel_packages = ("mamba-ssm",)
    assert run("--model", model, "--on", "8xA100-80GB") == 0
    out = unwrapped_words(capsys.readouterr().out)
    assert "FlashAttention-2, mamba-ssm must be installed there (pip install flash-attn mamba-ssm)." in out


def test_positions_that_end_are_a_refusal(tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", model, "--on", "8xA100-80GB", "--seq", "8192") == 0
    assert "beyond the 4,096 positions" in unwrapped_words(capsys.readouterr().out)
    tracer.positions = Positions.TABLE
    assert run("--model", model, "--on", "8xA100-80GB", "--seq", "8192", "--lora-r", "8") == 2
    assert "use --seq 4096 or less" in capsys.readouterr().err


def test_a_kernel_with_which_nothing_can_be_built_is_left_for_the_next_one(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tracer.unbuildable = (Attention.FLASH_2,)
    assert run("--model", model, "--on", "8xA100-80GB", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert body["choice"]["strategy"]["attention"] == "sdpa"
    lacking = [one for one in body["candidates"] if one["verdict"] == "unsupported"]
    assert {one["reason"] for one in lacking} == {"the model cannot be built: flash_attention_2"}
    assert run("--model", model, "--on", "8xA100-80GB", "--attention", "flash_attention_2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["choice"] is None


def test_adapters_that_cannot_be_built_are_not_blamed_on_the_kernel(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--method", "lora", "--lora-target-modules", "nothing", "--json"]
    assert run("--model", model, "--on", "8xA100-80GB", *words) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["choice"] is None
    assert {one["strategy"]["attention"] for one in body["candidates"]} == {"flash_attention_2"}
    assert all("not found in the base model" in one["reason"] for one in body["candidates"])


def test_rungs_that_cannot_be_built_are_said_to_be_so_once(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", model, "--on", "8xA100-80GB", "--lora-target-modules", "nothing") == 0
    said = capsys.readouterr().out
    assert said.count("not found in the base model") == 1
    assert "estimated by a formula" not in said


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
    def rehearse(
        plans: Sequence[Plan], *, tell: Callable[[str], None], heartbeat_timeout_s: float, order: MachineOrder
    ) -> tuple[Plan, ...]:
        tell(f"patience {heartbeat_timeout_s:.0f}")
        return tuple(_rehearsed(plan) for plan in plans)

    monkeypatch.setattr(rehearsals, "rehearse", rehearse)
    words = ["--model", model, "--rehearse", "--on", "8xA100-80GB", "--probe-timeout", "7"]
    assert run(*words, "--json") == 0
    captured = capsys.readouterr()
    choice = json.loads(captured.out)["choice"]
    assert captured.err == "autofit: patience 7\n"
    assert set(choice) == {
        "strategy", "memory", "host_memory", "speed", "energy", "efficiency", "verdict", "reason",
        "adamw_zero3_peak_bytes",
    }  # fmt: skip
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


def test_a_recipe_of_several_trainings_has_no_one_plan(
    tracer: FakeTracer, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {model}\ntasks: [sft, dpo]\n")
    assert run("--recipe", str(recipe), "--on", "8xA100-80GB") == 2
    assert f"{recipe} has tasks, several trainings, and autofit plan is of one" in capsys.readouterr().err


def test_the_cheapest_machine_that_finishes_comes_first(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machines = ["--on", "8xH100", "--on", "8xL40S", "--tokens", "1e9", "--model", model]
    prices = ["--price", "H100=30", "--price", "8xL40S=1", "--optimize", "cost"]
    assert run(*machines, *prices) == 0
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if line.startswith("8 × ")]
    assert ["L40S" in row for row in rows] == [True, False]
    assert "cheapest 8 × L40S: 1.0 B tokens: ~" in " ".join(shown.split())
    assert unwrapped(shown).endswith(f"nextautofittrain--model{model}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--on 8xH100 --optimize cost --price 2", "--optimize cost needs the length of the training"),
        ("--on 8xH100 --optimize cost --tokens 1e9", "--optimize cost needs the price of a device-hour of"),
        ("--on 8xH100 --price A100=2", "--price A100=2 is of none of the machines"),
        ("--on 8xH100 --price A100=much", "is no price of a device-hour; write it like"),
        ("--on 8xH100 --baseline zero9", "--baseline zero9 is no strategy of this request"),
    ],
)
def test_what_cannot_be_priced_or_compared_is_refused(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    assert run("--model", model, *words.split()) == 2
    assert told in capsys.readouterr().err


def test_a_plan_picks_by_what_is_looked_for_and_tells_the_ratios(
    tracer: FakeTracer, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", model, "--on", "8xA100-80GB", "--seq", "1024", "--baseline", "zero2"]
    picks = {}
    for goal in ("speed", "memory", "energy", "balanced"):
        assert run(*words, "--optimize", goal, "--json") == 0
        body = json.loads(capsys.readouterr().out)
        candidates = [one for one in body["candidates"] if one["verdict"] == "fits"]
        picks[goal] = body["choice"]
        assert body["baseline"]["strategy"]["rung"]["zero_stage"] == 2
        assert picks[goal]["efficiency"]["is_measured"] is False
    assert picks["memory"]["memory"]["peak_bytes"] <= 1.01 * min(one["memory"]["peak_bytes"] for one in candidates)
    assert picks["energy"] == picks["speed"] != picks["memory"]
    assert picks["speed"]["energy"]["token_j"] == pytest.approx(8 * 400 / picks["speed"]["speed"]["tokens_per_s"])
    assert picks["balanced"]["efficiency"]["product"] == max(one["efficiency"]["product"] for one in candidates)
    assert run(*words, "--optimize", "memory") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "why the least memory that is expected to fit: " in shown
    assert re.search(r"ratios SpeedUp ~\S+× · MemoryUp ~\S+× of zero2\S* mb\d+ \(predicted\)", shown)
    assert shown.endswith("--seq 1024 --baseline zero2 --optimize memory")
