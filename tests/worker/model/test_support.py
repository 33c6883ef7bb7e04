"""What a model's class lacks of checkpointing, by how it checkpoints."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from autofit.worker.model.support import lacking

CONFIG = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2)
BETWEEN = ["every-2", "selective", "offload"]


@pytest.fixture
def model() -> LlamaForCausalLM:
    with torch.device("meta"):
        return LlamaForCausalLM(CONFIG)


def lacked(model: LlamaForCausalLM) -> list[str]:
    return [one.word for one in lacking(model) if one.knob == "gradient_checkpointing"]


def test_a_model_of_transformers_has_all(model: LlamaForCausalLM) -> None:
    assert lacked(model) == []


def test_what_has_none_lacks_every_layers(model: LlamaForCausalLM) -> None:
    model.supports_gradient_checkpointing = False
    assert lacked(model) == ["on"]


def test_what_has_its_own_way_lacks_what_is_between(model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_set_gradient_checkpointing", lambda module, value=False: None, raising=False)
    assert lacked(model) == BETWEEN


def test_layers_that_are_not_told_apart_are_checkpointed_together(model: LlamaForCausalLM) -> None:
    model.model.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
    assert lacked(model) == ["every-2"]
