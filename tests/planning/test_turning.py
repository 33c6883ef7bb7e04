"""What may be turned in a script, and a strategy put into its own words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from builders import make_rung

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import ATTENTION, Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING
from autofit.domain.knobs.offload import Offload
from autofit.domain.launch import Knob
from autofit.domain.script import Ask, Counting, ScriptFacts, Turns
from autofit.domain.strategy import Strategy
from autofit.domain.trace import ParameterGroup
from autofit.planning.first_look import after_look, is_needed, leanest, wished_attention
from autofit.planning.freedom import freedom, missing_knobs, pins_of
from autofit.planning.turning import Turning, as_it_is

FACTS = ScriptFacts(
    model_class="LlamaForCausalLM",
    model_config="{}",
    parameters=(ParameterGroup(1024, 10, True, 2),),
    buffers_bytes=0,
    optimizer="AdamW",
    dtype=Dtype.BF16,
    zero_stage=0,
    offload=Offload.NONE,
    micro_batch=8,
    gradient_accumulation=2,
    rank_count=2,
    gradient_checkpointing=False,
    attention=Attention.SDPA,
    rows=8,
    tokens=128,
    counting=Counting((Ask.TRAINER,)),
)
STRATEGY = Strategy(
    make_rung(2, gradient_checkpointing=True),
    1,
    16,
)
PLAIN: dict[str, Any] = {"train_batch_size": 32, "bf16": {"enabled": True}}
HF: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "train_batch_size": "auto",
    "zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"},
}
HF_WORDS = ("--deepspeed", "ds.json", "--per_device_train_batch_size", "8", "--gradient_accumulation_steps=2")
NOTHING: frozenset[Knob] = frozenset()


def turning(config: dict[str, Any], words: tuple[str, ...] = (), override: frozenset[Knob] = NOTHING) -> Turning:
    return Turning(config, words, freedom(config, words, override), FACTS, 64, DeviceKind.CPU)


def test_what_is_absent_or_auto_may_be_turned() -> None:
    free = freedom(PLAIN, (), NOTHING)
    assert (free.stage, free.offload, free.micro_batch, free.kept) == (True, True, True, ())
    assert free.is_unproven, "only its batches tell whether the script follows the config"
    free = freedom({**HF, "zero_optimization": {"stage": "auto"}}, HF_WORDS, NOTHING)
    assert (free.stage, free.micro_batch, free.has_flags, free.kept) == (True, True, True, ())
    assert not free.is_unproven


def test_what_was_written_as_a_number_is_kept_and_named() -> None:
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}},
    }
    free = freedom(config, (), NOTHING)
    assert (free.stage, free.offload, free.micro_batch) == (False, False, False)
    assert [sentence.split(" stay")[0] for sentence in free.kept] == [
        "zero_optimization.stage", "zero_optimization.offload_*", "the micro-batch",
    ]  # fmt: skip
    assert all("--autofit-override" in sentence for sentence in free.kept)


@pytest.mark.parametrize("knob", [Knob.STAGE, Knob.OFFLOAD, Knob.MICRO_BATCH])
def test_an_override_frees_just_that(knob: Knob) -> None:
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}},
    }
    free = freedom(config, (), frozenset({knob}))
    assert [free.stage, free.offload, free.micro_batch] == [
        knob is Knob.STAGE, knob is Knob.OFFLOAD, knob is Knob.MICRO_BATCH,
    ]  # fmt: skip


def test_without_the_flag_a_hugging_face_script_keeps_its_micro_batch() -> None:
    free = freedom(HF, ("--deepspeed", "ds.json"), NOTHING)
    assert not free.micro_batch
    assert any("give --per_device_train_batch_size" in sentence for sentence in free.kept)


def test_a_plain_script_is_turned_by_its_config() -> None:
    turned = turning(PLAIN, ("--deepspeed_config", "ds.json", "--lr", "1")).trained(STRATEGY, "/run/ds.json")
    config = json.loads(turned.config)
    assert turned.arguments == ("--deepspeed_config", "/run/ds.json", "--lr", "1")
    assert config["train_batch_size"] == 32 == 2 * config["train_micro_batch_size_per_gpu"] * 16
    assert config["gradient_accumulation_steps"] == 16
    assert config["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 4096, "allgather_bucket_size": 4096}
    assert config["bf16"] == {"enabled": True}
    assert turned.turns == Turns(gradient_checkpointing=True)


def test_a_probe_accumulates_less_and_reports_to_nobody() -> None:
    watched = {**PLAIN, "wandb": {"enabled": True}, "tensorboard": {"enabled": True}, "autotuning": {"enabled": True}}
    config = json.loads(turning(watched).probed(STRATEGY, "x").config)
    assert (config["gradient_accumulation_steps"], config["train_batch_size"]) == (3, 6)
    assert not {"wandb", "tensorboard", "autotuning"} & config.keys()
    trained = json.loads(turning(watched).trained(STRATEGY, "x").config)
    assert "wandb" in trained
    assert "autotuning" not in trained
    assert watched["train_batch_size"] == 32, "the user's own is not touched"


def test_a_hugging_face_script_is_turned_by_its_flags() -> None:
    turned = turning(HF, HF_WORDS).trained(STRATEGY, "/run/ds.json")
    assert turned.arguments == (
        "--deepspeed", "/run/ds.json", "--per_device_train_batch_size", "1", "--gradient_accumulation_steps=16",
    )  # fmt: skip
    config = json.loads(turned.config)
    assert config["train_micro_batch_size_per_gpu"] == config["train_batch_size"] == "auto"
    assert config["zero_optimization"]["stage"] == 2, "a number stays"
    assert config["zero_optimization"]["reduce_bucket_size"] == 4096, "auto is turned"


def test_accumulation_is_added_where_the_script_takes_flags() -> None:
    words = turning(HF, HF_WORDS[:4]).trained(STRATEGY, "x").arguments
    assert words[-2:] == ("--gradient_accumulation_steps", "16")
    alone = turning(HF, HF_WORDS[:4]).trained(replace(STRATEGY, micro_batch=8, gradient_accumulation=1), "x").arguments
    assert alone == ("--deepspeed", "x", "--per_device_train_batch_size", "8"), "a script may know no such flag"


def test_a_bucket_that_was_written_stays() -> None:
    config = {"train_batch_size": 32, "zero_optimization": {"reduce_bucket_size": 7}}
    assert json.loads(turning(config).trained(STRATEGY, "x").config)["zero_optimization"]["reduce_bucket_size"] == 7
    free = turning(config, override=frozenset({Knob.BUCKETS})).trained(STRATEGY, "x")
    assert json.loads(free.config)["zero_optimization"]["reduce_bucket_size"] == 4096


def test_offload_takes_the_place_of_what_was_there() -> None:
    config = {"train_batch_size": 32, "zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}
    strategy = Strategy(
        make_rung(3, offload=Offload.OPTIMIZER),
        1,
        16,
    )
    overridden = turning(config, override=frozenset({Knob.OFFLOAD})).trained(strategy, "x")
    zero = json.loads(overridden.config)["zero_optimization"]
    assert zero["offload_optimizer"]["device"] == "cpu"
    assert "offload_param" not in zero
    kept = json.loads(turning(config).trained(strategy, "x").config)["zero_optimization"]
    assert kept["offload_param"] == {"device": "nvme"}
    assert "offload_optimizer" not in kept


def test_as_it_is_changes_nothing_that_a_step_depends_on() -> None:
    own = as_it_is({**PLAIN, "comet": {"enabled": True}}, ("--deepspeed_config=ds.json",), "/p/ds.json")
    assert json.loads(own.config) == PLAIN
    assert own.arguments == ("--deepspeed_config=/p/ds.json",)
    assert own.turns.is_nothing


def test_a_model_that_is_not_hugging_face_keeps_its_knobs() -> None:
    facts = replace(FACTS, gradient_checkpointing=None, attention=None, model_class="Net", model_config=None)
    pins = pins_of(freedom(PLAIN, (), NOTHING), facts, wished_attention(facts, has_flash=True))
    assert pins.of(GRADIENT_CHECKPOINTING) is False
    assert pins.of(ATTENTION) is Attention.SDPA
    assert "Net" in missing_knobs(facts)[0]
    assert (
        Turning(PLAIN, (), freedom(PLAIN, (), NOTHING), facts, 64, DeviceKind.CPU).trained(STRATEGY, "x").turns
        == Turns()
    )


def test_the_first_look_is_completed_by_a_lean_one() -> None:
    free = freedom(PLAIN, (), NOTHING)
    assert is_needed(FACTS, free, Attention.SDPA), "it is not known whether the batches follow the config"
    lean = leanest(FACTS, free, Attention.SDPA)
    assert (lean.rung.zero_stage, lean.rung.gradient_checkpointing, lean.micro_batch) == (3, True, 1)
    assert lean.micro_batch * lean.gradient_accumulation * 2 == FACTS.global_batch
    _, follows = after_look(FACTS, free, replace(FACTS, micro_batch=1, rows=1))
    assert follows.micro_batch
    blind = replace(FACTS, rows=None, tokens=None)
    facts, stays = after_look(blind, free, replace(FACTS, micro_batch=1, rows=8))
    assert not stays.micro_batch
    assert "makes its own batches" in stays.kept[-1]
    assert (facts.rows, facts.tokens) == (8, 128)


def test_flags_need_no_second_look() -> None:
    assert not is_needed(FACTS, freedom(HF, HF_WORDS, NOTHING), Attention.SDPA)
    assert is_needed(FACTS, freedom(HF, HF_WORDS, NOTHING), Attention.FLASH_2)
    plain = replace(FACTS, counting=Counting((Ask.STEPS,)))
    assert is_needed(plain, freedom(HF, HF_WORDS, NOTHING), Attention.SDPA), "its learning rate may follow the batches"


def test_flags_and_numbers_of_the_config_stay_alike() -> None:
    config = {**HF, "gradient_accumulation_steps": 2}
    kept = turning(config, HF_WORDS)
    assert "command line" in kept.free.kept[-1]
    own = Strategy(STRATEGY.rung, 8, 2)
    assert json.loads(kept.trained(own, "x").config)["gradient_accumulation_steps"] == 2
    free = turning(config, HF_WORDS, frozenset({Knob.MICRO_BATCH})).probed(STRATEGY, "x")
    assert json.loads(free.config)["gradient_accumulation_steps"] == 3
    assert "--gradient_accumulation_steps=3" in free.arguments
    assert json.loads(free.config)["train_micro_batch_size_per_gpu"] == "auto"


def test_what_a_script_fills_in_by_itself_is_left_to_it() -> None:
    """A probe could not accumulate less there without contradicting the number."""
    config = {**HF, "train_batch_size": 320}
    plain = turning(config, ("--deepspeed", "ds.json"))
    probed = json.loads(plain.probed(Strategy(STRATEGY.rung, 8, 20), "x").config)
    assert {key: probed[key] for key in HF if "batch" in key or "accumulation" in key} == {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": 320,
    }


def test_a_hugging_face_model_without_checkpointing_is_called_what_it_is() -> None:
    facts = replace(FACTS, gradient_checkpointing=None)
    assert "does not support it" in missing_knobs(facts)[0]
    assert "no Hugging Face model" in missing_knobs(replace(facts, model_config=None))[0]
