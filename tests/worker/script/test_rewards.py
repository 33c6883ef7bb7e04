"""Scripts with trl's trainers of rewards and preferences, each probed as it is on two CPU ranks."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from autofit.domain.script import Ask, Tie
from tests.worker.script.bench import AUTO, MODEL, Bench

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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_a_trainer_of_rewards_shows_its_rows_and_is_measured(case: Case, bench: Bench) -> None:
    """Of two engines, the reference's is not the one that is watched; its config names an optimizer as well."""
    base = bench.folder / "base"
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
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
