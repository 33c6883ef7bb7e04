"""Generations on fake tensors: told by some layers for all, with the cache that can be counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import LlamaConfig

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.outcome import Phase
from autofit.domain.request import Lora
from autofit.domain.task import Task
from autofit.domain.trace import MicroStep, Moment
from autofit.worker.trace.micro_step_trace import trace

LAYERS, HEADS, SIZE, ROWS, TOKENS, ANSWER_TOKENS = 6, 2, 16, 32, 128, 64
CONFIG = LlamaConfig(
    hidden_size=64, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=HEADS,
    vocab_size=200,
)  # fmt: skip
STEP = MicroStep(
    None, Attention.SDPA, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CUDA, 2, TOKENS, True,
    task=Task.GRPO, completion_tokens=ANSWER_TOKENS, generated_rows=ROWS,
)  # fmt: skip


def generation(step: MicroStep, layers: int = LAYERS, *, at_full_depth: bool = False) -> list[Moment]:
    config = LlamaConfig(**{**CONFIG.to_dict(), "num_hidden_layers": layers})
    moments = trace(config, step, at_full_depth=at_full_depth).moments
    return [moment for moment in moments if moment.phase is Phase.GENERATE]


@pytest.mark.parametrize("checkpointing", [GradientCheckpointing.OFF, GradientCheckpointing.ON])
@pytest.mark.parametrize("lora", [None, Lora(r=4)])
def test_some_layers_tell_what_all_hold(lora: Lora | None, checkpointing: GradientCheckpointing) -> None:
    step = replace(STEP, lora=lora, gradient_checkpointing=checkpointing)
    assert generation(step) == generation(step, at_full_depth=True)


def test_each_layer_adds_its_keys_and_values_to_the_last_tokens_pass() -> None:
    shallow, deep = generation(STEP, 5), generation(STEP, 6)
    cached = TOKENS - 1  # the last token goes through no pass
    assert deep[1].activations_bytes - shallow[1].activations_bytes == 2 * HEADS * SIZE * 2 * ROWS * cached


def test_the_passes_of_an_answer_compute_what_its_tokens_do() -> None:
    """Prompts are as many tokens as answers have, of which the last goes through no pass: but for the head and
    attention the same products."""
    prompts, answers = generation(STEP)
    linear = 2 * LAYERS * (2 * 64 * 64 + 2 * 64 * HEADS * SIZE + 3 * 64 * 96)
    assert answers.work.matmul_flop > linear * ROWS * (ANSWER_TOKENS - 1)
    assert answers.work.kernel_count > 30 * prompts.work.kernel_count
