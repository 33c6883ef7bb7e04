"""What may be turned in a script, and a strategy put into its own words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from autofit.domain.deepspeed_line import Override
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import ATTENTION, Attention
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.knobs.offload import Offload
from autofit.domain.script import Ask, Counting, RuntimePatches
from autofit.domain.strategy import Strategy
from autofit.planning.script.config_rewriter import ConfigRewriter, as_it_is
from autofit.planning.script.inspection import complete_facts, leanest, needs_second_look, preferred_attention
from autofit.planning.script.tunable_knobs import keep_flagless, missing_knobs, pins_of, tunable_knobs
from tests.builders import make_facts, make_rung

FACTS = make_facts()
STRATEGY = Strategy(
    make_rung(2, gradient_checkpointing=GradientCheckpointing.ON),
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
NOTHING: frozenset[Override] = frozenset()


def rewriter(
    config: dict[str, Any], words: tuple[str, ...] = (), override: frozenset[Override] = NOTHING
) -> ConfigRewriter:
    return ConfigRewriter(config, words, tunable_knobs(config, words, override), FACTS, 64, DeviceKind.CPU)


def test_what_is_absent_or_auto_may_be_turned() -> None:
    knobs = tunable_knobs(PLAIN, (), NOTHING)
    assert (knobs.can_tune_stage, knobs.can_tune_offload, knobs.can_tune_micro_batch) == (True, True, True)
    assert knobs.notes == ()
    assert knobs.is_unproven, "only its batches tell whether the script follows the config"
    knobs = tunable_knobs({**HF, "zero_optimization": {"stage": "auto"}}, HF_WORDS, NOTHING)
    assert (knobs.can_tune_stage, knobs.can_tune_micro_batch, knobs.has_flags, knobs.notes) == (True, True, True, ())
    assert not knobs.is_unproven


def test_what_was_written_as_a_number_is_kept_and_named() -> None:
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}},
    }
    knobs = tunable_knobs(config, (), NOTHING)
    assert (knobs.can_tune_stage, knobs.can_tune_offload, knobs.can_tune_micro_batch) == (False, False, False)
    assert [sentence.split(" stay")[0] for sentence in knobs.notes] == [
        "zero_optimization.stage", "zero_optimization.offload_*", "the micro-batch",
    ]  # fmt: skip
    assert all("--autofit-override" in sentence for sentence in knobs.notes)


@pytest.mark.parametrize("knob", [Override.STAGE, Override.OFFLOAD, Override.MICRO_BATCH])
def test_an_override_frees_just_that(knob: Override) -> None:
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}},
    }
    knobs = tunable_knobs(config, (), frozenset({knob}))
    assert [knobs.can_tune_stage, knobs.can_tune_offload, knobs.can_tune_micro_batch] == [
        knob is Override.STAGE, knob is Override.OFFLOAD, knob is Override.MICRO_BATCH,
    ]  # fmt: skip


def test_without_the_flag_a_hugging_face_script_keeps_its_micro_batch() -> None:
    knobs = tunable_knobs(HF, ("--deepspeed", "ds.json"), NOTHING)
    assert not knobs.can_tune_micro_batch
    assert any("give --per_device_train_batch_size" in sentence for sentence in knobs.notes)


def test_a_plain_script_is_turned_by_its_config() -> None:
    turned = rewriter(PLAIN, ("--deepspeed_config", "ds.json", "--lr", "1")).trained(STRATEGY, "/run/ds.json")
    config = json.loads(turned.config)
    assert turned.arguments == ("--deepspeed_config", "/run/ds.json", "--lr", "1")
    assert config["train_batch_size"] == 32 == 2 * config["train_micro_batch_size_per_gpu"] * 16
    assert config["gradient_accumulation_steps"] == 16
    assert config["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 4096, "allgather_bucket_size": 4096}
    assert config["bf16"] == {"enabled": True}
    assert turned.patches == RuntimePatches(gradient_checkpointing=True)


def test_a_probe_accumulates_less_and_reports_to_nobody() -> None:
    watched = {**PLAIN, "wandb": {"enabled": True}, "tensorboard": {"enabled": True}, "autotuning": {"enabled": True}}
    config = json.loads(rewriter(watched).probed(STRATEGY, "x").config)
    assert (config["gradient_accumulation_steps"], config["train_batch_size"]) == (3, 6)
    assert not {"wandb", "tensorboard", "autotuning"} & config.keys()
    trained = json.loads(rewriter(watched).trained(STRATEGY, "x").config)
    assert "wandb" in trained
    assert "autotuning" not in trained
    assert watched["train_batch_size"] == 32, "the user's own is not touched"


def test_a_hugging_face_script_is_turned_by_its_flags() -> None:
    turned = rewriter(HF, HF_WORDS).trained(STRATEGY, "/run/ds.json")
    assert turned.arguments == (
        "--deepspeed", "/run/ds.json", "--per_device_train_batch_size", "1", "--gradient_accumulation_steps=16",
    )  # fmt: skip
    config = json.loads(turned.config)
    assert config["train_micro_batch_size_per_gpu"] == config["train_batch_size"] == "auto"
    assert config["zero_optimization"]["stage"] == 2, "a number stays"
    assert config["zero_optimization"]["reduce_bucket_size"] == 4096, "auto is turned"


def test_accumulation_is_added_where_the_script_takes_flags() -> None:
    words = rewriter(HF, HF_WORDS[:4]).trained(STRATEGY, "x").arguments
    assert words[-2:] == ("--gradient_accumulation_steps", "16")


@pytest.mark.parametrize("own", [1, 4])
def test_what_a_script_accumulates_by_itself_is_told_otherwise_and_not_told_again(own: int) -> None:
    """It may stand in a recipe, or be its parser's default: with nothing added the global batch would be another."""
    words = HF_WORDS[:4]
    facts = make_facts(micro_batch=8, gradient_accumulation=own)
    made = ConfigRewriter(HF, words, tunable_knobs(HF, words, NOTHING), facts, 64, DeviceKind.CPU)
    for micro_batch in (2, 4, 8, 16, 32):
        accumulation = max(1, 8 * own // micro_batch)
        strategy = Strategy(STRATEGY.rung, micro_batch, accumulation)
        added = made.trained(strategy, "x").arguments[4:]
        expected = () if accumulation == own else ("--gradient_accumulation_steps", str(accumulation))
        assert added == expected


def test_a_script_that_takes_no_flag_of_accumulation_is_probed_with_its_own() -> None:
    words, facts = HF_WORDS[:4], make_facts(gradient_accumulation=8, accumulation_flag=None)
    knobs = keep_flagless(tunable_knobs(HF, words, NOTHING), words, facts)
    probed = ConfigRewriter(HF, words, knobs, facts, 64, DeviceKind.CPU).probed(Strategy(STRATEGY.rung, 8, 8), "x")
    assert probed.arguments == ("--deepspeed", "x", "--per_device_train_batch_size", "8")


def test_a_bucket_that_was_written_stays() -> None:
    config = {"train_batch_size": 32, "zero_optimization": {"reduce_bucket_size": 7}}
    assert json.loads(rewriter(config).trained(STRATEGY, "x").config)["zero_optimization"]["reduce_bucket_size"] == 7
    knobs = rewriter(config, override=frozenset({Override.BUCKETS})).trained(STRATEGY, "x")
    assert json.loads(knobs.config)["zero_optimization"]["reduce_bucket_size"] == 4096


def test_offload_takes_the_place_of_what_was_there() -> None:
    config = {"train_batch_size": 32, "zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}
    strategy = Strategy(
        make_rung(3, offload=Offload.OPTIMIZER),
        1,
        16,
    )
    overridden = rewriter(config, override=frozenset({Override.OFFLOAD})).trained(strategy, "x")
    zero = json.loads(overridden.config)["zero_optimization"]
    assert zero["offload_optimizer"]["device"] == "cpu"
    assert "offload_param" not in zero
    kept = json.loads(rewriter(config).trained(strategy, "x").config)["zero_optimization"]
    assert kept["offload_param"] == {"device": "nvme"}
    assert "offload_optimizer" not in kept


def test_as_it_is_changes_nothing_that_a_step_depends_on() -> None:
    own = as_it_is({**PLAIN, "comet": {"enabled": True}}, ("--deepspeed_config=ds.json",), "/p/ds.json")
    assert json.loads(own.config) == PLAIN
    assert own.arguments == ("--deepspeed_config=/p/ds.json",)
    assert own.patches.is_nothing


def test_a_model_that_is_not_hugging_face_keeps_its_knobs() -> None:
    facts = replace(FACTS, gradient_checkpointing=None, attention=None, model_class="Net", model_config=None)
    pins = pins_of(tunable_knobs(PLAIN, (), NOTHING), facts, preferred_attention(facts, has_flash=True))
    assert pins.of(GRADIENT_CHECKPOINTING) is GradientCheckpointing.OFF
    assert pins.of(ATTENTION) is Attention.SDPA
    assert "Net" in missing_knobs(facts)[0]
    assert (
        ConfigRewriter(PLAIN, (), tunable_knobs(PLAIN, (), NOTHING), facts, 64, DeviceKind.CPU)
        .trained(STRATEGY, "x")
        .patches
        == RuntimePatches()
    )


def test_the_first_look_is_completed_by_a_lean_one() -> None:
    knobs = tunable_knobs(PLAIN, (), NOTHING)
    assert needs_second_look(FACTS, knobs, Attention.SDPA), "it is not known whether the batches follow the config"
    lean = leanest(FACTS, knobs, Attention.SDPA)
    assert (lean.rung.zero_stage, lean.rung.gradient_checkpointing, lean.micro_batch) == (
        3,
        GradientCheckpointing.ON,
        1,
    )
    assert lean.micro_batch * lean.gradient_accumulation * 2 == FACTS.global_batch
    _, follows = complete_facts(FACTS, knobs, replace(FACTS, micro_batch=1, rows=1))
    assert follows.can_tune_micro_batch
    blind = replace(FACTS, rows=None, tokens=None)
    facts, stays = complete_facts(blind, knobs, replace(FACTS, micro_batch=1, rows=8))
    assert not stays.can_tune_micro_batch
    assert "makes its own batches" in stays.notes[-1]
    assert (facts.rows, facts.tokens) == (8, 128)


def test_flags_need_no_second_look() -> None:
    assert not needs_second_look(FACTS, tunable_knobs(HF, HF_WORDS, NOTHING), Attention.SDPA)
    assert needs_second_look(FACTS, tunable_knobs(HF, HF_WORDS, NOTHING), Attention.FLASH_2)
    plain = replace(FACTS, counting=Counting((Ask.STEPS,)))
    assert needs_second_look(plain, tunable_knobs(HF, HF_WORDS, NOTHING), Attention.SDPA), (
        "its learning rate may follow the batches"
    )


def test_flags_and_numbers_of_the_config_stay_alike() -> None:
    config = {**HF, "gradient_accumulation_steps": 2}
    kept = rewriter(config, HF_WORDS)
    assert "command line" in kept.knobs.notes[-1]
    own = Strategy(STRATEGY.rung, 8, 2)
    assert json.loads(kept.trained(own, "x").config)["gradient_accumulation_steps"] == 2
    knobs = rewriter(config, HF_WORDS, frozenset({Override.MICRO_BATCH})).probed(STRATEGY, "x")
    assert json.loads(knobs.config)["gradient_accumulation_steps"] == 3
    assert "--gradient_accumulation_steps=3" in knobs.arguments
    assert json.loads(knobs.config)["train_micro_batch_size_per_gpu"] == "auto"


def test_what_a_script_fills_in_by_itself_is_left_to_it() -> None:
    """A probe could not accumulate less there without contradicting the number."""
    config = {**HF, "train_batch_size": 320}
    plain = rewriter(config, ("--deepspeed", "ds.json"))
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


def test_a_script_is_given_no_flag_that_it_does_not_take() -> None:
    """The micro-batch stays where nothing could make up for another; a flag of the script's own is taken as it is
    spelt."""
    words = ("--deepspeed", "ds.json", "--per-device-train-batch-size", "8")
    knobs = tunable_knobs(HF, words, NOTHING)
    without = keep_flagless(knobs, words, make_facts(accumulation_flag=None))
    assert not without.can_tune_micro_batch
    assert without.notes[-1] == "the micro-batch stays 8: the script takes no --gradient_accumulation_steps"
    assert (
        keep_flagless(knobs, (*words, "--gradient_accumulation_steps=2"), make_facts(accumulation_flag=None)) == knobs
    )
    facts = make_facts(accumulation_flag="--gradient-accumulation-steps")
    assert keep_flagless(knobs, words, facts) == knobs
    made = ConfigRewriter(HF, words, knobs, facts, 64, DeviceKind.CPU).trained(STRATEGY, "copy.json")
    assert made.arguments == (
        *("--deepspeed", "copy.json", "--per-device-train-batch-size", "1"),
        *("--gradient-accumulation-steps", "16"),
    )


def test_a_size_of_the_batch_that_is_null_is_not_said() -> None:
    config = {"train_batch_size": 32, "train_micro_batch_size_per_gpu": None, "gradient_accumulation_steps": None}
    assert tunable_knobs(config, (), NOTHING).can_tune_micro_batch
