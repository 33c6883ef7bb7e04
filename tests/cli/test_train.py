"""From a command line to a Request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import click
import pytest

from autofit.cli import request_builder
from autofit.cli import train as train_verb
from autofit.domain.errors import TrainingFailed
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.request import Learn, Lora, OnDivergence, Request, SearchOptions, Training
from autofit.hardware import host, machine
from autofit.hardware.nvml import VendorNvml
from autofit.runs.request_diff import FLAGS
from tests.cli.command import end
from tests.hardware.fake_nvml import a100_nvswitch

PLAIN = Request("m", 2048, pins=Pins(), training=Training())


def run(*words: str) -> int:
    return end("train", "--model", "m", *words)


def asked(calls: list[dict[str, Any]], *words: str) -> Request:
    assert run(*words) == 0
    request = calls[-1]["request"]
    assert isinstance(request, Request)
    return request


def test_the_least_command_asks_for_the_defaults(calls: list[dict[str, Any]]) -> None:
    assert asked(calls) == PLAIN
    assert calls[-1]["output_dir"] == Path("autofit-runs/m-2048")
    assert calls[-1]["options"] == SearchOptions(is_dry_run=False, is_exhaustive=False, probe_timeout_s=600.0)


def test_every_flag_arrives(calls: list[dict[str, Any]]) -> None:
    words = (
        "--data d.jsonl --eval-data e.jsonl --eval-fraction 0.1 --learn all --allow-drop 20% --seq 512 --batch-size 16 "
        "--method lora --lora-r 8 "
        "--lora-alpha 16 --lora-target-modules q_proj,o_proj --zero-stage 3 --offload all --gradient-checkpointing on "
        "--attention sdpa --micro-batch 2 --dtype fp16 --epochs 1.5 --max-steps 7 --learning-rate 1e-3 --save-steps 9 "
        "--resume runs/c --seed 1 --on-divergence warn --report-to tensorboard,wandb --merge --memory-limit 1GB "
        "--ranks 4 --output-dir out_dir --dry-run --exhaustive --tolerance 2% --probe-timeout 30 "
        "-- --warmup_ratio 0.1 --bf16"
    )
    assert asked(calls, *words.split()) == Request(
        model="m",
        sequence_length=512,
        global_batch=16,
        data="d.jsonl",
        eval_data="e.jsonl",
        eval_fraction=0.1,
        learn=Learn.ALL,
        allowed_drop=0.2,
        lora=Lora(8, 16, ("q_proj", "o_proj")),
        pins=Pins(
            method=Method.LORA,
            zero_stage=3,
            offload=Offload.ALL,
            gradient_checkpointing=GradientCheckpointing.ON,
            attention=Attention.SDPA,
            micro_batch=2,
            dtype=Dtype.FP16,
        ),
        training=Training(
            1.5,
            7,
            1e-3,
            9,
            1,
            ("tensorboard", "wandb"),
            True,
            "runs/c",
            ("--warmup_ratio", "0.1", "--bf16"),
            OnDivergence.WARN,
        ),
        memory_limit_bytes=10**9,
        ranks=4,
    )
    assert calls[-1]["output_dir"] == Path("out_dir")
    assert calls[-1]["options"] == SearchOptions(
        is_dry_run=True, is_exhaustive=True, tolerance=0.02, probe_timeout_s=30.0
    )


ALIASES = [
    ("--dataset_name d", "--data d"),
    ("--train_file d", "--data d"),
    ("--allow-drop --max-steps 5", "--allow-drop 1 --max-steps 5"),
    ("--learn assistant --allow-drop 0.05", ""),
    ("--max_length 64", "--seq 64"),
    ("--max-length 64", "--seq 64"),
    ("--max_seq_length=64", "--seq 64"),
    ("--sequence-length 64", "--seq 64"),
    ("--global-batch 8", "--batch-size 8"),
    ("--per_device_train_batch_size 4", "--micro-batch 4"),
    ("--lora_r 8", "--lora-r 8"),
    ("--lora_target_modules q_proj", "--lora-target-modules q_proj"),
    ("--gradient_checkpointing true", "--gradient-checkpointing on"),
    ("--gradient_checkpointing", "--gradient-checkpointing on"),
    ("--gradient_checkpointing False", "--gradient-checkpointing off"),
    ("--gradient-checkpointing auto", ""),
    ("--attn_implementation flash_attention_2", "--attention flash_attention_2"),
    ("--attention auto --dtype auto --method auto", ""),
    ("--bf16", "--dtype bf16"),
    ("--bf16 True --fp16 False", "--dtype bf16"),
    ("--fp16", "--dtype fp16"),
    ("--num_train_epochs 2", "--epochs 2"),
    ("--max_steps 5", "--max-steps 5"),
    ("--max_steps -1", ""),
    ("--learning_rate 1e-4", "--lr 1e-4"),
    ("--output_dir a_b", "--output-dir a_b"),
    ("--save_steps 5", "--save-steps 5"),
    ("--resume_from_checkpoint c_1", "--resume c_1"),
    ("--resume --seed 42", ""),
    ("--report_to none", ""),
    ("--report_to wandb --report_to tensorboard", "--report-to wandb,tensorboard"),
    ("--batch-size 32", ""),
    ("--micro-batch 2 --gradient_accumulation_steps 3 --ranks 4", "--micro-batch 2 --batch-size 24 --ranks 4"),
]


@pytest.mark.parametrize(("alias", "own"), ALIASES)
def test_an_alias_asks_for_the_same(calls: list[dict[str, Any]], alias: str, own: str) -> None:
    assert asked(calls, *alias.split()) == asked(calls, *own.split())
    assert calls[0]["output_dir"] == calls[1]["output_dir"]


def test_the_hugging_face_name_of_the_model(calls: list[dict[str, Any]]) -> None:
    assert end("train", "--model_name_or_path", "meta-llama/Llama-2-13b-hf") == 0
    assert calls[-1]["request"] == replace(PLAIN, model="meta-llama/Llama-2-13b-hf")
    assert calls[-1]["output_dir"] == Path("autofit-runs/Llama-2-13b-hf-2048")


def test_a_run_s_model_is_called_like_the_run(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "x" / "model").mkdir(parents=True)
    assert end("train", "--model", str(tmp_path / "x/model")) == 0
    assert calls[-1]["output_dir"] == Path("autofit-runs/model-2048")  # it may be anybody's
    (tmp_path / "x" / "request.json").touch()
    for name in ("model", "merged"):
        assert end("train", "--model", str(tmp_path / "x" / name), "--task", "reward") == 0
        assert calls[-1]["output_dir"] == Path("autofit-runs/x-reward-2048")


def test_whose_words_are_learned_is_a_question_of_supervised_fine_tuning(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert end("train", "--model", "m", "--task", "dpo", "--learn", "all") == 2
    assert "--learn all is for --task sft, and --task dpo learns from whole answers" in capsys.readouterr().err
    assert calls == []


def test_accumulation_counts_the_devices_of_the_machine(
    calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_builder, "count_ranks_here", lambda ranks: ranks or 8)
    words = "--per_device_train_batch_size 2 --gradient_accumulation_steps 4"
    assert asked(calls, *words.split()).global_batch == 64


def test_a_machine_that_is_told_to_use_its_cpu_has_no_gpus_to_count(
    calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "VendorNvml", lambda: VendorNvml(a100_nvswitch()))
    monkeypatch.setattr(host, "_core_count", lambda root: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    words = "--per_device_train_batch_size 2 --gradient_accumulation_steps 4"
    assert asked(calls, *words.split()).global_batch == 64
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert asked(calls, *words.split()).global_batch == 16


REFUSED = [
    ("--gradient_accumulation_steps 4", "--per-device-train-batch-size"),
    ("--micro-batch 2 --gradient_accumulation_steps 3 --ranks 4 --batch-size 32", "2 × 3 × 4 = 24"),
    ("--bf16 --dtype fp16", "--dtype, --bf16 and --fp16"),
    ("--memory-limit 24apples", "write it like 24GiB"),
    ("--seq 0", "--seq"),
    ("--seq many", "not a valid whole number"),
    ("--max-steps 0", "--max-steps 0"),
    ("--eval-fraction 1", "--eval-fraction"),
    ("--zero-stage 4", "--zero-stage"),
    ("--learning-rate nan", "not a finite number"),
    ("--learning-rate inf", "not a finite number"),
    ("--on-divergence hope", "--on-divergence"),
    ("--gradient-checkpointing maybe", "off, every-2, selective, on, offload, or auto"),
    ("--optimize cost", "--optimize cost is for autofit plan, which compares machines"),
    ("--optimize best", "--optimize"),
    ("stray", "stray"),
    ("--output-dir=", "an empty name is no folder"),
    ("--sequence 4", "--sequence"),
    (
        "--task grpo --reward m:f --num-generations 6 --batch-size 32",
        "a step of 32 answers cannot be 6 answers to each",
    ),
    ("-- --help", "fields of trl's SFTConfig: https://"),
    ("-- -h", "fields of trl's SFTConfig: https://"),
]


@pytest.mark.parametrize(("words", "told"), REFUSED)
def test_what_makes_no_sense_is_refused(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    assert run(*words.split()) == 2
    assert calls == []
    message = capsys.readouterr().err
    assert message.startswith("autofit: ")
    assert told in message


def test_a_changed_field_is_named_by_a_flag_that_exists() -> None:
    names = {name for parameter in train_verb.command.params for name in parameter.opts}
    assert {flag for flag in FLAGS.values() if flag.startswith("--")} <= names


@pytest.mark.parametrize(("name", "kind"), [("learn", Learn), ("on_divergence", OnDivergence)])
def test_a_flag_has_the_words_of_what_it_sets(name: str, kind: type[Enum]) -> None:
    """The help is not to wait for the request's module."""
    (flag,) = [flag for flag in train_verb.command.params if flag.name == name]
    assert isinstance(flag.type, click.Choice)
    assert list(flag.type.choices) == [value.value for value in kind]


def test_a_training_that_nothing_lighter_is_left_for_tells_how_to_start_anew(
    replace_session: Callable[[Callable[..., None]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TrainingFailed("no rung is left", ("--output-dir", "my runs/m-2", "--micro-batch", "2"))

    replace_session(fail)
    assert run("--micro-batch", "4", "--output-dir=my runs/m", "--", "--warmup_ratio", "0.1") == 1
    told = capsys.readouterr().err
    assert "no rung is left" in told
    command = "autofit train --model m --output-dir 'my runs/m-2' --micro-batch 2 -- --warmup_ratio 0.1"
    assert f"to start anew by less: {command}" in told
