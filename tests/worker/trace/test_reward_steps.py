"""Traces of reward models against the CPU allocator's own peak, trl's own loss, and traces of all layers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, OPTConfig, PretrainedConfig, Qwen3MoeConfig
from trl import RewardTrainer

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.request import Lora
from autofit.domain.task import Task
from autofit.domain.trace import MicroStep, Trace
from autofit.worker.trace.micro_step_trace import trace
from autofit.worker.trace.tasks.reward import TracedReward
from tests.worker.trace.real_step import PLAIN, RealStep, peak_bytes, peak_without_states

LAYERS = 6
_SIZES = {
    "hidden_size": 128, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 320, "vocab_size": 1000, "num_labels": 1,
}  # fmt: skip
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_SIZES),
    "experts": Qwen3MoeConfig(**_SIZES, moe_intermediate_size=96, num_experts=8),
    "opt": OPTConfig(
        hidden_size=128, num_hidden_layers=LAYERS, num_attention_heads=4, ffn_dim=320, vocab_size=1000, num_labels=1,
        max_position_embeddings=256, word_embed_proj_dim=128,
    ),
    "gpt2": GPT2Config(n_embd=128, n_layer=LAYERS, n_head=4, vocab_size=1000, num_labels=1),
}  # fmt: skip
LORA, ON = Lora(8, 16, ("q_proj", "v_proj")), GradientCheckpointing.ON
REWARD = replace(PLAIN, task=Task.REWARD, disables_dropout=True)
CASES = [
    ("llama", REWARD),
    ("llama", replace(REWARD, lora=LORA, is_padded=True)),
    ("llama", replace(REWARD, gradient_checkpointing=ON, micro_batch=1)),
    ("experts", replace(REWARD, lora=LORA, gradient_checkpointing=ON)),
    ("opt", replace(REWARD, dtype=Dtype.FP32)),  # in bf16 CPU kernels of these two take memory for themselves
    ("opt", replace(REWARD, dtype=Dtype.FP32, lora=LORA)),
    ("gpt2", replace(REWARD, dtype=Dtype.FP32, is_padded=True)),
    ("gpt2", replace(REWARD, dtype=Dtype.FP32, disables_dropout=False)),
]


@cache
def told(name: str, step: MicroStep) -> Trace:
    """The trace, made once for all tests that ask for it."""
    return trace(CONFIGS[name], step)


@pytest.mark.parametrize(("name", "step"), CASES)
def test_the_allocators_peak(name: str, step: MicroStep) -> None:
    traced = told(name, step)
    assert peak_bytes(traced.moments[:-1]) == pytest.approx(peak_without_states(CONFIGS[name], step), rel=1e-2)


@pytest.mark.parametrize(("name", "step"), CASES)
def test_layers_that_are_left_out(name: str, step: MicroStep) -> None:
    assert told(name, step) == trace(CONFIGS[name], step, at_full_depth=True)


def test_no_logits_are_there_and_the_head_is_trained_with_an_adapter() -> None:
    traced = told("llama", replace(REWARD, lora=LORA))
    heads = [group for group in traced.parameters if group.element_count == 128 and group.is_trained]
    assert sum(group.tensor_count for group in heads) == 1
    assert all(group.tensor_count == 1 for group in traced.parameters if group.element_count == 128 * 1000)


class _Told(RewardTrainer):
    """trl's loss without its trainer."""

    def __init__(self, model: Any) -> None:
        self.model, self.args = model, _Anything(center_rewards_coefficient=None)
        self.accelerator = _Anything(gather=lambda one: one, gather_for_metrics=lambda one: one)
        self._metrics = {"train": _Lists(), "eval": _Lists()}
        self._total_train_tokens, self._tp_size = 0, 1


class _Anything:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


class _Lists(dict[str, list[Any]]):
    def __missing__(self, name: str) -> list[Any]:
        self[name] = []
        return self[name]


def test_the_loss_is_trls() -> None:
    real = RealStep(CONFIGS["llama"], REWARD)
    batch = {"input_ids": torch.randint(1, 1000, (4, 64)), "attention_mask": torch.ones((4, 64), dtype=torch.int64)}
    batch["input_ids"][2, 40:], batch["attention_mask"][2, 40:] = 0, 0
    real.model.config.pad_token_id = 0
    ours = TracedReward().loss(real.model, dict(batch), None)
    assert ours == _Told(real.model).compute_loss(real.model, dict(batch))
