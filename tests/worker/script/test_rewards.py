"""Scripts with trl's trainers of rewards and preferences, each probed as it is on two CPU ranks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from autofit.domain.outcome import Measured
from autofit.domain.script import Ask, Tie
from autofit.runs.run_folder import RunFolder
from tests.worker.script.bench import AUTO, MODEL, SCRIPTS, Bench

pytestmark = pytest.mark.slow

WITH_OPTIMIZER = {**AUTO, "optimizer": {"type": "AdamW", "params": {"lr": "auto", "torch_adam": True}}}

WORDS = ("--bf16=True", "--use_cpu=True", "--max_steps=50", "--eval_strategy=steps", "--eval_steps=1")
PAIRS = ("--per_device_train_batch_size=2", "--gradient_accumulation_steps=2")


@dataclass(frozen=True)
class Case:
    kind: str
    words: tuple[str, ...]
    rows: int  # of a micro-batch, as its model sees them
    tie: Tie | None = None
    measured_steps: int = 2


CASES = (
    Case("reward", PAIRS, rows=4),
    Case("dpo", PAIRS, rows=4),
    Case("kto", PAIRS, rows=2, tie=Tie.LOSS),
    Case(
        "grpo",
        (
            "--per_device_train_batch_size=1", "--gradient_accumulation_steps=4", "--num_generations=8",
            "--max_completion_length=8", "--num_iterations=3", "--beta=0.1",
        ),
        rows=1,
        measured_steps=3,
    ),
)  # fmt: skip


def make_base(folder: Path) -> None:
    """A language model in `folder` that takes no time."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_a_trainer_of_rewards_shows_its_rows_and_is_measured(case: Case, bench: Bench) -> None:
    """Of two engines, the reference's is not the one that is watched; its config names an optimizer as well."""
    base = bench.folder / "base"
    make_base(base)
    words = ("--kind", case.kind, f"--base={base}", "--deepspeed=DS", "--output_dir=out", *WORDS, *case.words)
    outcome, facts = bench.measured(bench.spec("with_rewards.py", *words, deepspeed=WITH_OPTIMIZER))
    assert facts.rows == case.rows
    assert facts.tie is case.tie
    assert facts.generates == (case.kind == "grpo")
    assert facts.counting.asks == (Ask.TRAINER,)
    assert facts.length.trainer_steps == 50
    assert outcome.step_count == case.measured_steps
    assert outcome.tokens_per_s > 0
    assert {group.is_trained for group in facts.parameters} == {True}


def test_answers_are_generated_and_learned_from_as_under_deepspeed(tmp_path: Path) -> None:
    """Eight answers to a prompt, of micro-batches of one: no shorter step of a probe would hold them."""
    make_base(tmp_path / "base")
    (tmp_path / "ds.json").write_text(json.dumps(AUTO))
    words = (
        "--autofit-tolerance 1% --num_gpus 2 with_rewards.py --kind grpo --base base --deepspeed ds.json --bf16 True "
        "--use_cpu True --per_device_train_batch_size 1 --gradient_accumulation_steps 8 --num_generations 8 "
        "--max_completion_length 8 --max_steps 4 --logging_steps 1 --save_strategy no --report_to none --output_dir out"
    )
    shutil.copy(SCRIPTS / "with_rewards.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "autofit", *words.split()],
        cwd=tmp_path,
        env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "AUTOFIT_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trials = RunFolder(next((tmp_path / "autofit-runs").glob("with_rewards-*"))).read_trials()
    assert any(trial.strategy.micro_batch > 1 for trial in trials)
    assert all(isinstance(trial.outcome, Measured) for trial in trials), done.stderr
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"steps"')))
    assert (said["steps"], said["rows"], said["generation"]) == (4, 8, 16)
    assert said["rates"] == pytest.approx([1e-6, 0.75e-6, 0.5e-6, 0.25e-6])
    assert all(reward > 0 for reward in said["rewards"])
