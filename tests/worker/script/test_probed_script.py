"""Probes of scripts that know nothing of autofit, each in ranks of its own on two CPUs."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.offload import Offload
from autofit.domain.model import ParameterGroup
from autofit.domain.outcome import NotFinite, OutOfMemory, Phase, Place, TimedOut, Unsupported, UserFault
from autofit.domain.script import Ask, LoadedCheckpoint, RuntimePatches
from autofit.domain.strategy import Strategy
from autofit.domain.training_length import SeenLength
from autofit.inputs.model_config import read_shape
from autofit.probing.agent import Agent
from autofit.worker.rank.measured_steps import NOT_FINITE
from tests.builders import make_rung
from tests.worker.script.bench import AUTO, EXAMPLES, MODEL, Bench, config

DECAY = {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 50}}}
STRATEGY = Strategy(
    make_rung(2),
    2,
    1,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def agent_without_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setenv("AUTOFIT_OVERLAY", "0")
    with Agent(kind=DeviceKind.CPU, log_path=tmp_path / "agent.log") as agent:
        yield agent


def test_a_plain_loop_is_measured_and_finds_everything_as_under_deepspeed(bench: Bench) -> None:
    spec = bench.spec("plain.py", "--deepspeed_config=DS", deepspeed={**config(micro_batch=2, accumulation=3), **DECAY})
    outcome, facts = bench.measured(spec)
    assert outcome.tokens_per_s == pytest.approx(2 * 3 * 2 / outcome.step_s)  # rows, where there are no tokens
    assert 0 < outcome.micro_step_s < outcome.step_s
    assert facts.global_batch == 12
    assert (facts.rows, facts.tokens, facts.optimizer, facts.dtype) == (2, None, "adamw", Dtype.BF16)
    assert facts.length == SeenLength(epoch_rows=4096, scheduler_steps=50)
    assert ParameterGroup(64 * 64, 4, True, 4) in facts.parameters
    step = [Phase.FORWARD, Phase.BACKWARD] * 3 + [Phase.STEP]
    assert bench.phases == [Phase.BUILD, Phase.INITIALIZE] + step * 4
    home = bench.home.resolve()
    argv = ["plain.py", "--local_rank=1", f"--deepspeed_config={spec.scratch_path}/ds.json"]
    assert f"argv {argv} {home} {home}/plain.py {home} \n" in bench.log
    places = ["'RANK': '1'", "'LOCAL_RANK': '1'", "'WORLD_SIZE': '2'", "'LOCAL_SIZE': '2'", "'CROSS_RANK': '0'"]
    assert all(place in bench.log for place in [*places, "'CROSS_SIZE': '1'"])
    assert "process MainProcess None\n" in bench.log
    assert not (bench.home / "finally").exists()


def test_without_an_overlay_the_users_folder_stays_as_it_was_too(bench: Bench, agent_without_overlay: Agent) -> None:
    bench.agent = agent_without_overlay
    _, facts = bench.measured(bench.spec("plain.py", "--deepspeed_config=DS"))
    assert facts.escaped == ()
    assert not list(Path(tempfile.gettempdir()).glob("autofit-rank-*"))


def test_a_checkpoint_that_is_loaded_is_seen_and_its_state_is_the_scripts(bench: Bench) -> None:
    place = bench.home / "resumed/global_step5"
    place.mkdir(parents=True)
    (place.parent / "latest").write_text("global_step5")
    saved = {"module": {}, "step": 41, "dp_world_size": 2, "ds_config": {"zero_optimization": {"stage": 0}}}
    torch.save(saved, place / "mp_rank_00_model_states.pt")
    _, facts = bench.measured(bench.spec("plain.py", "--deepspeed_config=DS", "--trouble=resume"))
    assert facts.loads_from == str(place.parent)
    assert facts.checkpoint == LoadedCheckpoint(str(place), (0,), rank_count=2, offload=Offload.NONE)
    assert "goes on after 41" in bench.log


def test_the_rank_that_runs_out_of_memory_is_named(bench: Bench) -> None:
    spec = bench.spec("plain.py", "--deepspeed_config=DS", "--width=4096", memory_limit_bytes=700_000_000)
    outcome, facts = bench.inspect(spec)
    assert isinstance(outcome, OutOfMemory)
    assert outcome.place is Place.DEVICE
    assert outcome.phase in (Phase.INITIALIZE, Phase.FORWARD, Phase.BACKWARD, Phase.STEP)
    assert facts is not None
    assert sum(group.element_count * group.tensor_count for group in facts.parameters) > 4 * 4096**2


@pytest.mark.parametrize(
    ("limit_bytes", "phases"),
    [(720_000_000, {Phase.INITIALIZE}), (1_050_000_000, {Phase.FORWARD, Phase.BACKWARD, Phase.STEP})],
)
def test_an_out_of_memory_that_the_script_swallows_is_seen(bench: Bench, limit_bytes: int, phases: set[Phase]) -> None:
    arguments = ("--deepspeed_config=DS", "--width=4096", "--trouble=swallow")
    outcome, _ = bench.inspect(bench.spec("plain.py", *arguments, memory_limit_bytes=limit_bytes))
    assert isinstance(outcome, OutOfMemory), (outcome, bench.log)
    assert outcome.phase in phases


@pytest.mark.parametrize("trouble", ["eval", "past the engine"])
def test_a_loop_whose_forward_pass_is_another_is_measured_by_its_rows(bench: Bench, trouble: str) -> None:
    spec = bench.spec("plain.py", "--deepspeed_config=DS", f"--trouble={trouble}", deepspeed=config(2, accumulation=3))
    outcome, facts = bench.measured(spec)
    assert outcome.tokens_per_s == pytest.approx(2 * 3 * 2 / outcome.step_s)
    assert 0 < outcome.micro_step_s < outcome.step_s
    assert facts.rows == (2 if trouble == "eval" else None)


def test_a_loop_that_divides_its_model_while_it_builds_it(bench: Bench) -> None:
    spec = bench.spec("plain.py", "--deepspeed_config=DS", "--trouble=zero.Init", deepspeed=config(stage=3))
    _, facts = bench.measured(spec)
    assert facts.zero_stage == 3
    assert ParameterGroup(64 * 64, 4, True, 2) in facts.parameters


@pytest.mark.parametrize(
    ("arguments", "kind", "why"),
    [
        (("--steps=2",), Unsupported, "the script ended by itself after 2 optimizer steps"),
        (
            ("--steps=1", "--trouble=exit"),
            Unsupported,
            "the script ended by itself with exit code 3 after 1 optimizer step",
        ),
        (("--trouble=infinite",), NotFinite, NOT_FINITE),
        (
            ("--unknown",),
            Unsupported,
            "the script's own parser refuses its arguments: unrecognized arguments: --unknown",
        ),
    ],
)
def test_a_script_that_ends_first_is_told_apart(
    bench: Bench, arguments: tuple[str, ...], kind: type[Unsupported | NotFinite], why: str
) -> None:
    outcome, _ = bench.inspect(bench.spec("plain.py", "--deepspeed_config=DS", *arguments))
    assert isinstance(outcome, kind)
    assert outcome.why == why


def test_one_measured_step_is_enough_whatever_the_optimizer(bench: Bench) -> None:
    sgd = {"optimizer": {"type": "SGD", "params": {"lr": 1e-3, "momentum": 0.9}}, "zero_allow_untested_optimizer": True}
    spec = bench.spec("plain.py", "--deepspeed_config=DS", "--steps=3", deepspeed={**config(), **sgd})
    _, facts = bench.measured(spec)
    assert (facts.optimizer, facts.optimizer_options) == ("SGD", ("momentum",))


def test_what_a_script_raises_is_said(bench: Bench) -> None:
    outcome, _ = bench.inspect(bench.spec("plain.py", "--deepspeed_config=DS", "--trouble=raise"))
    assert isinstance(outcome, UserFault)
    assert re.fullmatch(r"RuntimeError: the loss is not finite \(\S+/plain\.py:\d+\)", outcome.why)


def test_a_script_that_reaches_no_step_is_no_script_that_does_not_fit(bench: Bench) -> None:
    spec = bench.spec("plain.py", "--deepspeed_config=DS", "--trouble=hang")
    outcome, facts = bench.inspect(replace(spec, heartbeat_timeout_s=1.0))
    assert isinstance(outcome, TimedOut)
    assert outcome.phase in (Phase.START, Phase.BUILD)
    assert facts is None


def test_a_folder_that_is_not_there_is_named(bench: Bench) -> None:
    spec = bench.spec("plain.py")
    lost = replace(spec, job=replace(spec.job, script=replace(spec.job.script, directory="/nowhere")))
    outcome, _ = bench.inspect(lost)
    assert isinstance(outcome, Unsupported)
    assert outcome.why == f"the script's working directory /nowhere is not there on {os.uname().nodename}"


def test_checkpointing_and_attention_are_turned_within_the_script(bench: Bench) -> None:
    spec = bench.spec("language.py", "--deepspeed_config=DS", f"--model={MODEL}", deepspeed=config(micro_batch=4))
    plain, facts = bench.measured(spec)
    assert (facts.model_class, facts.tokens, facts.rows) == ("LlamaForCausalLM", 128, 4)
    assert (facts.gradient_checkpointing, facts.attention) == (False, Attention.SDPA)
    assert facts.model_config is not None
    shape = read_shape("tiny", json.loads(facts.model_config), None)
    assert shape.parameter_count == sum(group.element_count * group.tensor_count for group in facts.parameters)
    turns = RuntimePatches(gradient_checkpointing=True, attention=Attention.EAGER)
    again = bench.spec("language.py", "--deepspeed_config=DS", f"--model={MODEL}", deepspeed=config(micro_batch=4))
    turned, same = bench.measured(replace(again, job=replace(again.job, turns=turns)))
    assert turned.peak_device_bytes < plain.peak_device_bytes - 20_000_000
    assert same == facts  # what the script has, and not what we make of it


def test_transformers_trainer_keeps_its_hands_off_the_users_folders(bench: Bench) -> None:
    place = bench.home / "kept/checkpoint-5/global_step5"
    place.mkdir(parents=True)
    (place.parent / "latest").write_text("global_step5")
    for name in ("mp_rank_00_model_states.pt", *(f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in (0, 1))):
        (place / name).touch()
    arguments = ["--output_dir", "kept", "--max_steps=3", "--save_steps=1", "--per_device_train_batch_size=2"]
    arguments += [
        "--gradient_accumulation_steps=2",
        "--bf16=True",
        "--use_cpu",
        "--report_to=wandb",
        "--push_to_hub=True",
    ]
    spec = bench.spec("with_trainer.py", f"--model={MODEL}", "--deepspeed=DS", *arguments, deepspeed=AUTO)
    outcome, facts = bench.measured(spec)
    assert (facts.rows, facts.tokens, facts.micro_batch, facts.gradient_accumulation) == (2, 64, 2, 2)
    assert outcome.tokens_per_s == pytest.approx(2 * 48 * 2 * 2 / outcome.step_s)  # padding does not count
    assert facts.checkpoint == LoadedCheckpoint(str(place), (1, 2), rank_count=2), "the last one, to be gone on with"
    assert facts.counting.asks == (Ask.TRAINER,)
    assert facts.length == SeenLength(trainer_steps=3, epoch_rows=10), "what was asked for, and half of 20 rows"


def test_the_refusal_of_a_trainer_whose_arguments_differ_from_its_config_is_passed_on(bench: Bench) -> None:
    (bench.home / "kept/checkpoint-5").mkdir()
    mismatch = {**AUTO, "train_batch_size": 64, "train_micro_batch_size_per_gpu": 4}
    words = (f"--model={MODEL}", "--deepspeed=DS", "--output_dir=kept", "--per_device_train_batch_size=2", "--use_cpu")
    outcome, _ = bench.inspect(bench.spec("with_trainer.py", *words, deepspeed=mismatch))
    assert isinstance(outcome, Unsupported)
    assert outcome.why.startswith("ValueError: Please correct the following DeepSpeed config values that mismatch")
    assert "ds train_micro_batch_size_per_gpu=4 vs hf per_device_train_batch_size=2" in outcome.why


def test_trl_with_an_adapter_is_measured(bench: Bench) -> None:
    data = str(EXAMPLES / "dialogues.jsonl")
    spec = bench.spec("with_trl.py", f"--model={MODEL}", f"--data={data}", "--deepspeed=DS", deepspeed=AUTO)
    _, facts = bench.measured(spec)
    assert facts.rows == 2
    assert {group.is_trained for group in facts.parameters} == {True, False}
