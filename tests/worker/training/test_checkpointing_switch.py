"""Checkpointing turned off for a generation and on again."""

from __future__ import annotations

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from autofit.worker.training.checkpointing_switch import CheckpointingSwitch


@pytest.fixture
def model() -> LlamaForCausalLM:
    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=4, num_key_value_heads=1, **sizes))


def checkpointed(model: LlamaForCausalLM) -> list[bool]:
    return [layer.gradient_checkpointing for layer in model.model.layers]


def test_layers_are_checkpointed_again_as_they_were_and_no_hook_is_added(model: LlamaForCausalLM) -> None:
    CheckpointingSwitch(model)
    model.activation_checkpointing_enable(every_n_layers=2)
    hooks = len(model.get_input_embeddings()._forward_hooks)
    for _ in range(3):
        model.gradient_checkpointing_disable()
        assert checkpointed(model) == [False] * 4
        assert not model.is_gradient_checkpointing
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=None)
        assert checkpointed(model) == [True, False, True, False]
    assert len(model.get_input_embeddings()._forward_hooks) == hooks


def test_what_was_never_on_stays_off(model: LlamaForCausalLM) -> None:
    CheckpointingSwitch(model)
    model.gradient_checkpointing_disable()
    assert checkpointed(model) == [False] * 4
